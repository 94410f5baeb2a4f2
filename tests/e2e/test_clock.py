"""Time as a gateway without a battery clock has it: 1970 at boot, NTP late, jumps, certificates judged without a clock. The agent runs with a
clock of its own (clock_preload.c); the broker and this test have the real one."""
import json
import os
import shutil
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from harness import Subscriber, World, check, done, run, skip, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


class Clock:
    def __init__(self, folder):
        self.file, self.library = os.path.join(folder, "clock"), os.path.join(folder, "clock.so")
        self.set(0)
        result = run("cc", "-shared", "-fPIC", "-O1", "-o", self.library, os.path.join(HERE, "clock_preload.c"))
        if result.returncode:
            skip("no compiler: " + result.stderr[:200])
        self.environment = {"LD_PRELOAD": self.library, "NILM_TEST_CLOCK": self.file,
                            "ASAN_OPTIONS": "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", "")}

    def set(self, wrong_by_s, synchronized=0, boot_s=0):
        """How far the agent's clock is from the real one."""
        with open(self.file, "r+b" if os.path.exists(self.file) else "wb") as f:
            f.write(struct.pack("qqq", int(wrong_by_s * 1000), synchronized, int(boot_s * 1000)))

    def set_1970(self):
        self.set(-time.time() + 100)


class Live:
    """An agent with one meter that is fed through standard input."""

    def __init__(self, world, name, clock, extra=""):
        self.agent = world.agent(name, {"plug": {"type": "stdin", "min_on": "1s", "min_off": "1s", "silence": "1h", "max_gap": "20m"}}, extra)
        self.clock = clock

    def start(self):
        self.process = self.agent.start(stdin=subprocess.PIPE, environment=self.clock.environment)

    def feed(self, watts, seconds):
        for _ in range(int(seconds * 4)):
            self.process.stdin.write(b"%g\n" % watts)
            self.process.stdin.flush()
            time.sleep(0.25)

    def stop(self):
        self.process.stdin.close()
        self.agent.stop()


def events(sub, name):
    unique = {}
    for item in sub.items("event"):
        if item["device"] == name:
            if unique.setdefault(item["id"], {**item, "replay": 0}) != {**item, "replay": 0}:
                check(False, f"{item['id']} came with two contents")
    # whether a run of seconds gets a name is not the matter here
    return sorted((i for i in unique.values() if i["type"] != "identified"), key=lambda i: i["seq"])


def close_to(ms, at, tolerance=3):
    return abs(ms / 1000 - at) <= tolerance


def ntp_late(world, sub, clock):
    """Boots in 1970, a run begins and ends, another begins; then the clock is set."""
    clock.set_1970()
    live = Live(world, "late", clock, "[device]\nclock_wait = 60s")
    live.start()
    live.feed(0, 2)
    on = time.time()
    live.feed(80, 3)
    off = time.time()
    live.feed(0, 3)
    second = time.time()
    live.feed(120, 3)
    waits = live.agent.database("SELECT count(*) FROM outbox")[0][0]
    check("connected to" in live.agent.text(), "1970: TLS works, with certificates that are not valid yet by that clock")
    check(waits >= 3 and not events(sub, "late"), f"{waits} events are stored, and not sent while their times may still be put right")
    clock.set(0)
    check(wait_for(lambda: len(events(sub, "late")) >= 3, 10), "the clock is set: they are sent")
    got = events(sub, "late")[:3]
    check([e["type"] for e in got] == ["on", "off", "on"] and {e["time_quality"] for e in got} == {"corrected"}, "as corrected")
    check(close_to(got[0]["time"], on) and close_to(got[1]["time"], off) and close_to(got[2]["time"], second), "with the time at which it happened")
    check(abs(got[1]["duration"] - 3) < 1.5, f"the first run lasted {got[1]['duration']} s (3 s of 80 W)")
    live.feed(120, 1)
    clock.set(-1800)  # half an hour back, while the run lasts
    live.feed(120, 2)
    end = time.time() - 1800
    live.feed(0, 3)
    check(wait_for(lambda: len(events(sub, "late")) >= 4, 10), "a jump of half an hour back within a run")
    last = events(sub, "late")[-1]
    check(last["type"] == "off" and last["end_reason"] == "off" and 4 < last["duration"] < 12 and close_to(last["end"], end),
          f"does not split it nor change its length: {last['duration']} s, quality {last['time_quality']}")
    clock.set(-7 * 86400)  # before the broker's certificate was made: cannot be
    live.feed(110, 2)
    live.feed(0, 3)
    check(wait_for(lambda: len(events(sub, "late")) >= 6, 10), "a jump a week back, before the broker's certificate began")
    last = events(sub, "late")[-1]
    check(last["time_quality"] == "estimated" and close_to(last["end"], time.time() - 1800 - 3, 4), "is not believed: counted on from before, as estimated")
    clock.set(86400 * 3)
    live.feed(90, 3)
    live.feed(0, 3)
    check(wait_for(lambda: len(events(sub, "late")) >= 8, 10) and events(sub, "late")[-1]["duration"] < 6, "nor does one of three days forward")
    runs = live.agent.database("SELECT start_ms, end_ms FROM run ORDER BY id")
    check(close_to(runs[0][0], on) and close_to(runs[0][1], off), "the history has the corrected times, too")
    live.stop()


