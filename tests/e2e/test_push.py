"""Model push while the agent runs: each bad bundle is refused with its reason and the old model goes on; the good one takes over
between two samples, and the meter's stream of samples has no hole: as many as with an agent that got no push."""
import hashlib
import json
import os
import struct
import zlib

import truth
from harness import MODELS, NILM_MODEL, NILMCTL, Subscriber, World, check, data_folder, done, run, wait_for

data = data_folder()
PRUNED = os.path.join(MODELS, "identify-pruned-int8.nilm")
SPEED = 2400
fridge, washer = (truth.sample_files(data, {name})[0][1] for name in ("Refrigerator", "Washingmachine"))
METERS = {"fridge": {"type": "replay", "files": fridge, "speed": SPEED},
          "washer": {"type": "replay", "files": washer, "speed": SPEED}}


def tool(*argv):
    result = run(NILM_MODEL, *argv)
    if result.returncode:
        raise RuntimeError(f"nilm-model {argv[0]}: {result.stderr}")


def bundle(world, name, version, key=None, edit=None):
    """Packs and signs the pruned model; edit changes the bytes of the model inside before signing."""
    path = os.path.join(world.folder, name)
    tool("pack", "--model", PRUNED, "--version", version, "--name", name, "--out", path)
    if edit:
        raw = open(path, "rb").read()
        manifest, model = struct.unpack_from("<II", raw, 8)
        changed = edit(raw[36 + manifest:36 + manifest + model])
        old, new = (hashlib.sha256(m).hexdigest().encode()
                    for m in (raw[36 + manifest:36 + manifest + model], changed))
        head = raw[:36 + manifest]
        assert head.count(old) == 1 and len(changed) == model
        open(path, "wb").write(head.replace(old, new) + changed)
    tool("sign", "--bundle", path, "--key", key or world.sign_key)
    return path


def other_golden(model):
    """The model file with one golden logit changed, its checksum right (SPEC 1.2, 1.3, 1.9)."""
    model = bytearray(model)
    for i in range(7):
        tag, offset, length, _ = struct.unpack_from("<4sIII", model, 32 + 16 * i)
        if tag == b"GOLD":
            logit = struct.unpack_from("<f", model, offset + length - 4)[0]
            struct.pack_into("<f", model, offset + length - 4, logit + 0.25)
    struct.pack_into("<I", model, 12, zlib.crc32(model[16:]))
    return bytes(model)


def changed_file(path, change):
    raw = bytearray(open(path, "rb").read())
    raw = change(raw) or raw
    open(path + ".bad", "wb").write(raw)
    return path + ".bad"


def flip(raw):
    raw[len(raw) // 2] ^= 1


def push(path, cert, key, seconds=20):
    return run(NILMCTL, "push", "--bundle", path, "--device", "gw", "--broker", f"mqtts://127.0.0.1:{world.broker.port}",
               "--ca", world.pki.ca, "--cert", cert, "--key", key, "--wait", seconds, timeout=60)


def publish(path, cert, key):
    """Past nilmctl's own checks, straight to the topic."""
    return run("mosquitto_pub", "-h", "127.0.0.1", "-p", world.broker.port, "--cafile", world.pki.ca, "--cert", cert,
               "--key", key, "-q", "1", "-t", "nilm/v1/gw/push", "-f", path)


with World() as world:
    ear = Subscriber(world)
    operator = world.pki.issue("operator")
    quiet, agent = world.agent("quiet", METERS), world.agent("gw", METERS)
    foreign = world.key_pair("foreign", world.folder)
    good = bundle(world, "pruned", 7)
    bad = {
        "one flipped bit": changed_file(good, flip),
        "a foreign key": bundle(world, "foreign.bundle", 8, key=foreign),
        "an older version": bundle(world, "older.bundle", 1),
        "a truncated body": (lambda p: changed_file(p, lambda raw: raw[:len(raw) * 2 // 3]))(bundle(world, "cut.bundle", 9)),
        "golden vectors that do not reproduce": bundle(world, "golden.bundle", 10, edit=other_golden),
        "binary garbage": os.path.join(world.folder, "garbage"),
    }
    open(bad["binary garbage"], "wb").write(os.urandom(5000))
    quiet.start("--exit-when-done", "--drain-timeout", "60")
    agent.start("--exit-when-done", "--drain-timeout", "60")
    wait_for(lambda: len({t for t, _ in ear.messages if t.endswith("/status")}) == 2, 20)

    for name, path in bad.items():
        ear.messages[:] = [m for m in ear.messages if not m[0].endswith("gw/model")]
        publish(path, *operator)
        state = wait_for(lambda: [m for m in [ear.last("model")] if m and m["state"] == "refused"], 15)
        check(state and state[0].get("reason"), f"{name}: refused: {state and state[0].get('reason')}")
    check(agent.process.poll() is None, "the agent still runs")
    result = push(good, *operator)
    check(result.returncode == 0, f"the good bundle is active: {result.stdout.splitlines()[-1:]} {result.stderr}")
    again = push(good, *operator)
    check(again.returncode == 0, "the same bundle again is active and nothing happens")
    publish(bundle(world, "down.bundle", 6), *operator)
    state = wait_for(lambda: [m for m in [ear.last("model")] if m and m["state"] == "refused"], 15)
    check(state and "version" in state[0]["reason"], f"an older version than the pushed one: {state and state[0]['reason']}")

    check(agent.wait(120) == 0 and quiet.wait(120) == 0, "both agents end by themselves")
    wait_for(lambda: len([1 for t, m in ear.messages if t.endswith("/status") and b"stopped" in m]) == 2, 10)
    final = {json.loads(m)["device"]: json.loads(m) for t, m in ear.messages if t.endswith("/status") and b"stopped" in m}
    samples = {d: [(m["name"], m["samples"]) for m in s["meters"]] for d, s in final.items()}
    check(samples.get("gw") == samples.get("quiet") and samples, f"no sample was lost at the swap: {samples}")
    check(final["gw"]["model"]["version"] == 7, f"the model at the end: {final['gw']['model']}")
    events = {e["id"]: e for e in ear.items("event") if e["device"] == "gw"}.values()
    check({e["model"] for e in events} >= {7}, f"events name the model: versions {sorted({e['model'] for e in events})}")
    times = {d: sorted((e["meter"], e["type"], e["time"]) for e in ear.items("event")
                       if e["device"] == d and e["type"] != "identified") for d in ("gw", "quiet")}
    check(times["gw"] == times["quiet"], f"the same {len(times['gw'])} switchings with and without a push")
    reports = [r for r in ear.items("report") if r["device"] == "gw"]
    check([r["state"] for r in reports].count("active") == 1 and len(reports) >= len(bad),
          f"durable reports: {[r['state'] for r in reports]}")
done()
