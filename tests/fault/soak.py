"""Soak: two agents on simulated circuits at high speed, and random faults all the time. `battered` is killed, its clock is set,
its database damaged while it is stopped; `steady` is never killed, and shows that memory and descriptors stay flat. Both meet
link cuts, links that go silent, broker restarts, a full disk, and allocations, opens, writes, syncs, sends and receives that
fail (trouble.c), a few at any time and many in bursts; the consumer is killed too. At the end nothing is missing that was not
declared lost, the switchings of `steady` are those of an agent that nobody disturbed, and no agent has crashed: one that
cannot start ends in good order, and is started again as a supervisor does. Paho alone may crash for want of memory, and its
allocations fail for `battered` only.

    soak.py [--count SECONDS] [--seed N] [--quick]      3600 seconds, or 30 with --quick"""
import ctypes
import json
import os
import random
import select
import signal
import socket
import statistics
import threading
import time

from faultlib import (APPLIANCES, Consumer, Trouble, World, arguments, check, done, quiet_broker_kill, run, skip, switchings,
                      wait_for)

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
options = arguments(__doc__, quick=30, whole=3600, unit="seconds")
SPEED = 2400 if options.quick else 2880  # an hour is 120 days
START_MS = 1709510400000  # 2024-03-04
STORM_S = 150  # then it calms down
CALM_S = 3  # after a start: what fails from the first call on is the business of few starts
# Failing calls in a million, all the time and in bursts. A meter's step makes few calls, a connect thousands.
ALWAYS = {"allocation": 20, "open": 5000, "write": 3000, "sync": 10000, "send": 5000, "receive": 2000, "socket": 20000}
BURSTS = {"allocation": [200, 1000, 5000, 50000], "open": [20000, 500000], "write": [20000, 200000, 1000000],
          "sync": [20000, 300000, 1000000], "send": [20000, 200000], "receive": [20000, 200000], "socket": [500000, 1000000]}
faults, pauses = {}, []


