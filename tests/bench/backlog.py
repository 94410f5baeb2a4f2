#!/usr/bin/python3
"""backlog.py [--waiting N] [--rounds N] [--disk FOLDER] - start and memory of nilmd with nothing and with N items waiting.

From the start of the process to the first accepted reading (as start.py), median and extremes, each round one start without
and one with the backlog; then resident memory (VmRSS) while the backlog is drained, and the largest that was (VmHWM). A broker
with TLS is there. NILM_BUILD names the build folder. Exit code 1 when the start takes more than twice as long with the backlog, or
12 MB are exceeded."""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from harness import BUILD, World  # noqa: E402
from start import start_once  # noqa: E402

LIMITS = "[outbox]\nmax_rows = 10000000\nmax_bytes = 8G\nmax_age = 3650d"


def memory_kib(agent, key):
    with open(f"/proc/{agent.process.pid}/status") as f:
        return int(re.search(key + r":\s+(\d+)", f.read())[1])


def draining(agent, seconds):
    """(VmRSS, VmHWM, items acknowledged in that time)"""
    reader, writer = os.pipe()
    os.write(writer, b"1704067200000,61.5\n")
    agent.start(stdin=reader)
    time.sleep(seconds)
    rss, most = memory_kib(agent, "VmRSS"), memory_kib(agent, "VmHWM")
    left = agent.database("SELECT acknowledged FROM outbox_state")[0][0]
    os.close(reader)
    os.close(writer)
    agent.stop()
    return rss, most, left


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--disk", default="/var/tmp")
    parser.add_argument("--seconds", type=float, default=15, help="of draining before memory is looked at")
    options = parser.parse_args()
    tempfile.tempdir = options.disk
    with World() as world:
        agents = {n: world.agent(f"gw-{n}", {"m": {"type": "stdin"}}, LIMITS) for n in (0, options.waiting)}
        for waiting, agent in agents.items():
            os.makedirs(agent.data)
            if waiting:
                subprocess.run([os.path.join(BUILD, "tests/fault_backlog"), os.path.join(agent.data, "nilmd.db"), str(waiting)],
                               check=True, stdout=subprocess.DEVNULL)
                size = os.path.getsize(os.path.join(agent.data, "nilmd.db"))
                print(f"{waiting} items: {size / 1048576:.0f} MB", flush=True)
            start_once(agent)  # the first makes what is missing
        times = {n: [] for n in agents}
        for _ in range(options.rounds):
            for waiting, agent in agents.items():
                times[waiting].append(start_once(agent))
        median, most = {}, 0
        for waiting, agent in agents.items():
            median[waiting] = statistics.median(t for t, _ in times[waiting])
            rss, high, acknowledged = draining(agent, options.seconds)
            most = max(most, high)
            print(f"{waiting} waiting: start {median[waiting]:.1f} ms ({min(times[waiting])[0]:.1f} to {max(times[waiting])[0]:.1f}), "
                  f"{statistics.median(c for _, c in times[waiting]):.1f} ms of processor time; resident {rss / 1024:.1f} MB, at most "
                  f"{high / 1024:.1f} MB; {acknowledged} acknowledged so far", flush=True)
    sys.exit(0 if median[options.waiting] <= 2 * median[0] and most < 12 * 1024 else 1)


if __name__ == "__main__":
    main()
