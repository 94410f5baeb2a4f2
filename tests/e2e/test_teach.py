"""A home in which a grill and a toaster take the same power: known apart after a list of a week with times off the clock on the wall
(`nilmctl teach`), and after two single runs were named (`nilmctl label`); found in the next week by the agent, in a zone with summer time
(SPEC 7.4.2, 7.4.4)."""
import datetime
import json
import os
import zoneinfo

from harness import World, check, done, skip

ZONE = "Europe/Berlin"
try:
    zone = zoneinfo.ZoneInfo(ZONE)
except zoneinfo.ZoneInfoNotFoundError:
    skip("this system has no zone data")
MIDNIGHT = int(datetime.datetime(2026, 6, 1, tzinfo=zone).timestamp())
DAY, STEP = 86400, 10
HOURS = {"Grill": (18, 100), "Toaster": (7, 120)}  # by the clock on the wall, seconds


def meal(which, day):
    hour, length = HOURS[which]
    start = MIDNIGHT + day * DAY + hour * 3600 + day * 410 // STEP * STEP
    return start, start + length


def watts(t):
    day = (t - MIDNIGHT) // DAY
    start, end = meal("Grill", day)
    if start <= t < end:
        return 1300 if (t - start) % 40 < 20 else 0
    start, end = meal("Toaster", day)
    return 1310 if start <= t < end else 0


def record(path, days):
    with open(path, "w") as f:
        f.write("timestamp,watts\n")
        f.writelines(f"{t},{90 + t // STEP % 3 + watts(t)}\n" for t in range(MIDNIGHT, MIDNIGHT + days * DAY, STEP))


def clock(t):
    return datetime.datetime.fromtimestamp(t, zone).strftime("%Y-%m-%d %H:%M:%S")


with World() as world:
    model = os.path.join(os.path.dirname(world.model), "mains-pruned-int8.nilm")

    def house(name):
        path = os.path.join(world.folder, f"{name}.csv")
        agent = world.agent(name, {"house": {"type": "replay", "kind": "mains", "files": path, "speed": "max"}}, extra=f"mains_file = {model}")
        config = open(agent.config).read()
        with open(agent.config, "w") as f:
            f.write(config.replace("[device]\n", f"[device]\ntimezone = {ZONE}\n"))
        return agent, path

    def replay(agent, path, days):
        record(path, days)
        agent.start("--exit-when-done")
        check(agent.wait(60) == 0, f"{agent.name}: {days} days are read")

    def events(agent):
        return sorted(json.loads(agent.ctl("events", "--json", "--limit", "1000").stdout)["events"], key=lambda e: e["start"])

    def found(agent, which, first, last):
        """Days on which it is told at its time, and how often it is told otherwise."""
        told = [e["start"] / 1000 for e in events(agent) if e["appliance"] == which and e["start"] / 1000 >= MIDNIGHT + first * DAY]
        right = sum(any(abs(t - meal(which, day)[0]) <= 30 for t in told) for day in range(first, last))
        return right, len(told) - right

    taught, path = house("taught")
    replay(taught, path, 7)
    lesson = os.path.join(world.folder, "week.csv")
    with open(lesson, "w") as f:
        f.write("appliance,start,end\n")
        f.writelines(f"{which},{clock(meal(which, day)[0])},{clock(meal(which, day)[1])}\n" for day in range(7) for which in HOURS)
    result = taught.ctl("teach", "house", lesson)
    check(result.returncode == 0 and "2 appliances" in result.stdout, f"taught: {result.stdout.strip()}{result.stderr.strip()}")
    replay(taught, path, 12)
    for which in HOURS:
        right, wrong = found(taught, which, 7, 12)
        check(right == 5 and wrong == 0, f"{which}: {right} of 5 days, {wrong} wrong")
    first = meal("Grill", 8)[0]
    shown = taught.ctl("events", "--appliance", "Grill").stdout
    check(clock(first)[:16] in shown or clock(first + 10)[:16] in shown, "shown by the clock on the wall")

    wrong_end = os.path.join(world.folder, "wrong.csv")
    with open(wrong_end, "w") as f:
        f.write("appliance,start,end\nGrill,2026-06-02 18:00:00,2026-06-02 17:00:00\n")
    result = taught.ctl("teach", "house", wrong_end)
    check(result.returncode == 2 and "wrong.csv:2:" in result.stderr, f"an end before its start: {result.stderr.strip()}")

    result = taught.ctl("teach", "cellar", lesson)
    check(result.returncode == 1 and 'no meter "cellar"' in result.stderr, f"another meter: {result.stderr.strip()}")

    named, path = house("named")
    replay(named, path, 7)
    for day in (0, 1):
        start, end = meal("Grill", day)
        run = [e for e in events(named) if abs(e["start"] / 1000 - start) <= 60][0]
        result = named.ctl("label", str(run["run"]), "Grill")
        check(result.returncode == 0, f"{run['appliance']} of day {day}: {result.stdout.strip()}{result.stderr.strip()}")
    check("others of the history" in result.stdout, "backwards, too")
    replay(named, path, 12)
    right, wrong = found(named, "Grill", 0, 12)
    check(right == 12 and wrong == 0, f"Grill: {right} of 12 days, {wrong} wrong")
done()
