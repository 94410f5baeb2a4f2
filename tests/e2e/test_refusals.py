"""A broker that refuses messages for good: by its access rules, by their size. They are parked with the reason, the others are not held up, and
the operator offers them again when the broker is mended. Under MQTT 3.1.1 the same broker says nothing: shown, because SPEC 6.8 warns of it."""
import json
import os
import signal

from harness import BASE, Broker, Subscriber, World, check, done, wait_for

# With 0 (no limit), as elsewhere in these tests, Mosquitto 2.0.11 ends a session behind each refusal.
QUEUE = "max_queued_messages 100000\n"
METERS = {name: {"type": "sim", "appliance": "refrigerator", "speed": "max", "days": 2, "start": "2026-01-05", "seed": 3}
          for name in ("allowed", "forbidden")}


def outbox(agent, *options):
    result = agent.ctl("outbox", "--json", *options)
    if result.returncode:  # the database is being made
        return {"acknowledged": 0, "rows": -1, "parked": 0}
    return json.loads(result.stdout)


def rules(broker, names):
    with open(os.path.join(broker.folder, "acl"), "w") as f:
        f.write("user sub\ntopic read #\n")
        for name in names:
            f.write(f"user {name}\ntopic read {BASE}/{name}/#\ntopic write {BASE}/{name}/event/allowed\ntopic write {BASE}/{name}/alert/+\n"
                    f"topic write {BASE}/{name}/status\ntopic write {BASE}/{name}/model\n")
    os.chmod(broker.folder, 0o755)


def run(world, broker, name, protocol):
    agent = world.agent(name, METERS, f"[broker]\nprotocol = {protocol}")
    agent.start()
    counts = wait_for(lambda: (lambda s: s if s["acknowledged"] > 0 and s["rows"] == s["parked"] else None)(outbox(agent)), 30, 0.5)
    check(counts, f"{name}: nothing waits but what was refused: {counts or outbox(agent)}")
    return agent, counts


def of_meter(sub, device, meter):
    return [json.loads(p) for t, p in sub.messages if t == f"{BASE}/{device}/event/{meter}"]


with World() as w:
    w.broker.kill()
    w.broker = Broker(os.path.join(w.folder, "strict"), w.pki, f"acl_file {w.folder}/strict/acl\n" + QUEUE)
    rules(w.broker, ["gw5", "gw4"])
    w.broker.start()
    sub = Subscriber(w, "sub")
    agent, counts = run(w, w.broker, "gw5", "5")
    allowed, total = len(of_meter(sub, "gw5", "allowed")), agent.database("SELECT next_seq - 1 FROM outbox_state")[0][0]
    refused = outbox(agent, "--refused", "1000")["refused"]
    check(counts["parked"] == len(refused) > 0 and allowed == total - len(refused), f"of {total} items {allowed} arrived, {len(refused)} are parked: none is lost, none held up")
    check(all("not authorised" in r["reason"] and r["channel"] == "forbidden" for r in refused), f"with the reason: {refused[0]['reason']}")
    text = agent.ctl("outbox", "--refused", "1").stdout
    check("forbidden" in text and "not authorised" in text, f"nilmctl shows it: {text.strip().splitlines()[-1]}")

    with open(os.path.join(w.broker.folder, "acl"), "a") as f:
        f.write(f"user gw5\ntopic write {BASE}/gw5/event/forbidden\n")
    w.broker.process.send_signal(signal.SIGHUP)
    check(outbox(agent, "--unpark")["unparked"] == len(refused), "the rules are mended: all are offered again")
    agent.process.send_signal(signal.SIGHUP)
    check(wait_for(lambda: outbox(agent)["rows"] == 0, 30, 0.5), "and leave the outbox after SIGHUP")
    check(wait_for(lambda: len({i["id"] for i in of_meter(sub, "gw5", "forbidden")}) == len(refused), 10), "all of them arrived")
    agent.stop()

    agent, counts = run(w, w.broker, "gw4", "3.1.1")
    check(counts["parked"] == 0 and not of_meter(sub, "gw4", "forbidden"),
          f"MQTT 3.1.1: {counts['acknowledged']} acknowledged, those of the forbidden topic among them, and dropped by the broker in silence")
    agent.stop()

    w.broker.kill()
    w.broker = Broker(os.path.join(w.folder, "small"), w.pki, "message_size_limit 300\n" + QUEUE)
    w.broker.start()
    sub = Subscriber(w, "sub2")
    agent, counts = run(w, w.broker, "gwsmall", "5")
    refused = outbox(agent, "--refused", "1000")["refused"]
    check(len(refused) > 0 and all("larger than the broker allows" in r["reason"] or "too large" in r["reason"] for r in refused),
          f"a broker that takes at most 300 bytes: {len(refused)} of {counts['rows'] + counts['acknowledged']} are parked: {refused and refused[0]['reason']}")
    check(len({i["id"] for i in sub.items()}) == counts["acknowledged"], f"the other {counts['acknowledged']} arrived")
done()
