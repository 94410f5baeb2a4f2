#!/usr/bin/python3
"""start.py [--rounds N] [--disk FOLDER] [--realtime] [--json] - how long nilmd takes from its start to the first accepted
reading, and how much memory it then has resident. NILM_BUILD names the build folder.

Before the start a reading waits in the pipe that becomes its standard input. The clock stops when the agent's own status says
that it has a sample, which takes an answer of the control socket more than the reading itself. Data folder on tmpfs and on a
disk, empty (first start) and with a database (later ones); a broker with TLS is there, as on a gateway. Medians and extremes
of N starts, and the processor time that all threads took until then (median). --realtime goes before whatever else the
machine does (needs root): the times of a machine that is busy otherwise are those of its queue.
Resident: VmRSS with one and with 64 simulated meters, after some seconds at 20 times the speed."""
import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from harness import MODELS, World, wait_for  # noqa: E402

APPLIANCES = ["Refrigerator", "WaterKettle", "Lamp", "WashingMachine", "Dishwasher", "TV-LCD", "PC-Desktop", "Microwave"]

PAUSE_S = 0.0002  # between looks; without it this script would take a core from the agent


def ask(path):
    """The agent's status, or None while it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(path)
            s.sendall(b'{"id":"1","command":"status"}\n')
            return json.loads(s.makefile().readline())
    except (OSError, ValueError):
        return None


def samples(path):
    answer = ask(path)
    return answer["result"]["meters"][0]["samples"] if answer else 0


def cpu_ms(pid):
    """Processor time of all threads."""
    folder = f"/proc/{pid}/task"
    return sum(int(open(f"{folder}/{task}/schedstat").read().split()[0]) for task in os.listdir(folder)) / 1e6


def start_once(agent):
    """Milliseconds from the start of the process to a status with a sample, and of processor time until then."""
    control = os.path.join(agent.data, "nilmd.sock")
    if os.path.exists(control):
        os.unlink(control)
    reader, writer = os.pipe()
    os.write(writer, b"1704067200000,61.5\n")
    with open(agent.log, "ab") as log:
        began = time.perf_counter()
        agent.process = subprocess.Popen([agent.program, "--config", agent.config], stdin=reader, stdout=subprocess.DEVNULL,
                                         stderr=log)
        while not os.path.exists(control):
            time.sleep(PAUSE_S)
            if agent.process.poll() is not None:
                sys.exit("nilmd ended:\n" + agent.text()[-2000:])
        while samples(control) != 1:
            time.sleep(PAUSE_S)
        took = (time.perf_counter() - began) * 1000
        processor = cpu_ms(agent.process.pid)
    os.close(reader)
    os.close(writer)
    if agent.stop() != 0:
        sys.exit("nilmd did not stop in good order:\n" + agent.text()[-2000:])
    return took, processor


def starts(folder, model, rounds):
    """{first or later: [(ms, ms of processor time)]} with the data in folder."""
    tempfile.tempdir = folder
    with World() as world:
        world.model = os.path.join(MODELS, model + ".nilm")
        agent = world.agent("gw", {"m": {"type": "stdin"}})
        times = {"first": [], "later": []}
        for _ in range(rounds):
            shutil.rmtree(agent.data, True)
            times["first"].append(start_once(agent))
            times["later"].append(start_once(agent))
        return times


def resident(meters, model, seconds):
    """VmRSS in KiB with simulated meters."""
    with World() as world:
        world.model = os.path.join(MODELS, model + ".nilm")
        keys = {f"m{i}": {"type": "sim", "appliance": APPLIANCES[i % len(APPLIANCES)], "seed": i + 1, "speed": 20}
                for i in range(meters)}
        agent = world.agent("gw", keys)
        agent.start()
        control = os.path.join(agent.data, "nilmd.sock")
        wait_for(lambda: samples(control), 20)
        time.sleep(seconds)
        return agent.rss_kib()


def print_table(report):
    print("| model | data on | start | median ms | fastest | slowest | processor time ms |\n|---|---|---|---|---|---|---|")
    for row in report["starts"]:
        print(f"| {row['model']} | {row['on']} | {row['start']} | {row['median_ms']:.1f} | {row['fastest_ms']:.1f} | "
              f"{row['slowest_ms']:.1f} | {row['cpu_ms']:.1f} |")
    print("\n| model | meters | resident MB |\n|---|---|---|")
    for row in report["resident"]:
        print(f"| {row['model']} | {row['meters']} | {row['kib'] / 1024:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--disk", default="/var/tmp", help="a folder on a disk (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="before memory is looked at")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--realtime", action="store_true", help="the agent runs before everything else")
    options = parser.parse_args()
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # what is started inherits it
    report = {"starts": [], "resident": []}
    for model in ("identify-int8", "identify-pruned-int8"):
        for on, folder in (("tmpfs", "/dev/shm"), ("disk", options.disk)):
            for start, times in starts(folder, model, options.rounds).items():
                report["starts"].append({"model": model, "on": on, "start": start, "rounds": options.rounds,
                                         "median_ms": statistics.median(t for t, _ in times), "fastest_ms": min(times)[0],
                                         "slowest_ms": max(times)[0], "cpu_ms": statistics.median(c for _, c in times)})
        for meters in (1, 64):
            report["resident"].append({"model": model, "meters": meters, "kib": resident(meters, model, options.seconds)})
    if options.json:
        print(json.dumps(report))
    else:
        print_table(report)


if __name__ == "__main__":
    main()
