"""Real days, end to end: one agent replays the day files of the sample through a TLS broker that is killed twice. The
subscriber ends with every sequence number once, no hole, every payload valid; events agree with the true switchings;
nothing that crosses the network is plain MQTT or a power series."""
import json
import os
import random
import time

import schema
import truth
from harness import Recorder, Subscriber, World, check, data_folder, done, sequence_report, wait_for

data = data_folder()
# NILM_DAYS: a list of other days to replay, lines of class, tab, path (nilm-model eval --files prints one).
if os.environ.get("NILM_DAYS"):
    files = [tuple(line.rstrip("\n").split("\t")) for line in open(os.environ["NILM_DAYS"])][:64]
else:
    files = truth.sample_files(data)
DAY_S, SPEED = 86400, 2400
seed = int(os.environ.get("NILM_SEED", random.randrange(1 << 30)))
random.seed(seed)
print(f"seed {seed}; {len(files)} day files of {len({c for c, _ in files})} classes")


def meters():
    return {f"m{i:02d}": {"type": "replay", "files": path, "speed": SPEED} for i, (_, path) in enumerate(files)}


def check_agreement(events):
    matched = true_count = found_count = 0
    for i, (name, path) in enumerate(files):
        mine = [e for e in events if e["meter"] == f"m{i:02d}"]
        found = [(e["time"] / 1000, e["type"]) for e in mine if e["type"] in ("on", "off")]
        true = truth.switchings(truth.read_tracebase(path))
        n = truth.match(true, found)
        matched, true_count, found_count = matched + n, true_count + len(true), found_count + len(found)
        if n < 0.95 * max(len(true), len(found)):
            print(f"      {name} {os.path.basename(path)}: {len(true)} true, {len(found)} found, {n} agree")
    check(true_count > 200 and matched >= 0.95 * true_count and matched >= 0.95 * found_count,
          f"events agree with the true switchings: {matched} of {true_count} true, {found_count} found")


def report_energy(events):
    total = right = 0.0
    for e in events:
        if e["type"] == "off":
            total += e["energy"]
            right += e["energy"] if e["appliance"] == files[int(e["meter"][1:])][0] else 0
    print(f"energy attributed to the right class: {right:.0f} of {total:.0f} Wh, {100 * right / total:.1f} %")
    check(total > 0 and right > 0.5 * total, "more than half of the energy has the right name")


def check_network(recorder, subscriber, readings):
    for side, data_seen in recorder.bytes.items():
        plain = [w for w in (b"MQTT", b"nilm/v1", b"appliance", b"energy") if w in data_seen]
        check(len(data_seen) > 10000 and not plain, f"{len(data_seen)} bytes {side} on the wire, no plain text {plain}")
    check(recorder.bytes["up"][:2] == b"\x16\x03", "the stream begins with a TLS handshake record")
    problems = [p for p in (problem(t, b) for t, b in subscriber.messages) if p]
    check(not problems, f"{len(subscriber.messages)} payloads are valid by their schemas {problems[:3]}")
    numbers = [m for t, m in subscriber.messages if series(json.loads(m))]
    check(not numbers, "no payload has a list of numbers")
    check(len(subscriber.messages) < readings / 50, f"{len(subscriber.messages)} messages for {readings} readings")


def problem(topic, payload):
    try:
        schema.validate(topic, payload)
    except schema.Invalid as error:
        return str(error)


def series(value):
    if isinstance(value, list):
        return sum(isinstance(v, (int, float)) for v in value) > 2 or any(series(v) for v in value)
    return isinstance(value, dict) and any(series(v) for v in value.values())


with World() as world:
    recorder = Recorder(world.broker.port)
    subscriber = Subscriber(world)
    agent = world.agent("gateway", meters(), port=recorder.port)
    agent.start("--exit-when-done", "--drain-timeout", "120")
    peak = 0
    for _ in range(2):
        time.sleep(random.uniform(3, 6))
        peak = max(peak, agent.rss_kib())
        world.broker.kill()
        before = len(subscriber.messages)
        time.sleep(random.uniform(2, 4))
        world.broker.start()
        wait_for(lambda: len(subscriber.messages) > before, 30)
    code = agent.wait(300)
    check(code == 0, f"the agent ended by itself when all was replayed and acknowledged: exit code {code}")
    time.sleep(2)
    items = subscriber.items()
    missing, conflicts, count = sequence_report(items)
    check(not missing and not conflicts and count > 200,
          f"{count} sequence numbers, each there ({len(items) - count} duplicates by id), missing {missing[:10]}")
    left = agent.database("select count(*) from outbox")
    check(left == [(0,)], f"the outbox is empty at the end {left}")
    events = list({e["id"]: e for e in subscriber.items("event")}.values())
    check_agreement(events)
    report_energy(events)
    check_network(recorder, subscriber, sum(1 for _, p in files for _ in open(p)))
    print(f"resident memory with {len(files)} meters: {peak / 1024:.1f} MB")
done()