class Forwarder:
    """A TCP forwarder that can be cut, refuse, or go silent without closing anything."""

    def __init__(self, target):
        self.target, self.pairs, self.silent, self.refusing = target, {}, False, False
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _accept(self):
        client, _ = self.server.accept()
        try:
            if self.refusing:
                raise OSError
            upstream = socket.create_connection(("127.0.0.1", self.target), 2)
        except OSError:
            client.close()
            return
        self.pairs[client], self.pairs[upstream] = upstream, client

    def _drop(self, source):
        other = self.pairs.pop(source, None)
        self.pairs.pop(other, None)
        for s in (source, other):
            if s:
                s.close()

    def _run(self):
        while True:
            watched = [self.server] + ([] if self.silent else [s for s in list(self.pairs) if s.fileno() >= 0])
            try:
                ready = select.select(watched, [], [], 0.05)[0]
            except (OSError, ValueError):
                continue
            for source in ready:
                if source is self.server:
                    self._accept()
                    continue
                other = self.pairs.get(source)
                try:
                    data = source.recv(65536)
                    if not data or other is None:
                        raise OSError
                    other.sendall(data)
                except OSError:
                    self._drop(source)

    def cut(self):
        for s in list(self.pairs):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def private_mounts():
    """Mounts of our own, for disks that can be filled; without the right to, that fault is left out, and said."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(CLONE_NEWNS) == 0 and libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0


def small_disk(path, size="24m"):
    os.makedirs(path)
    return run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path).returncode == 0


class Watched:
    """An agent with what is sampled of it."""

    def __init__(self, world, name, forwarder, disks):
        meters = {f"m{i:02d}": {"type": "sim", "appliance": a, "seed": i + 1, "start": "2024-03-04", "speed": SPEED}
                  for i, a in enumerate(APPLIANCES)}
        self.agent = world.agent(name, meters, "keepalive = 5s", port=forwarder.port)
        text = open(self.agent.config).read()  # the extra lines go to the section that was last: [model]
        open(self.agent.config, "w").write(text.replace("\nkeepalive = 5s", "").replace("[broker]\n", "[broker]\nkeepalive = 5s\n"))
        self.forwarder, self.samples = forwarder, []
        self.disk = disks and small_disk(self.agent.data)
        self.trouble, self.weather = Trouble(self.agent.folder + "/trouble", options.seed + len(name)), ALWAYS
        self.rates = None
        self.restart()

    def sample(self):
        if self.agent.process.poll() is None and time.monotonic() - self.since > 3:
            try:
                self.samples.append((self.agent.rss_kib(), len(os.listdir(f"/proc/{self.agent.process.pid}/fd"))))
            except (OSError, TypeError):
                pass

    def restart(self, clock=None, rates=None):
        """rates: of calls that fail from the first on; else they begin to when the agent has begun."""
        self.trouble.rates(**(rates or {}))
        environment = dict(self.trouble.environment)
        if clock and os.path.exists(FAKETIME):
            environment.update({"FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                                "LD_PRELOAD": f"{Trouble.LIBRARY}:{FAKETIME}"})
        self.agent.start(environment=environment)
        self.since, self.rates = time.monotonic(), rates

    def supervise(self):
        """Starts again what ended in good order, as a supervisor does; a crash is a failure of the suite."""
        code = self.agent.process.poll()
        if code is None:
            if self.rates != self.weather and time.monotonic() - self.since > CALM_S:
                self.rates = self.weather
                self.trouble.rates(**self.rates)
            return
        library = code in (-signal.SIGSEGV, -signal.SIGABRT) and in_library(self.agent.text())
        note("crash in the MQTT library" if library else f"start given up, code {code}")
        check_quietly((code > 0 or library) and self.agent.name != "steady", f"{self.agent.name} ended by itself ({code})", self)
        self.restart()


def in_library(log):
    """Whether the last crash happened below Paho, which uses what malloc gives without looking."""
    stack = [line for line in log[log.rfind("trouble: the program crashed"):].split("\n")[1:6] if line.startswith("/")]
    return next((line for line in stack if "libfault_trouble" not in line and "/libc." not in line), "").find("libpaho") > 0


def note(name):
    faults[name] = faults.get(name, 0) + 1


def damage(path):
    """Random bytes somewhere behind the first page, as flash does it."""
    size = os.path.getsize(path)
    if size > 8192:
        with open(path, "r+b") as f:
            f.seek(random.randrange(4096, size - 64))
            f.write(random.randbytes(random.randrange(1, 64)))


def kill_battered(battered, steady, world, consumer):
    note("kill")
    battered.agent.kill()
    dice = random.random()
    if dice < 0.15 and os.path.exists(battered.agent.data + "/nilmd.db"):
        note("damaged database")
        damage(battered.agent.data + "/nilmd.db")
    clock = None
    if dice > 0.7 and os.path.exists(FAKETIME):
        note("clock set")
        clock = random.choice(["+20d", "-1d", "+3h"])
    time.sleep(random.uniform(0, 1))
    battered.restart(clock, some_rates() if random.random() < 0.5 else None)


def cut_links(battered, steady, world, consumer):
    note("link cut")
    random.choice([battered, steady]).forwarder.cut()


def silence_link(battered, steady, world, consumer):
    note("link silent")
    forwarder = random.choice([battered, steady]).forwarder
    forwarder.silent = True
    time.sleep(random.uniform(1, 12))  # beyond one and a half keepalives at times
    forwarder.silent = False


def refuse_links(battered, steady, world, consumer):
    note("broker out of reach")
    for w in (battered, steady):
        w.forwarder.refusing = True
        w.forwarder.cut()
    time.sleep(random.uniform(1, 6))
    for w in (battered, steady):
        w.forwarder.refusing = False


def restart_broker(battered, steady, world, consumer):
    note("broker killed")
    quiet_broker_kill(world, [w.agent for w in (battered, steady) if w.agent.process.poll() is None])


def fill_disk(battered, steady, world, consumer):
    target = random.choice([battered, steady])
    if not target.disk:
        return
    note("disk full")
    ballast = os.path.join(target.agent.data, "ballast")
    try:
        with open(ballast, "wb", buffering=0) as f:
            while True:
                f.write(bytes(65536))
    except OSError:
        pass
    time.sleep(random.uniform(1, 5))
    os.unlink(ballast)


def some_rates():
    kind = random.choice(list(BURSTS))
    return {**ALWAYS, kind: random.choice(BURSTS[kind])}


def fail_calls(battered, steady, world, consumer):
    target = random.choice([battered, steady])
    note("failing calls")
    library = {"library": 20000} if target is battered and random.random() < 0.15 else {}
    target.trouble.rates(**{**some_rates(), **library})
    time.sleep(random.uniform(0.5, 5))
    target.trouble.rates(**ALWAYS)


def kill_consumer(battered, steady, world, consumer):
    note("consumer killed")
    consumer.kill()
    time.sleep(random.uniform(0, 2))
    consumer.start()


ACTIONS = ([kill_battered] * 5 + [cut_links] * 3 + [fail_calls] * 8 +
           [silence_link, refuse_links, restart_broker, fill_disk, fill_disk, kill_consumer])


def is_back(watched):
    watched.supervise()
    result = watched.agent.ctl("status", "--json")
    return result.returncode == 0 and json.loads(result.stdout).get("link", {}).get("connected")


def calm_down(agents):
    """Between storms every agent gets its session back: a back-off of 2 minutes at most, and attempts that fail meanwhile."""
    began = time.monotonic()
    for w in agents:
        w.weather = {}
        w.trouble.rates()
    for w in agents:
        check_quietly(wait_for(lambda: is_back(w), 300, 2), f"{w.agent.name} has no session 300 s after a storm", w)
    pauses.append(time.monotonic() - began)
    time.sleep(35)  # a session this old is stable: its end begins a new back-off
    for w in agents:
        w.weather = ALWAYS


def check_quietly(condition, text, watched):
    if not condition:
        check(False, text)
        print(watched.agent.text()[-3000:], flush=True)


def torment(world, battered, steady, consumer):
    end = time.monotonic() + options.count
    order = list(ACTIONS)
    random.shuffle(order)  # each kind once at least, also in a short run
    storm = time.monotonic() + STORM_S
    while time.monotonic() < end:
        if time.monotonic() > storm:
            calm_down([battered, steady])
            storm = time.monotonic() + STORM_S
        pause = time.monotonic() + random.uniform(0.3, 2.5)
        while time.monotonic() < min(pause, end):
            battered.sample(), steady.sample()
            battered.supervise(), steady.supervise()
            time.sleep(0.5)
        (order.pop() if order else random.choice(ACTIONS))(battered, steady, world, consumer)


def drain(watched):
    """What waits is delivered by a last start without meters that tick."""
    a = watched.agent
    watched.trouble.rates()
    if a.process.poll() is not None:
        watched.restart()
        time.sleep(CALM_S)
    code = a.stop(30)
    check(code == 0, f"{a.name} ends in good order ({code})")
    text = open(a.config).read()
    open(a.config, "w").write(text[:text.index("[meter:")] + "[meter:none]\ntype = stdin\n")
    a.start("--exit-when-done", "--drain-timeout", "90")
    check(a.wait(120) == 0, f"{a.name}: what waited was delivered")


def flat(values, name, slack):
    third = max(1, len(values) // 3)
    early, late = max(values[:third * 2]), max(values[-third:])
    check(late <= early * 1.05 + slack, f"steady: {name} stays flat: {values[0]} at the beginning, {values[len(values) // 2]} "
                                        f"half-way, {values[-1]} at the end; at most {early}, in the last third {late}")


def compare(world, consumer, steady):
    """The switchings of `steady` against those of an undisturbed agent over the same simulated days."""
    events = [e for e in consumer.lines() if e["device"] == "steady"]
    days = int((max(e["time"] for e in events if "time" in e and e.get("meter") != "_agent") - START_MS) / 86400000) + 2
    calm = world.agent("calm", {f"m{i:02d}": {"type": "sim", "appliance": a, "seed": i + 1, "start": "2024-03-04",
                                              "days": days, "speed": "max"} for i, a in enumerate(APPLIANCES)})
    calm.start("--exit-when-done", "--drain-timeout", "90")
    check(calm.wait(600) == 0, "the undisturbed run ends")
    wait_for(lambda: (consumer.device("calm") or {}).get("received") == calm.database("select next_seq from outbox_state")[0][0] - 1, 60, 1)
    want = switchings(e for e in consumer.lines() if e["device"] == "calm")
    found = switchings(e for e in events if e.get("end_reason") != "stop")
    missing = 0
    for meter in {f[0] for f in found}:  # a meter stopped somewhere; before that everything must be there
        last = max(f[2] for f in found if f[0] == meter)
        missing += len([w for w in want if w[0] == meter and w[2] <= last and w not in found])
    strange = [f for f in found if f not in want]
    check(not missing and not strange, f"steady: {len(found)} switchings in {days - 1} simulated days, as undisturbed; "
                                       f"{missing} missing, {strange[:4]} too much")
    return days - 1


if not os.path.exists(Trouble.LIBRARY):
    skip(f"{Trouble.LIBRARY} is missing: a build with a sanitizer has none")
disks = private_mounts()
with World() as world:
    if not disks:
        print("no right to mount: the full disk is left out")
    consumer = Consumer(world).start()
    consumer.connected()
    battered = Watched(world, "battered", Forwarder(world.broker.port), disks)
    steady = Watched(world, "steady", Forwarder(world.broker.port), disks)
    torment(world, battered, steady, consumer)
    time.sleep(3)
    for w in (battered, steady):
        w.forwarder.silent = w.forwarder.refusing = False
    drain(battered), drain(steady)
    counts = {w.agent.name: w.agent.database("select next_seq, dropped from outbox_state")[0] for w in (battered, steady)}
    wait_for(lambda: (consumer.device("steady") or {}).get("highest") == counts["steady"][0] - 1 and
             (consumer.device("battered") or {}).get("highest") == counts["battered"][0] - 1, 60, 1)
    days = compare(world, consumer, steady)
    report = consumer.report()
    check(consumer.stop() == 0, "the consumer's own judgement: nothing missing that was not declared (exit code 0)")
    for d in report["devices"]:
        print(f"      {d['device']}: {d['received']} received, {d['duplicates']} again, {d['declared_lost']} declared lost, "
              f"{d['missing']} missing, {d['conflicts']} with two contents, behind {d['behind']}")
    check(report["missing"] == report["conflicts"] == report["behind"] == 0, "no undeclared loss, no number with two contents")
    ours = next(d for d in report["devices"] if d["device"] == "steady")
    check(ours["declared_lost"] == 0 and ours["received"] == counts["steady"][0] - 1,
          f"steady: all of {counts['steady'][0] - 1} numbers came")
    lines = [(e["device"], e["id"]) for e in consumer.lines()]
    check(len(lines) == len(set(lines)) == report["received"], f"each of {len(lines)} messages is in the file of lines once")
    flat([s[0] for s in steady.samples], "resident KiB", 300)
    flat([s[1] for s in steady.samples], "open descriptors", 2)
    check(max(s[0] for s in battered.samples + steady.samples) < 16 * 1024,
          f"at most {max(s[0] for s in battered.samples + steady.samples)} KiB resident")
    for w in (battered, steady):
        print(f"{w.agent.name}: failed calls {w.trouble.failed()} of {w.trouble.calls()}")
    if pauses:
        print(f"{len(pauses)} storms; the sessions were back {statistics.median(pauses):.0f} s after one (median), {max(pauses):.0f} s at most")
    print(f"faults: {faults}; {days} simulated days; seed {options.seed}")
    if disks:
        for w in (battered, steady):
            w.agent.stop()
            run("umount", "-l", w.agent.data)
done("soak", options.count, options.seed)
