"""Alerts and reports, end to end: eight days of a made refrigerator, then faults put in by nilm-model inject; the agent under
SIGKILL; nilmctl alerts, snooze and report. No measurements are needed. The long version, on recorded days, is
tests/bench/alerts.py."""
import json
import os
import random
import re
import time

import schema
from harness import NILM_MODEL, Subscriber, World, check, done, run, wait_for

START = 1700006400  # a Wednesday, 00:00 UTC
DAYS = 8


def refrigerator(path):
    """A reading every 20 s: 20 minutes of about 85 W, 40 minutes of about 2 W."""
    random.seed(5)
    t, end = START, START + DAYS * 86400
    with open(path, "w") as f:
        f.write("time,watts\n")
        while t < end:
            length, pause = random.gauss(1200, 60), random.gauss(2400, 190)
            for limit, level, spread in ((t + length, 85, 1.5), (t + length + pause, 2, 0.3)):
                while t < min(end, limit):
                    f.write(f"{t},{max(0, random.gauss(level, spread)):.1f}\n")
                    t += 20


def inject(source, folder, kind, size, hours=24):
    out = os.path.join(folder, f"{kind}-{size}.csv")
    result = run(NILM_MODEL, "inject", "--fault", kind, "--size", size, "--hours", hours, "--after", 4.3, "--out", out, "--json", source)
    check(result.returncode == 0, f"inject {kind} {size}: {result.stderr.strip()}")
    return out, json.loads(result.stdout)


CASES = [("stuck_on", 24, {"left_on"}), ("power", 1.3, {"power_unusual"}), ("run_time", 2, {"duration_unusual"}),
         ("cycles", 0.5, {"cycle_missing"}), ("dead", 1, {"cycle_missing"}), ("silent", 6, {"meter_silent"}),
         ("frozen", 12, {"meter_frozen"}), ("spikes", 32767, {"reading_impossible"}), ("load", 4000, {"total_over"})]
SET = {"type": "replay", "speed": "max", "learning": "4d"}

