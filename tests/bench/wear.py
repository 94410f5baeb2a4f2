#!/usr/bin/python3
"""wear.py [--disk FOLDER] [--events N] [--idle SECONDS] - what nilmd writes to storage for each event and in an idle day.

One agent with a broker (TLS), its data on a disk. N events come one by one, each stored, sent, acknowledged and deleted before
the next (the worst case: nothing is batched); then nothing happens for some time but a reading every second. The
kernel counts (write_bytes of /proc/PID/io); NILM_BUILD names the build folder."""
import argparse
import json
import os
import re
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from harness import World, wait_for  # noqa: E402


def written(agent):
    with open(f"/proc/{agent.process.pid}/io") as f:
        return int(re.search(r"^write_bytes: (\d+)", f.read(), re.M)[1])


def outbox(agent):
    answer = agent.ctl("status", "--json")
    return json.loads(answer.stdout)["outbox"] if answer.returncode == 0 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disk", default="/var/tmp")
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--idle", type=float, default=60)
    options = parser.parse_args()
    tempfile.tempdir = options.disk
    with World() as world:
        agent = world.agent("gw", {"m": {"type": "stdin", "min_off": "10s"}})
        reader, pipe = os.pipe()
        agent.start(stdin=reader)
        os.close(reader)
        wait_for(lambda: outbox(agent), 20)
        t, watts, seq = 1_704_067_200_000, 0.0, 1
        began = None
        for event in range(options.events + 1):
            watts = 120.0 - watts
            for _ in range(6):
                os.write(pipe, f"{t},{watts}\n".encode())
                t += 10_000
            wait_for(lambda: (b := outbox(agent)) and b["next_seq"] > seq and b["rows"] == 0, 20)
            seq = outbox(agent)["next_seq"]
            if event == 0:
                began, first = written(agent), seq
        events = seq - first
        busy = written(agent) - began
        time.sleep(2)
        began = written(agent)
        for _ in range(int(options.idle)):
            os.write(pipe, f"{t},{watts}\n".encode())
            t += 1000
            time.sleep(1)
        idle = written(agent) - began
    each = busy / events
    day = idle * 86400 / options.idle
    print(f"{events} events: {each / 1024:.1f} KB each; idle: {idle} bytes in {options.idle:.0f} s, {day / 1048576:.2f} MB a day")
    for count in (100, 500):
        total = count * each + day
        print(f"{count} events a day: {total / 1048576:.1f} MB a day, {total * 3652 / 2**30:.0f} GB in ten years")


main()