def restart_unset(world, sub, clock):
    """Killed and restarted without a clock, in one boot: times go on; correction covers both lives."""
    clock.set_1970()
    live = Live(world, "twice", clock, "[device]\nclock_wait = 120s")
    live.start()
    on = time.time()
    live.feed(0, 2)
    live.feed(80, 2)
    live.feed(0, 3)
    live.agent.kill()
    live.start()
    live.feed(0, 1)
    again = time.time()
    live.feed(70, 2)
    live.feed(0, 3)
    clock.set(0)
    check(wait_for(lambda: len(events(sub, "twice")) >= 4, 15), "killed and started again before the clock is set: all events come")
    got = events(sub, "twice")
    check(len(got) == 4 and {e["time_quality"] for e in got} == {"corrected"} and close_to(got[0]["time"], on + 2) and close_to(got[2]["time"], again),
          f"with corrected times of both lives: {[round(e['time'] / 1000 - on, 1) for e in got]}")
    live.stop()


def never_set(world, sub, clock):
    clock.set_1970()
    live = Live(world, "never", clock, "[device]\nclock_wait = 3s")
    live.start()
    live.feed(0, 1)
    live.feed(80, 2)
    live.feed(0, 5)
    got = wait_for(lambda: len(events(sub, "never")) >= 2 and events(sub, "never"), 10)
    check(got and {e["time_quality"] for e in got} == {"unset"}, "no clock for clock_wait with a broker: sent as unset")
    clock.set(0)
    live.feed(60, 3)
    count = len(got)
    check(wait_for(lambda: len(events(sub, "never")) > count, 10) and events(sub, "never")[-1]["time_quality"] == "clock", "and what follows the setting as clock")
    live.stop()


def expired(world, sub, clock):
    """The floor of time: a certificate that ended before it is refused, also in 1970; one that ended after the floor is not known to have."""
    live = Live(world, "floor", clock, "[device]\nclock_wait = 60s")
    clock.set(0, synchronized=1)
    live.start()
    live.feed(0, 4)
    check(wait_for(lambda: live.agent.text().count("connected to") == 1, 10), "a synchronized clock")
    live.stop()
    floor = live.agent.database("SELECT value FROM value WHERE name = 'clock.floor_ms'")
    check(floor and close_to(floor[0][0], time.time(), 30), "the time is kept in the database")
    pki = world.pki
    good = pki.server + ".good"
    shutil.copy(pki.server, good)
    old = pki.expired("server.csr", pki.server)
    world.broker.kill()
    world.broker.start()
    clock.set_1970()
    live.start()
    live.feed(0, 6)
    check("it has expired" in live.agent.text(), f"in 1970, a certificate that ended before that: refused ({old})")
    live.feed(80, 2)
    live.feed(0, 2)
    check(live.agent.database("SELECT count(*) FROM outbox")[0][0] >= 1, "detection goes on meanwhile")
    shutil.copy(good, pki.server)
    world.broker.kill()
    world.broker.start()
    check(wait_for(lambda: live.agent.text().count("connected to") == 2, 90), "a valid one: accepted, in 1970")
    live.stop()


def midnight(world, sub, clock):
    """Days of a live meter, by the clock and the zone: one that ends while the agent runs, and one while it is off."""
    begin = int(time.time()) // 3600 * 3600 + 7200  # a full hour is midnight in a zone that is made for this
    zones = os.path.join(world.folder, "zones")
    os.makedirs(zones)
    with open(os.path.join(zones, "Here"), "wb") as f:  # RFC 8536, version 1: one type of local time
        f.write(struct.pack(">4sc15x6l", b"TZif", b"\0", 0, 0, 0, 0, 1, 5) + struct.pack(">lBB5s", (43200 - begin) % 86400 - 43200, 0, 0, b"HERE\0"))
    live = Live(world, "days", clock, "[device]\ntimezone = Here\n[report]\ndaily_summary = yes")
    clock.environment["TZDIR"] = zones

    def told():
        return {s["seq"]: s for s in sub.items("summary") if s["device"] == "days"}

    clock.set(begin - time.time() - 12)
    live.start()
    live.feed(0, 1)
    live.feed(3600, 4)
    live.feed(0, 4)
    check(not told(), "before midnight nothing is told")
    live.feed(5000, 6)  # over midnight
    live.feed(0, 3)
    check(not told() and len(events(sub, "days")) >= 4, "nor right behind it: what the meter says of the day is not known yet")
    clock.set(begin - time.time() + 2000)  # half an hour on
    got = wait_for(told, 15)
    day = list(got.values())[0] if check(len(got) == 1, "then the day is told") else {}
    check(day.get("to") == begin * 1000 and day["from"] == (begin - 86400) * 1000, "from midnight to midnight of the zone")
    check(day and 8 <= day["seen"] <= 14 and [a["runs"] for a in day["appliances"]] == [1], f"with the run that ended on it, of {day.get('seen')} s: {day.get('appliances')}")
    check(day and day["time_quality"] == "clock" and abs(day["appliances"][0]["run_time"] - 4) < 1.6, "as clock")
    live.feed(100, 2)
    live.agent.kill()  # and is off until the morning after
    clock.set(begin - time.time() + 86400 + 20000)
    live.start()
    got = wait_for(lambda: len(told()) == 2 and told(), 20)
    check(got and sorted(s["from"] for s in got.values()) == [(begin - 86400) * 1000, begin * 1000], "a day whose end was missed is told at the start, before any reading")
    day = max(got.values(), key=lambda s: s["from"]) if got else {}
    check(day and [a["runs"] for a in day["appliances"]] == [1] and day["appliances"][0]["energy"] > 5, f"with the run over midnight: {day.get('appliances')}")
    live.feed(0, 3)
    check(len(told()) == 2, "and none twice")
    live.stop()


def alone(scenario):
    """Each has a broker and a clock of its own, so that they can run side by side."""
    with World() as world:
        scenario(world, Subscriber(world, "sub"), Clock(world.folder))


with ThreadPoolExecutor() as pool:
    for result in [pool.submit(alone, s) for s in (ntp_late, restart_unset, never_set, expired, midnight)]:
        result.result()
done()
