"""SIGKILL of the agent, ten times at random moments of a replay, on real days. No event that was committed before a kill is
missing at the subscriber, the sequence has no hole, and all in all the same switchings are reported as by an agent that
nobody killed."""
import os
import random
import time

import truth
from harness import Subscriber, World, check, data_folder, done, sequence_report, wait_for

data = data_folder()
files = truth.sample_files(data, per_class=1)
seed = int(os.environ.get("NILM_SEED", random.randrange(1 << 30)))
random.seed(seed)
print(f"seed {seed}; {len(files)} day files")
KILLS = 10


def meters(speed):
    return {f"m{i:02d}": {"type": "replay", "files": path, "speed": speed} for i, (_, path) in enumerate(files)}


def switchings(events):
    return sorted((e["meter"], e["type"], e["time"], round(e.get("energy", 0), 1))
                  for e in {e["id"]: e for e in events}.values() if e["type"] in ("on", "off"))


with World() as world:
    calm_ear = Subscriber(world, "ear-calm", "nilm/v1/calm/#")
    calm = world.agent("calm", meters("max"))
    calm.start("--exit-when-done", "--drain-timeout", "60")
    check(calm.wait(120) == 0, "the reference run ends")

    ear = Subscriber(world, "ear-killed", "nilm/v1/killed/#")
    agent = world.agent("killed", meters(2400))
    committed, pending = 0, set()
    for _ in range(KILLS):
        agent.start("--exit-when-done", "--drain-timeout", "60")
        time.sleep(random.uniform(0.5, 4))
        if agent.process.poll() is not None:
            break
        agent.kill()
        rows = agent.database("select seq from outbox") if os.path.exists(agent.data + "/nilmd.db") else []
        pending |= {row[0] for row in rows}
        committed = max([committed] + [row[0] for row in rows])
    else:
        check(True, f"killed {KILLS} times; {len(pending)} items were committed and unsent at the moment of a kill")
    agent.start("--exit-when-done", "--drain-timeout", "60")
    check(agent.wait(200) == 0, "the last start ends by itself")
    time.sleep(2)
    missing, conflicts, count = sequence_report(ear.items())
    seen = {item["seq"] for item in ear.items()}
    check(pending <= seen, f"every item committed before a kill has arrived, missing {sorted(pending - seen)[:10]}")
    check(not missing and not conflicts, f"{count} sequence numbers without a hole, missing {missing[:10]}")
    check(len({item["epoch"] for item in ear.items()}) > 3, "items of several boot epochs arrived")
    reference, found = switchings(calm_ear.items("event")), switchings(ear.items("event"))
    check(len(reference) > 50 and reference == found,
          f"the same {len(reference)} switchings with the same energies as without kills ({len(found)}); "
          f"differences {sorted(set(reference) ^ set(found))[:6]}")
done()
