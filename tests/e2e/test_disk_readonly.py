#!/usr/bin/python3
"""A real ext4 that the kernel makes read-only under a running agent (errors=remount-ro, as cards do when they die): the
meters go on, the status says so; the disk is repaired and mounted again, the agent is started again, and every event comes
once. Needs root and loop devices; skipped elsewhere."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Subscriber, World, check, done, run, sequence_report, skip, wait_for  # noqa: E402
from loopdisk import LoopDisk, enter  # noqa: E402

RUNS, SPEED = 300, 2000  # 18 s of two minutes each


def write_trace(path):
    t = 1_704_067_200_000
    with open(path, "w") as f:
        for _ in range(RUNS):
            for watts in [120] * 6 + [0] * 6:
                f.write(f"{t},{watts}\n")
                t += 10_000


def status(agent):
    answer = agent.ctl("status", "--json")
    return json.loads(answer.stdout) if answer.returncode == 0 else {"meters": [{}], "store": {}}


def samples(agent):
    return status(agent)["meters"][0].get("samples", 0)


def off_events(subscriber):
    return {i["start"]: i["seq"] for i in subscriber.items("event") if i["type"] == "off"}


def becomes_read_only(agent, subscriber, disk):
    check(wait_for(lambda: len(off_events(subscriber)) >= 20, 20, 0.2), "events arrive while the disk is well")
    refused = run("mount", "-o", "remount,ro", agent.data)
    check(refused.returncode != 0, "while files are open, only the kernel itself can make it read-only")
    trigger = f"/sys/fs/ext4/{os.path.basename(disk.device)}/trigger_fs_error"
    if not os.path.exists(trigger):
        skip("this kernel has no trigger_fs_error")
    with open(trigger, "w") as f:
        f.write("1")
    try:
        open(os.path.join(agent.data, "probe"), "w").close()
        check(False, "the disk is read-only")
    except OSError as e:
        check(True, f"the disk is read-only: {e.strerror}")
    before = samples(agent)
    check(wait_for(lambda: status(agent)["store"].get("state") == "refusing", 10, 0.2), "status: the disk refuses")
    check(wait_for(lambda: (subscriber.last("status") or {}).get("store", {}).get("state") == "refusing", 15, 0.2),
          "the retained status says so")
    check(wait_for(lambda: samples(agent) > before + 50, 10, 0.2), "readings are taken")
    s = status(agent)["store"]
    check(s["waiting"] > 0 and s["lost"] == 0 and agent.process.poll() is None, f"what is detected waits: {s}")


def comes_back(agent, subscriber, disk):
    agent.stop()
    check(disk.unmount(), "the agent has ended and let go of the disk")
    check(run("e2fsck", "-fy", disk.device).returncode in (0, 1), "the disk is repaired")
    check(disk.mount(), "and mounted")
    agent.start()
    check(wait_for(lambda: len(off_events(subscriber)) >= RUNS, 30, 0.3), f"all {RUNS} runs have come")
    check(status(agent)["store"] == {"state": "ok", "waiting": 0, "lost": 0}, "status: the store is ok")
    check(agent.stop() == 0, "the agent ends in good order")


def main():
    enter("mkfs.ext4", "e2fsck")
    with World() as world:
        trace = os.path.join(world.folder, "trace.csv")
        write_trace(trace)
        agent = world.agent("gw", {"m": {"type": "replay", "files": trace, "speed": SPEED, "min_off": "10s"}})
        image = os.path.join(world.folder, "disk.img")
        with LoopDisk(image, 32, ("mkfs.ext4", "-q"), agent.data, "errors=remount-ro") as disk:
            subscriber = Subscriber(world)
            agent.start()
            becomes_read_only(agent, subscriber, disk)
            comes_back(agent, subscriber, disk)
        missing, conflicts, count = sequence_report(subscriber.items())
        check(conflicts == 0 and not missing, f"{count} numbers, none missing ({missing[:10]}), none with two contents")
        offs = [i["seq"] for i in subscriber.items("event") if i["type"] == "off"]
        check(len(set(offs)) == RUNS, f"each run ended once ({len(set(offs))} numbers)")
    done()


main()
