"""Daily summaries and events of states (SPEC 4.11, 4.2.3) of meters in a zone whose clock is changed in these days, over kills of the agent at
random moments and an outage of the broker: each day of each meter once, right by the hours and runs of its database, and each change of state
once. Also: `nilmctl report` in the same zone, and status of a recording that fails."""
import collections
import datetime
import json
import os
import random
import time
import zoneinfo

import schema
from harness import Subscriber, World, check, done, sequence_report, skip, wait_for

ZONE = "Europe/Berlin"
try:
    zone = zoneinfo.ZoneInfo(ZONE)
except zoneinfo.ZoneInfoNotFoundError:
    skip("this system has no zone data")
SEED = int(os.environ.get("NILM_SEED", random.randrange(1 << 30)))
KILLS = 9
print(f"NILM_SEED={SEED}")
chance = random.Random(SEED)
# on Friday noon; the clock goes on in the night to Sunday, the 29th
METERS = {"fridge": {"type": "sim", "appliance": "Refrigerator"},
          "press": {"type": "sim", "appliance": "Washingmachine", "seed": 5, "states": "30,1000", "state_events": "yes", "record": "/proc/no/such/folder"},
          "house": {"type": "sim", "kind": "mains", "appliance": "Refrigerator WaterKettle Dishwasher"}}
for keys in METERS.values():
    keys.update(start="2026-03-27T11:00:00Z", speed=28800)


def midnight(text):
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def day_after(text):
    return (datetime.date.fromisoformat(text) + datetime.timedelta(days=1)).isoformat()


with World() as world:
    ear = Subscriber(world)
    mains = os.path.join(os.path.dirname(world.model), "mains-pruned-int8.nilm")
    agent = world.agent("gw", METERS, extra=f"mains_file = {mains}\n[report]\ndaily_summary = yes\nprice = 0.3\ntariff = 22:00-06:00 0.2")
    with open(agent.config) as f:
        config = f.read()
    with open(agent.config, "w") as f:
        f.write(config.replace("[device]\n", f"[device]\ntimezone = {ZONE}\n"))
    agent.start()

    def summaries():
        return {s["seq"]: s for s in ear.items("summary")}.values()

    def told():
        return {(s["meter"], s["day"]) for s in summaries()}

    wanted = {(m, d) for m in METERS for d in ("2026-03-27", "2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31", "2026-04-01")}
    recording = wait_for(lambda: [m["recording"] for m in (ear.last("status") or {}).get("meters", []) if m["name"] == "press" and m["recording"]["state"] == "failing"], 30)
    check(recording and recording[0]["dropped"] > 0, f"status tells of the recording: {recording}")
    shown = agent.ctl("status").stdout
    check("recording of press: CANNOT BE WRITTEN" in shown, "and nilmctl status")
    kills, out = 0, 0
    while kills < KILLS:
        time.sleep(chance.uniform(0.2, 3))
        agent.kill()
        kills += 1
        if kills == 3:
            world.broker.kill()
            out = time.monotonic()
        agent.start()
        if out and time.monotonic() - out > 4:
            world.broker.start()
            out = 0
    if out:
        world.broker.start()
    check(wait_for(lambda: wanted <= told(), 60, 0.5), f"each day of each meter was told, over {kills} kills and an outage: missing {sorted(wanted - told())}")
    agent.stop()
    check(wait_for(lambda: (ear.last("status") or {}).get("state") == "stopped", 20), "the agent has ended")
    time.sleep(0.5)
    times = collections.Counter((s["meter"], s["day"]) for s in summaries())
    check(set(times.values()) == {1}, f"each once: {[k for k, n in times.items() if n > 1]}")
    missing, conflicts, _ = sequence_report(ear.items())
    check(not missing and not conflicts, f"no number is missing ({missing[:5]})")

    def by_name(runs):
        """Runs, energy and seconds of each name; loads that have no name may have got a number since."""
        sums = {}
        for name, *figures in runs:
            name = "unknown" if name.startswith("unknown") else name
            sums[name] = [a + b for a, b in zip(sums.get(name, [0, 0, 0]), figures)]
        return sums

    for s in summaries():
        if (s["meter"], s["day"]) not in wanted:
            continue
        name, start, end = f"{s['meter']} {s['day']}", midnight(s["day"]), midnight(day_after(s["day"]))
        check((s["from"], s["to"]) == (start, end), f"{name}: {(end - start) / 3600e3:.0f} h")
        rows = agent.database(f"SELECT wh, seen_s FROM energy WHERE meter = '{s['meter']}' AND start_ms >= {start} AND start_ms < {end}")
        check(abs(sum(r[0] for r in rows) - s["energy"]) < 0.01 and sum(r[1] for r in rows) == s["seen"], f"{name}: {s['energy']} Wh in {s['seen'] / 3600:.2f} h are what its hours say")
        runs = agent.database(f"SELECT appliance, count(*), sum(energy_wh), sum(end_ms - start_ms) FROM run WHERE meter = '{s['meter']}' AND end_ms >= {start} AND end_ms < {end} GROUP BY 1")
        stored = by_name((r[0], r[1], r[2], r[3] / 1e3) for r in runs)
        said = by_name((a["appliance"], a["runs"], a["energy"], a["run_time"]) for a in s["appliances"])
        equal = set(stored) == set(said) and all(abs(a - b) < 0.02 for n in stored for a, b in zip(stored[n], said[n]))
        check(equal, f"{name}: runs {said}" + ("" if equal else f", stored {stored}"))
    hours = {s["day"]: (s["to"] - s["from"]) / 3600e3 for s in summaries()}
    check(hours["2026-03-29"] == 23 and hours["2026-03-28"] == 24, "the day of the change has 23 hours")

    report = json.loads(agent.ctl("report", "--from", "2026-03-29", "--to", "2026-03-30", "--json").stdout)
    house = [s for s in summaries() if (s["meter"], s["day"]) == ("house", "2026-03-29")][0]
    check((report["from"], report["to"]) == (house["from"], house["to"]), "nilmctl report understands dates in the same zone")
    check([d["day"] for d in report["days"]] == ["2026-03-29"], "and counts days in it")
    for key in ("energy", "base_energy", "cost"):
        check(abs(report[key] - house[key]) < 0.01, f"{key}: {report[key]} in both")

    states = sorted({e["seq"]: e for e in ear.items("event") if e["type"] == "state"}.values(), key=lambda e: e["seq"])
    check(len(states) > 8 and {e["meter"] for e in states} == {"press"}, f"{len(states)} changes of state")
    check(states and states[0]["from"] == "off" and all(a["state"] == b["from"] and a["time"] < b["time"] for a, b in zip(states, states[1:])), "they are one chain, in order")
    check(all(abs((b["time"] - a["time"]) / 1e3 - b["duration"]) < 0.001 for a, b in zip(states, states[1:])), "each tells how long the state before was")
    problems = []
    for topic, payload in list(ear.messages):
        try:
            schema.validate(topic, payload)
        except schema.Invalid as error:
            problems.append(str(error))
    check(not problems, f"payloads fit their schemas {problems[:2]}")
done()
