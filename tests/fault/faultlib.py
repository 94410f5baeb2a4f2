"""What the fault suites share: the harness of the end-to-end tests, the reference consumer as a process, replay and
simulated input, a line of result for run.sh."""
import argparse
import glob
import json
import mmap
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
import harness  # noqa: E402
from harness import BUILD, NILMCTL, World, _die_with_parent, check, failures, run, skip, wait_for  # noqa: E402,F401

LINE = "RESULT "  # run.sh collects these


def arguments(description, quick, whole, unit="kills"):
    """--count, --seed, --quick; the seed is printed, so that every run can be repeated."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, help=f"{unit} (whole run: {whole}, --quick: {quick})")
    parser.add_argument("--quick", action="store_true", help="a bounded run")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("NILM_SEED", random.randrange(1 << 30))))
    options = parser.parse_args()
    if options.count is None:
        options.count = quick if options.quick else whole
    random.seed(options.seed)
    print(f"seed {options.seed}, {options.count} {unit}", flush=True)
    return options


def done(suite, count, seed):
    print(LINE + json.dumps({"suite": suite, "count": count, "seed": seed, "failed": len(failures)}), flush=True)
    harness.done()


class Consumer:
    """nilmctl watch --exactly-once, with a store and a file of lines."""

    def __init__(self, world, name="consumer"):
        self.world, self.name = world, name
        self.cert, self.key = world.pki.issue(name)
        self.store, self.out, self.log = (os.path.join(world.folder, name + end) for end in (".db", ".lines", ".log"))
        self.process, self.kills = None, 0
        world.subscribers.append(self)

    def start(self, *extra):
        w = self.world
        self.process = subprocess.Popen(
            [NILMCTL, "watch", "--exactly-once", "--store", self.store, "--out", self.out,
             "--broker", f"mqtts://127.0.0.1:{w.broker.port}", "--ca", w.pki.ca, "--cert", self.cert, "--key", self.key,
             *extra], stdout=subprocess.DEVNULL, stderr=open(self.log, "ab"), preexec_fn=_die_with_parent)
        return self

    def connected(self, times=1):
        return wait_for(lambda: open(self.log).read().count("connected to") >= times, 20)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        return self.process.returncode if self.process else None

    def report(self):
        result = run(NILMCTL, "watch", "--report", "--store", self.store, "--json")
        return json.loads(result.stdout) if result.stdout.strip() else {"devices": [], "error": result.stderr}

    def device(self, name):
        return next((d for d in self.report()["devices"] if d["device"] == name), None)

    def lines(self):
        """Payloads in the file of lines, in its order."""
        return [json.loads(line)["payload"] for line in open(self.out)]

    def stored(self):
        """{(device, epoch, seq): payload} of the store."""
        with sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=10) as db:
            return {tuple(row[:3]): json.loads(row[3]) for row in
                    db.execute("select device, epoch, seq, payload from item")}


class Trouble:
    """Calls of a program that fail at random (trouble.c): how many in a million of each kind, changed while it runs."""
    LIBRARY = os.path.join(BUILD, "tests/libfault_trouble.so")
    KINDS = ["allocation", "open", "write", "sync", "send", "receive", "socket", "library"]

    def __init__(self, path, seed):
        with open(path, "w+b") as f:
            f.write(struct.pack("<Q", seed) + bytes(160))
            f.flush()
            self.shared = mmap.mmap(f.fileno(), 168)
        self.environment = {"LD_PRELOAD": self.LIBRARY, "NILM_TROUBLE": path}

    def rates(self, **rates):
        """Those that are not named become 0."""
        for i, kind in enumerate(self.KINDS):
            struct.pack_into("<I", self.shared, 8 + 4 * i, rates.get(kind, 0))

    def failed(self):
        return dict(zip(self.KINDS, struct.unpack_from("<8Q", self.shared, 104)))

    def calls(self):
        return dict(zip(self.KINDS, struct.unpack_from("<8Q", self.shared, 40)))


def body(item):
    """What must be equal in two deliveries of a number, and in the stream of another agent: what happened."""
    return {k: v for k, v in item.items() if k not in ("id", "device", "epoch", "seq", "replay", "run")}


def switchings(items):
    return sorted((e["meter"], e["type"], e["time"], round(e.get("energy", 0), 1), e.get("end_reason", ""))
                  for e in items if e.get("type") in ("on", "off"))


APPLIANCES = ["WaterKettle", "Refrigerator", "Washingmachine", "Toaster", "Dishwasher", "MicrowaveOven", "Coffeemaker",
              "TV-LCD"]


def day_files(per_class=1):
    """Real days, so many of each class (at most 64), when NILM_DATA names them."""
    folder = os.environ.get("NILM_DATA")
    files = []
    for name in sorted(glob.glob(os.path.join(folder or "/nowhere", "tracebase/sample/complete/*"))):
        files += sorted(glob.glob(name + "/*.csv"))[:per_class]
    return files[:64]


def meters(speed, days=2, per_class=1):
    """Replay of real days, or simulated circuits."""
    files = day_files(per_class)
    if files:
        return {f"m{i:02d}": {"type": "replay", "files": f, "speed": speed} for i, f in enumerate(files)}
    return {f"m{i:02d}": {"type": "sim", "appliance": a, "seed": i + 1, "days": days, "start": "2024-03-04",
                          "speed": speed} for i, a in enumerate(APPLIANCES)}


def input_name(per_class=1):
    files = day_files(per_class)
    return f"{len(files)} recorded day files" if files else f"{len(APPLIANCES)} simulated circuits"


def quiet_broker_kill(world, agents):
    """SIGKILL of the broker when it has saved what it acknowledged. Mosquitto acknowledges before it saves, so without the
    pause the suite would find Mosquitto's loss, not ours."""
    for agent in agents:
        agent.process.send_signal(signal.SIGSTOP)
    path = os.path.join(world.broker.folder, "mosquitto.db")
    stamp = lambda: os.stat(path).st_mtime_ns if os.path.exists(path) else 0  # noqa: E731
    before, since = stamp(), time.monotonic()
    while time.monotonic() - since < 0.3:
        time.sleep(0.05)
        if stamp() != before:
            before, since = stamp(), time.monotonic()
    world.broker.kill()
    for agent in agents:
        agent.process.send_signal(signal.SIGCONT)
    time.sleep(random.uniform(0, 0.5))
    world.broker.start()