with World() as w:
    source = os.path.join(w.folder, "fridge.csv")
    refrigerator(source)
    meters = {"good": {**SET, "files": source}}
    truth = {}
    for i, (kind, size, _) in enumerate(CASES):
        path, truth[f"m{i:02d}"] = inject(source, w.folder, kind, size, {"silent": 6, "frozen": 12, "load": 1}.get(kind, 24))
        meters[f"m{i:02d}"] = {**SET, "files": path}
        if kind == "load":
            meters[f"m{i:02d}"]["limit_w"] = 3000
    subscriber = Subscriber(w)
    agent = w.agent("home", meters, extra="[report]\nprice = 0.3\ntariff = 07:00-19:00 0.4\n[shifts]\nday = 06:00-18:00\nnight = 18:00-06:00")
    for _ in range(4):  # killed at some moment, and again
        agent.start("--exit-when-done")
        if agent.wait(random.uniform(0.5, 2.5)) is None:
            agent.kill()
    agent.start("--exit-when-done")
    check(agent.wait(150) == 0, "the agent ends by itself")
    alerts = {}
    for item in {e["id"]: e for e in subscriber.items("alert")}.values():
        alerts.setdefault(item["meter"], []).append(item)
    for topic, payload in subscriber.messages:
        if "/alert/" in topic:
            schema.validate(topic, payload)
    check(not alerts.get("good"), f"no alert about good days: {[a['alert'] for a in alerts.get('good', [])]}")
    for i, (kind, size, names) in enumerate(CASES):
        mine = sorted(alerts.get(f"m{i:02d}", []), key=lambda a: a["seq"])
        raised = [a for a in mine if a["state"] == "raised"]
        hit = [a for a in raised if a["alert"] in names and a["time"] >= truth[f"m{i:02d}"]["from"]]
        delay = (hit[0]["time"] - truth[f"m{i:02d}"]["from"]) / 3.6e6 if hit else None
        check(hit, f"{kind} {size}: {sorted({a['alert'] for a in raised})}, after {delay and round(delay, 1)} h")
        early = [a for a in raised if a["time"] < truth[f"m{i:02d}"]["from"]]
        check(not early, f"{kind} {size}: nothing before it {early[:1]}")
        ids = [a["alert_id"] for a in raised]
        check(len(ids) == len(set(ids)), f"{kind} {size}: each alert is raised once, also over SIGKILL")
        check({a["alert_id"] for a in mine} == set(ids), f"{kind} {size}: updates and clearings belong to what was raised")
        if kind == "frozen":
            check({a["alert"] for a in raised} <= {"meter_frozen"}, "a frozen meter is no fault of the appliance")

    listed = json.loads(agent.ctl("alerts", "--json", "--all").stdout)
    check({a["meter"] for a in listed["alerts"]} == set(alerts), "nilmctl alerts lists the same meters")
    check({x["meter"] for x in listed["learning"] if x["progress"] == 1} == set(meters), "all is learned")
    good = next(x for x in listed["learning"] if x["meter"] == "good" and x["runs"] > 100)
    check(70 < good["power_low"] < good["power"] < good["power_high"] < 100 and good["duration"] < good["duration_high"] < good["left_on"] < 7200,
          f"and within which bounds nothing is told: {good}")
    check("LEARNED" in agent.ctl("alerts").stdout, "nilmctl alerts is a table, too")

    # snoozing needs a running agent
    agent.start()
    still = next(a for a in listed["alerts"] if a["cleared"] is None)
    wait_for(lambda: agent.ctl("status").returncode == 0, 15)
    check(agent.ctl("snooze", still["alert_id"], "soon").returncode == 2, "a wrong duration is refused")
    check(agent.ctl("snooze", "nothing", "1h").returncode == 2, "an alert that is not there is refused")
    before = len(subscriber.items("alert"))
    check(agent.ctl("snooze", still["alert_id"], "2s").returncode == 0, "an alert is snoozed")
    shown = json.loads(agent.ctl("alerts", "--json").stdout)["alerts"]
    check(any(a["snoozed_until"] > 0 for a in shown), "it shows")
    fresh = wait_for(lambda: subscriber.items("alert")[before:], 15)
    check(fresh and fresh[0]["alert_id"] == still["alert_id"] and fresh[0]["state"] == "updated", "and is told again afterwards")
    agent.stop()

    # the report: sums agree with each other, and with the recording
    span = ["--from", f"@{START}", "--to", f"@{START + DAYS * 86400}"]
    report = json.loads(agent.ctl("report", "--json", *span).stdout)
    by_meter = {m["meter"]: m for m in report["meters"]}
    true_wh = sum(float(line.split(",")[1]) for line in open(source).readlines()[1:]) * 20 / 3600
    check(abs(by_meter["good"]["energy"] / true_wh - 1) < 0.001, f"energy of a meter: {by_meter['good']['energy']:.1f} of {true_wh:.1f} Wh")
    check(abs(sum(d["energy"] for d in report["days"]) - report["energy"]) < 1, "days add up to the total")
    check(abs(sum(m["energy"] for m in report["meters"]) - report["energy"]) < 1, "meters add up to the total")
    good = by_meter["good"]
    check(abs(sum(s["energy"] for s in good["shifts"]) - good["energy"]) < 0.1, "shifts add up to the meter")
    check(0.3 * good["energy"] < good["cost"] * 1000 < 0.4 * good["energy"], "costs lie between the tariffs")
    check(abs(good["base_energy"] / (DAYS * 24 * 2) - 1) < 0.2, f"base load {good['base_energy']:.0f} Wh of about {DAYS * 48}")
    check(abs(good["run_hours"] / (DAYS * 24 / 3) - 1) < 0.05, f"{good['run_hours']:.0f} run hours")
    flat = json.loads(agent.ctl("report", "--json", "--tariff", "0.5", *span).stdout)
    check(abs(flat["cost"] * 1000 - 0.5 * flat["energy"]) < 1, "a flat tariff")
    page, table = os.path.join(w.folder, "r.html"), os.path.join(w.folder, "r.csv")
    check(agent.ctl("report", "--html", page, "--csv", table, *span).returncode == 0, "a page and a CSV file are written")
    html = open(page).read()
    check(not re.search(r"(src|href)=|url\(|@import|<script", html) and html.count("<svg") == html.count("</svg>") >= 2,
          "the page fetches nothing and has its charts in it")
    check(len(open(table).read().splitlines()) == len(report["loads"]) + 1, "the CSV has a line for each load")
    check(agent.ctl("report", "--csv", "-", *span).stdout == open(table).read(), "which may be the standard output")
    check(agent.ctl("report", "--from", "2030-01-01", "--to", "2029-01-01").returncode == 1, "times that are swapped are refused")
    check(agent.ctl("report", "--tariff", "cheap").returncode == 1, "a tariff that is none is refused")
done()
