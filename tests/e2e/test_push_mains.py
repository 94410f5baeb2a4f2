"""Models of both kinds on one gateway: a mains bundle pushed through the broker into a running agent takes over without touching the circuits'
model, is named everywhere by its family, is rolled back by a command, and stays over a restart (SPEC 4.6 to 4.9, 7.6)."""
import json
import os
import time

import schema
from harness import BASE, MODELS, NILM_MODEL, NILMCTL, Subscriber, World, check, done, run, wait_for

FULL, PRUNED = (os.path.join(MODELS, f"mains-{kind}int8.nilm") for kind in ("", "pruned-"))


def bundle(world, model, version):
    path = os.path.join(world.folder, f"mains-{version}")
    for argv in (("pack", "--model", model, "--version", version, "--name", f"mains {version}", "--out", path), ("sign", "--bundle", path, "--key", world.sign_key)):
        result = run(NILM_MODEL, *argv)
        check(result.returncode == 0, f"{argv[0]} version {version}{result.stderr}")
    return path


with World() as world:
    ear = Subscriber(world)
    cert, key = world.pki.issue("operator")
    broker = ["--broker", f"mqtts://127.0.0.1:{world.broker.port}", "--ca", world.pki.ca, "--cert", cert, "--key", key]
    agent = world.agent("gw", {"fridge": {"type": "sim", "appliance": "Refrigerator", "start": "2026-03-02", "speed": 600},
                               "house": {"type": "sim", "kind": "mains", "appliance": "Refrigerator WaterKettle Dishwasher", "start": "2026-03-02", "speed": 600}},
                        extra=f"mains_file = {FULL}")
    agent.start()

    def status():
        return json.loads(agent.ctl("status", "--json").stdout)

    def models():
        return json.loads(agent.ctl("models", "--json").stdout)

    def command(**members):
        """Over MQTT; the reply."""
        members["id"] = str(time.monotonic())
        schema.check("command", json.dumps(members).encode())
        run("mosquitto_pub", "-h", "127.0.0.1", "-p", world.broker.port, "--cafile", world.pki.ca, "--cert", cert, "--key", key, "-q", "1",
            "-t", f"{BASE}/gw/command", "-m", json.dumps(members))
        found = wait_for(lambda: [r for r in [ear.last("reply")] if r and r["id"] == members["id"]], 15)
        return found[0] if found else {}

    def push(path):
        result = run(NILMCTL, "push", "--bundle", path, "--device", "gw", *broker, "--wait", 20, timeout=60)
        return check(result.returncode == 0, f"push {os.path.basename(path)}: {result.stdout.splitlines()[-1:]} {result.stderr}")

    check(wait_for(lambda: agent.ctl("status").returncode == 0, 20), "the agent runs")
    s, m = status(), models()
    circuits = s["model"]
    check(circuits["family"] == "identify" and s["mains_model"]["family"] == "mains", f"status has both: {circuits}, {s['mains_model']}")
    check((m["active"], m["mains_active"]) == ("file", "file") and [(x["kind"], x["family"]) for x in m["models"]] == [("circuit", "identify"), ("mains", "mains")],
          f"models has both: {[(x['kind'], x['place'], x['family'], x['version']) for x in m['models']]}")
    shown = agent.ctl("status").stdout
    check("model: identify version" in shown and "model of the mains: mains version" in shown, "and as text")

    found = [f for f in json.loads(agent.ctl("doctor", "--json").stdout)["findings"] if f["check"] == "model"]
    check([f["level"] for f in found] == ["ok", "ok"] and "mains version" in found[1]["message"], f"doctor proves both: {[f['message'] for f in found]}")

    push(bundle(world, PRUNED, 7))
    check(ear.last("model")["family"] == "mains" and ear.last("model")["version"] == 7, f"BASE/gw/model: {ear.last('model')}")
    check(status()["mains_model"]["version"] == 7 and status()["model"] == circuits, "it runs, and the circuits' model is the same")
    check(wait_for(lambda: [e for e in ear.items("event") if e["meter"] == "house" and e["model"] == 7], 90), "events of the mains meter name it")
    check(not [e for e in ear.items("event") if e["meter"] == "fridge" and e["model"] == 7], "those of the circuit do not")
    refused = command(command="rollback", family="mains")
    check(refused.get("ok") is False and "no previous" in refused.get("error", ""), f"a model from a file is no slot to return to: {refused.get('error')}")
    push(bundle(world, FULL, 8))
    check(command(command="models")["result"]["mains"]["slots"]["previous_version"] == 7, "both slots hold one")

    back = command(command="rollback", family="mains")
    check(back.get("ok") and back["result"]["family"] == "mains" and back["result"]["version"] == 7, f"rolled back: {back}")
    check(status()["mains_model"]["version"] == 7 and status()["model"] == circuits, "the circuits' model still is the same")
    reports = wait_for(lambda: len(ear.items("report")) >= 3 and ear.items("report"), 10) or []
    check([(r["state"], r["family"], r["version"]) for r in reports] == [("active", "mains", 7), ("active", "mains", 8), ("rolled_back", "mains", 7)], "durable reports name the family")
    other = command(command="rollback", family="toasters")
    check(other.get("ok") is False and "family" in other.get("error", ""), f"a family that no meter has: {other.get('error')}")
    mine = agent.ctl("rollback")
    check(mine.returncode == 2 and "no previous" in mine.stderr, f"without a family the circuits': {mine.stderr.strip()}")

    push(bundle(world, PRUNED, 9))
    mine = agent.ctl("rollback", "--family", "mains")
    check(mine.returncode == 0 and mine.stdout == "mains version 7 runs\n", f"nilmctl rollback: {mine.stdout}{mine.stderr}")
    agent.stop()
    agent.start()
    check(wait_for(lambda: agent.ctl("status").returncode == 0, 20) and status()["mains_model"]["version"] == 7 and status()["model"] == circuits, "a restart goes on with it")
    m = models()
    check(m["mains_active"] == "slot" and m["active"] == "file", f"models: {[(x['kind'], x['place'], x['role'], x['version']) for x in m['models']]}")
    problems = []
    for topic, payload in list(ear.messages):
        try:
            if not topic.endswith("/command") and payload:
                schema.validate(topic, payload)
        except schema.Invalid as error:
            problems.append(str(error))
    check(not problems, f"payloads fit their schemas {problems[:2]}")
    agent.stop()
done()
