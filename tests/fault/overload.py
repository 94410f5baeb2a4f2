"""Overload: a day of backlog (100,000 events) drains at no less than 70 % of what Paho alone reaches against the same broker in
the same run, memory stays where it was, a meter at 1 Hz loses no sample meanwhile, and a backlog of 1,000,000 fits into 12 MB.

    overload.py [--count N] [--seed N] [--quick]      N events of backlog: 100,000

--quick: 10,000 and 50,000 events, one round, and half of the share, since so short a drain is all start and end.

Paho alone is tests/fault/bare.c: Paho's own TLS (OpenSSL), the same certificates, topics, sizes and window, nothing stored.
Both are timed from the first acknowledgement to the last, in turns: a drain is compared with Paho alone just before and just
after it, since other work on the machine comes and goes; the median of the rounds counts."""
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import threading
import time

from faultlib import BUILD, World, arguments, check, done, run, wait_for

options = arguments(__doc__, quick=10000, whole=100000, unit="events")
ROUNDS, SHARE = (1, 0.35) if options.quick else (5, 0.7)
WINDOW = 64  # as the agent's (agent/drain.h)
MILLION = 50000 if options.quick else 1000000
BARE, BACKLOG = os.path.join(BUILD, "tests/fault_bare"), os.path.join(BUILD, "tests/fault_backlog")
if not os.path.exists(BARE):
    print("skipped: libpaho-mqtt3as is missing")
    sys.exit(77)


def bare(world, number):
    cert, key = world.pki.issue(f"bare-{number}")
    result = run(BARE, world.broker.port, options.count, WINDOW, f"bare-{number}", world.pki.ca, cert, key)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return float(result.stdout)


class Meter:
    """One reading a second into the agent's standard input, until stop()."""

    def __init__(self, agent, hertz=1):
        self.agent, self.sent, self.stopping, self.late = agent, 0, threading.Event(), 0.0
        self.thread = threading.Thread(target=self._feed, args=(1 / hertz,), daemon=True)
        self.thread.start()

    def _feed(self, step):
        due = time.monotonic()
        while not self.stopping.wait(max(0, due - time.monotonic())):
            began = time.monotonic()
            self.agent.process.stdin.write(b"%d\n" % (2000 if self.sent % 20 > 10 else 3))
            self.agent.process.stdin.flush()
            self.late = max(self.late, time.monotonic() - began)
            self.sent += 1
            due += step

    def stop(self):
        self.stopping.set()
        self.thread.join()


def prepared(world, name, backlog):
    agent = world.agent(name, {"desk": {"type": "stdin"}},
                        "[outbox]\nmax_rows = 2000000\nmax_bytes = 2G\nmax_age = 3650d\ndrain_rate = 0")
    os.makedirs(agent.data)
    result = run(BACKLOG, agent.data + "/nilmd.db", backlog, timeout=600)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return agent


def drain(world, name, backlog):
    """(messages per second, [resident KiB], samples sent, samples taken, longest write to the agent's input in s)"""
    agent = prepared(world, name, backlog)
    db = sqlite3.connect(f"file:{agent.data}/nilmd.db?mode=ro", uri=True, timeout=30)
    events = lambda: db.execute("select events from outbox_state").fetchone()[0]  # noqa: E731
    agent.start(stdin=subprocess.PIPE)
    meter, resident, began, left = Meter(agent), [], None, backlog
    deadline = time.monotonic() + 600
    while left > 2 and time.monotonic() < deadline:  # the live meter adds an event now and then
        left = events()
        if began is None and left < backlog:
            began, first = time.monotonic(), left
        resident.append(agent.rss_kib())
        time.sleep(0.02)
    rate = (first - left) / (time.monotonic() - began)
    time.sleep(1.5)
    meter.stop()
    taken = wait_for(lambda: samples(agent) == meter.sent and meter.sent, 10, 0.5) or samples(agent)
    check(left <= 2, f"{name}: {backlog} events drained, {rate:.0f} a second")
    agent.stop()
    db.close()
    return rate, resident, meter.sent, taken, meter.late


def samples(agent):
    result = agent.ctl("status", "--json")
    return json.loads(result.stdout)["meters"][0]["samples"] if result.returncode == 0 else -1


def steady(resident):
    """Whether memory in the last quarter is that of the second."""
    quarter = max(1, len(resident) // 4)
    early, late = max(resident[quarter:2 * quarter] or resident), max(resident[-quarter:])
    return late <= early * 1.05 + 200


def waits_without_broker(world):
    """Resident KiB with the large backlog and no broker."""
    agent = prepared(world, "million", MILLION)
    port = agent.port
    text = open(agent.config).read()
    open(agent.config, "w").write(text.replace(f":{port}", ":1"))  # nobody listens on port 1
    agent.start(stdin=subprocess.PIPE)
    wait_for(lambda: samples(agent) >= 0, 30, 0.2)
    meter = Meter(agent, hertz=20)
    time.sleep(6)
    meter.stop()
    kib = agent.rss_kib()
    agent.stop()
    open(agent.config, "w").write(text)
    return kib


with World() as world:
    alone, ours, shares = [bare(world, 0)], [], []
    for i in range(ROUNDS):
        rate, resident, sent, taken, late = drain(world, f"drain-{i}", options.count)
        alone.append(bare(world, i + 1))
        ours.append(rate)
        shares.append(100 * rate / statistics.mean(alone[-2:]))
        print(f"round {i}: Paho alone {alone[-2]:.0f} before and {alone[-1]:.0f} after, agent {rate:.0f} a second "
              f"({shares[-1]:.0f} %); resident {min(resident)} to {max(resident)} KiB", flush=True)
        check(sent == taken, f"the meter at 1 Hz: {sent} samples sent, {taken} taken, longest wait {late * 1000:.0f} ms")
        check(steady(resident), f"memory is constant: {resident[len(resident) // 2]} KiB half-way, {resident[-1]} at the end")
    share = statistics.median(shares)
    check(share >= SHARE * 100, f"the drain reaches {share:.0f} % of Paho alone ({min(shares):.0f} to {max(shares):.0f} %; "
          f"medians {statistics.median(ours):.0f} and {statistics.median(alone):.0f} a second); "
          f"expected at least {100 * SHARE:.0f} %")
    kib = waits_without_broker(world)
    check(kib < 12 * 1024, f"{kib} KiB resident with {MILLION} events waiting and no broker; expected below 12 MiB")
    rate, resident, sent, taken, late = drain(world, "large", MILLION)
    check(max(resident) < 12 * 1024 and steady(resident), f"{max(resident)} KiB at most while {MILLION} events drain")
    check(sent == taken, f"the meter at 1 Hz: {sent} samples sent, {taken} taken, longest wait {late * 1000:.0f} ms")
done("overload", options.count, options.seed)
