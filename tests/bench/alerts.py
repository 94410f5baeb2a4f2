#!/usr/bin/python3
"""What alerts notice, and what they cry wolf about: faults injected into recorded days (nilm-model inject) and replayed by
the agent itself at full speed, beside the same days undisturbed.

    NILM_BUILD=build tests/bench/alerts.py --set tune|report [--traces DIR] [--refit DIR] [--combed DIR] [--json FILE] [--quick]

The recordings are in two sets. Rules and thresholds were chosen by looking at `tune`: the devices of TUNE and half of the
others (by the checksum of their names) in their best weeks, and week 1 of REFIT. Figures are those of `report`: the other
half of the devices of tracebase with days enough, other weeks of the devices in TUNE, week 2 of REFIT (week 1 is what is
learned from there), COMBED.
--traces: tracebase unpacked (complete/CLASS/*.csv); --refit, --combed: folders of their CSV files. Readings are thinned to
one in --step seconds. Databases and disturbed days go to a temporary folder (TMPDIR; in memory is fastest)."""
import argparse
import datetime
import glob
import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("NILM_BUILD") or os.path.join(ROOT, "build")
DAY_MS, HOUR_MS = 86400000, 3600000
TUNE_DAYS = 24  # of a device in TUNE
KNOWN = 15  # main runs that are known before a fault comes
TELLING = 5  # main runs that are changed, for a fault of runs to be called clear
STEPS = 24  # cycles that are to come, for a fault of cycles to be called clear

TUNE = {("Refrigerator", "dev_D32131"), ("Freezer", "dev_D36601"), ("Washingmachine", "dev_D338C9"),
        ("Dishwasher", "dev_B82F81"), ("Coffeemaker", "dev_735E9D"), ("WaterKettle", "dev_D33E1F"),
        ("TV-LCD", "dev_B80E51"), ("PC-Desktop", "dev_D337C9"), ("Refrigerator", "dev_B83B9E"), ("Refrigerator", "dev_76C07F"),
        ("Refrigerator", "dev_599393"), ("WaterFountain", "dev_998C63"), ("Monitor-TFT", "dev_99514C"),
        ("BeanToCupCoffeemaker", "dev_B7BE96"), ("TV-CRT", "dev_98ABAA"), ("Subwoofer", "dev_5534A4"), ("Amplifier", "dev_D320C8")}
CYCLIC = {"Refrigerator", "Freezer", "WaterFountain", "fridge"}  # run by themselves, day and night

# kind: sizes, alerts that name it, sizes a technician would call clear where the load's own days leave no doubt (clear_of),
# whether only of loads that cycle by themselves, whether size is hours, whether it is of runs (several moments are tried)
FAULTS = {
    "stuck_on": ([3, 6, 12, 24, 48], {"left_on"}, {24, 48}, False, True, True),
    "power": ([1.1, 1.2, 1.3, 1.5, 0.9, 0.8, 0.7, 0.5], {"power_unusual", "drift"}, {1.3, 1.5, 0.7, 0.5}, False, False, True),
    "run_time": ([1.3, 1.5, 2, 3, 0.7, 0.5], {"duration_unusual", "left_on", "cycling_often", "cycle_missing"}, {2, 3, 0.5},
                 False, False, True),
    "cycles": ([0.75, 0.5, 0.3, 1.5, 2, 3], {"cycle_missing", "cycling_often"}, {0.5, 0.3, 2, 3}, True, False, True),
    "dead": ([1], {"cycle_missing"}, {1}, True, False, True),
    "drift": ([0.01, 0.02, 0.05], {"drift", "power_unusual"}, set(), False, False, False),
    "lengthen": ([0.05, 0.15], {"drift", "duration_unusual", "left_on"}, set(), True, False, False),
    "silent": ([0.25, 1, 6], {"meter_silent"}, {0.25, 1, 6}, False, True, False),
    "frozen": ([1, 3, 12], {"meter_frozen"}, {12}, False, True, False),
    "spikes": ([12288, 32767], {"reading_impossible"}, {12288, 32767}, False, False, False),
    "negative": ([1], {"reading_impossible"}, {1}, False, False, False),
    "load": ([0.05, 1], {"total_over"}, {0.05, 1}, False, True, False),
}
MAIN = {"stuck on": [("stuck_on", 24)], "30 % more power": [("power", 1.3)], "double run time": [("run_time", 2)],
        "half the cycles": [("cycles", 0.5)]}


def date_of(path):
    m = re.search(r"cleaned_(\d\d)\.(\d\d)\.(\d{4})", path)
    m = re.search(r"(\d{4})\.(\d\d)\.(\d\d)", path).groups() if not m else m.groups()[::-1]
    return datetime.date(*map(int, m)).toordinal()


def windows(files, days, first):
    """The stretch of `first` days that has the most files, and what lies before and behind it, at most `days` long each;
    first 0: only the best stretch of `days`."""
    rest, best = sorted(files, key=date_of), []
    for f in rest:
        inside = [g for g in rest if date_of(f) <= date_of(g) < date_of(f) + (first or days)]
        best = inside if len(inside) > len(best) else best
    before = [f for f in rest if date_of(best[0]) - days <= date_of(f) < date_of(best[0])]
    behind = [f for f in rest if date_of(best[-1]) < date_of(f) <= date_of(best[-1]) + days]
    return [best, before, behind] if first else [best]


def recordings(args):
    """{name: (class, files, column, days of learning, power from which it is on)} of the chosen set."""
    loads = {}
    devices = {}
    whole = set()
    for part in ("complete", "incomplete") if args.traces else ():
        for f in glob.glob(f"{args.traces}/{part}/*/*.csv"):
            device = re.match(r"(.*?)_?\d{4}\.\d\d\.\d\d", os.path.basename(f))
            key = device and (os.path.basename(os.path.dirname(f)), device[1])
            if key and key not in whole:
                devices.setdefault(key, []).append(f)
        whole = whole or set(devices)
    for (cls, device), files in sorted(devices.items()):
        known = (cls, device) in TUNE
        for i, stretch in enumerate(windows(files, args.days, TUNE_DAYS if known else 0)):
            tune = i == 0 if known else (cls, device) in whole and zlib.crc32(f"{cls}/{device}".encode()) % 2 == 0
            span = date_of(stretch[-1]) - date_of(stretch[0]) + 1 if stretch else 0
            learn = 7 if span >= 13 else 4
            if tune == (args.set == "tune") and len(stretch) >= 6 and span >= learn + 3:
                loads[f"{cls}-{device}{'-' + 'ab'[i - 1] if i else ''}"] = (cls, stretch, None, learn, 15)
    files = sorted(glob.glob(f"{args.refit}/refit_h2_*.csv")) if args.refit else []
    for column in ("fridge", "washing_machine", "dishwasher", "microwave") if files else ():
        loads["refit-" + column] = (column, files[:1] if args.set == "tune" else files, column, 3 if args.set == "tune" else 7, 15)
    files = sorted(glob.glob(f"{args.combed}/*.csv")) if args.combed and args.set == "report" else []
    for column in ("ahu_0", "ahu_1", "ahu_2", "ahu_5") if files else ():
        loads["combed-" + column] = (column, files, column, 7, 300)
    return {k: v for k, v in loads.items() if args.only in k}


def replay(folder, meters, mains=False):
    """Alerts of each meter as rows of the agent's own log, and its runs. meters: {name: {key: value}}"""
    data = os.path.join(folder, "data")
    shutil.rmtree(data, True)
    conf = os.path.join(folder, "nilmd.conf")
    model = "mains_file = mains-int8" if mains else "file = identify-pruned-int8"
    model = model.replace("= ", f"= {ROOT}/inference/models/")
    with open(conf, "w") as f:
        f.write(f"[device]\nid = bench\ndata_dir = {data}\n[log]\nlevel = error\n[model]\n{model}.nilm\n")
        for name, keys in meters.items():
            f.write(f"[meter:{name}]\ntype = replay\nspeed = max\n")
            f.writelines(f"{k} = {v}\n" for k, v in keys.items())
    subprocess.run([f"{BUILD}/agent/nilmd", "--config", conf, "--exit-when-done"], check=True)
    db = sqlite3.connect(f"{data}/nilmd.db")
    db.row_factory = sqlite3.Row
    rows = [dict(r) for r in db.execute("SELECT * FROM alert ORDER BY raised_ms")]
    runs = {m: [dict(r) for r in db.execute("SELECT * FROM run WHERE meter = ? AND end_ms > 0 ORDER BY start_ms", (m,))]
            for m in meters}
    db.close()
    return {m: [r for r in rows if r["meter"] == m] for m in meters}, runs


def inject(kind, out, files, **options):
    run = subprocess.run([f"{BUILD}/agent/nilm-model", "inject", "--fault", kind, "--out", out, "--json",
                          *[x for k, v in options.items() if v is not None for x in (f"--{k.replace('_', '-')}", str(v))], *files],
                         capture_output=True, text=True)
    return json.loads(run.stdout) if run.returncode == 0 else None


def thin(path, step_s):
    """One reading in step_s seconds. Returns the milliseconds that the recording covers, its holes (10 minutes and more, from
    and to in ms) and its first time."""
    first = last = covered = 0
    holes = []
    with open(path) as f, open(path + ".thin", "w") as out:
        out.write(f.readline())
        for line in f:
            t = float(line[:line.index(",")])
            if t - last < step_s:
                continue
            if last and t - last >= 600:
                holes.append((last * 1000, t * 1000))
            elif last:
                covered += t - last
            first, last = first or t, t
            out.write(line)
    os.replace(path + ".thin", path)
    return covered * 1000, holes + [(last * 1000, math.inf)], first * 1000


def median(values):
    return sorted(values)[len(values) // 2]


def main_runs(runs):
    """Without the small ones (a lamp behind the door): less than 15 % of the run in which the median watt-hour went."""
    total, sum_ = sum(r["energy_wh"] for r in runs), 0
    for r in sorted(runs, key=lambda r: -r["energy_wh"]):
        sum_ += r["energy_wh"]
        if 2 * sum_ >= total:
            return [x for x in runs if x["energy_wh"] >= 0.15 * r["energy_wh"]]
    return runs


def learned_at(runs, days):
    """When learning is over: absences of a week and more do not count."""
    left, last = days * DAY_MS, runs[0]["start_ms"]
    for r in runs:
        gap = r["start_ms"] - last
        last = r["start_ms"]
        left -= gap if gap <= 7 * DAY_MS else 0
        if left <= 0:
            return last
    return None


def clear_of(kind, size, runs, truth):
    """Would a technician with the load's chart of undisturbed days at hand have no doubt? Only when the disturbed figure of a
    usual day lies outside everything that those days show, and when enough of it is to be seen. runs: main runs. Rare loads:
    runs instead of days."""
    days = {}
    for r in runs:
        days.setdefault(r["start_ms"] // DAY_MS, []).append(r)
    left = sum(r["start_ms"] >= truth["from"] for r in runs)
    if kind == "stuck_on":
        return truth["to"] - truth["from"] > 0.9 * size * HOUR_MS > 1.5 * max(r["end_ms"] - r["start_ms"] for r in runs)
    if kind in ("power", "run_time"):
        figure = (lambda r: r["mean_w"]) if kind == "power" else (lambda r: r["end_ms"] - r["start_ms"])
        full = [median([figure(r) for r in d]) for d in days.values() if len(d) >= 5]
        seen = full if len(full) >= 5 else [figure(r) for r in runs]
        middle = median(seen)
        single = sorted(figure(r) for r in runs)
        usual = single[len(single) // 10:-len(single) // 10]  # what one run in ten does is usual, too
        seen, enough = seen + usual[:1] + usual[-1:], left >= TELLING
    elif kind in ("cycles", "dead"):
        seen = [len(d) for d in list(days.values())[1:-1]] or [0]
        middle = median(seen)
        enough = left >= STEPS
    else:
        return True
    changed = middle * size
    return enough and (kind == "dead" or changed > 1.02 * max(seen) or changed < 0.98 * min(seen))


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.loads = args, folder, recordings(args)
        self.path, self.covered, self.holes, self.first = {}, {}, {}, {}
        self.runs, self.ready, self.before = {}, {}, {}
        for load, (_, files, column, _, _) in list(self.loads.items()):
            self.path[load] = os.path.join(folder, load + ".csv")
            if not inject("none", self.path[load], files, column=column):
                del self.loads[load]
                continue
            self.covered[load], self.holes[load], self.first[load] = thin(self.path[load], args.step)

    def meter(self, load, path):
        _, _, _, learn, on_w = self.loads[load]
        keys = {"files": path, "learning": f"{learn}d"}
        return {**keys, "on_w": on_w, "off_w": on_w * 2 // 3} if on_w != 15 else keys

    def undisturbed(self):
        result = []
        names, alerts, spans = list(self.loads), {}, {}
        for i in range(0, len(names), 32):
            some = replay(self.folder, {load: self.meter(load, self.path[load]) for load in names[i:i + 32]})
            alerts.update(some[0])
            spans.update(some[1])
        for load, rows in alerts.items():
            runs = main_runs(spans[load])
            learn = self.loads[load][3]
            if not runs:
                continue
            self.runs[load], self.before[load] = runs, rows
            # a fault comes when learning is over and so many runs are known: never, where there are none behind it
            over = learned_at(runs, learn)
            ready = max(over, runs[KNOWN]["start_ms"]) if over and len(runs) > KNOWN + 3 else None
            self.ready[load] = ready and (ready - self.first[load]) / DAY_MS + 0.3
            weeks = max(0, self.covered[load] / DAY_MS - learn) / 7
            result.append({"load": load, "weeks": weeks, "runs": len(runs), "alerts": [
                {k: r[k] for k in ("alert", "severity", "raised_ms", "cleared_ms", "since_ms", "expected", "seen")} for r in rows
                if r["alert"] != "meter_silent"]})
        return result

    def moments(self, load, kind, size):
        """Days after the first reading at which a fault begins. What is stuck on has to be seen to be: of its hours none is
        missing in the recording."""
        begin = self.first[load]
        last = (self.runs[load][-1]["end_ms"] - begin) / DAY_MS
        several = [self.ready[load] + 2.3 * i for i in range(3 if FAULTS[kind][5] else 1)]
        if kind == "stuck_on":
            seen = [(r["start_ms"] - begin) / DAY_MS for r in self.runs[load]
                    if not any(a < r["start_ms"] + size * HOUR_MS and b > r["start_ms"] for a, b in self.holes[load])]
            several = [min((s for s in seen if s >= d), default=None) for d in several]
            return sorted({d - 1e-5 for d in several if d is not None})
        if kind == "silent":  # not where the recording is silent itself
            for a, b in self.holes[load]:
                several = [max(d, (b - begin) / DAY_MS + 0.05) if (a - begin) / DAY_MS < d + size / 24 and (b - begin) / DAY_MS > d - 0.05
                           else d for d in several]
            return [d for d in several if d < last]
        return [d for i, d in enumerate(several) if i == 0 or d < last - 2]

    def faults(self):
        todo = [(kind, size, load, after) for kind, (sizes, names, clear, cyclic, _, _) in FAULTS.items()
                for load in self.runs if self.ready[load] and not (cyclic and self.loads[load][0] not in CYCLIC)
                for size in (sorted(clear) if self.args.quick else sizes) if not self.args.fault or kind in self.args.fault
                for after in self.moments(load, kind, size)]
        result = []
        for i in range(0, len(todo), 32):
            meters, cases = {}, {}
            for j, case in enumerate(todo[i:i + 32]):
                kind, size, load, after = case
                name, hours = f"m{j:02d}", size if FAULTS[kind][4] else 24
                on_w = self.loads[load][4]
                made = os.path.join(self.folder, f"{name}-fault.csv")
                truth = inject(kind, made, [self.path[load]], size=3000 if kind == "load" else size, hours=hours, after=after,
                               on_w=on_w, off_w=on_w * 2 / 3)
                if truth and not (kind == "cycles" and truth["changed"] < 4):  # no room for more runs
                    meters[name], cases[name] = self.meter(load, made), (*case, truth)
                    meters[name].update({"limit_w": 2900} if kind == "load" else {})
            if meters:
                result += self.judge(cases, replay(self.folder, meters)[0])
            print(f"{min(i + 32, len(todo))} of {len(todo)} faults", file=sys.stderr)
        return result

    def judge(self, cases, alerts):
        result = []
        for name, (kind, size, load, after, truth) in cases.items():
            if FAULTS[kind][4] and truth["to"] - truth["from"] < 0.8 * size * HOUR_MS:
                continue  # the recording ends before it is over
            names = FAULTS[kind][1]
            old = {(a["alert"], a["raised_ms"]) for a in self.before[load] if a["alert"] not in names}
            open_ = {a["alert"] for a in self.before[load] if a["raised_ms"] < truth["from"] and
                     (not a["cleared_ms"] or a["cleared_ms"] > truth["from"])}
            fresh = [r for r in alerts[name] if r["raised_ms"] >= truth["from"] and (r["alert"], r["raised_ms"]) not in old]
            found = [r for r in fresh if r["alert"] in names]
            result.append({"fault": kind, "size": size, "load": load, "after": round(after, 1), "detected": bool(found),
                           "clear": size in FAULTS[kind][2] and clear_of(kind, size, self.runs[load], truth),
                           "open_before": sorted(open_), "by": found[0]["alert"] if found else None,
                           "delay_h": (found[0]["raised_ms"] - truth["from"]) / HOUR_MS if found else None,
                           "days_left": (truth["to"] - truth["from"]) / DAY_MS, "others": sorted({r["alert"] for r in fresh} - names)})
        return result


def odd_hours(args, folder):
    """Unknown loads at an hour of the night, on the mains of REFIT: both weeks twice over, so that there are days enough to
    know the hours; the load comes in the repetition. Returns rows as Bench.judge, and false alerts."""
    source = sorted(glob.glob(f"{args.refit}/refit_h2_*.csv"))
    once, twice = os.path.join(folder, "mains1.csv"), os.path.join(folder, "mains.csv")
    inject("none", once, source, column="aggregate")
    lines = open(once).read().splitlines()
    first = float(lines[1].split(",")[0])
    with open(twice, "w") as f:
        f.write("\n".join(lines) + "\n")
        for line in lines[1:]:
            t, w = line.split(",")
            f.write(f"{float(t) + 14 * 86400:.0f},{w}\n")
    meters, cases = {"calm": {"files": twice, "kind": "mains"}}, {}
    for watts in (60, 150, 400, 1200):
        for day in (21, 23, 25):
            name = f"w{watts}d{day}"
            after = day + ((2.5 * 3600 - first % 86400) % 86400) / 86400  # 02:30
            made = os.path.join(folder, name + ".csv")
            cases[name] = (watts, inject("load", made, [twice], size=watts, hours=1, after=after))
            meters[name] = {"files": made, "kind": "mains"}
    alerts, _ = replay(folder, meters, mains=True)
    result = []
    for name, (watts, truth) in cases.items():
        found = [a for a in alerts[name] if a["alert"] == "time_unusual" and truth["from"] - 60000 <= a["since_ms"] <= truth["to"]]
        result.append({"fault": "odd_hour", "size": watts, "load": name, "clear": False, "detected": bool(found),
                       "delay_h": (found[0]["raised_ms"] - truth["from"]) / HOUR_MS if found else None, "others": []})
    return result, alerts["calm"]


def table(faults, sizes):
    print("| fault | size | cases | found | clear | found | median delay h | longest |\n|---|---|---|---|---|---|---|---|")
    for kind, size in sizes:
        rows = [f for f in faults if f["fault"] == kind and f["size"] == size]
        if not rows:
            continue
        delays = sorted(f["delay_h"] for f in rows if f["detected"])
        sure = [f for f in rows if f["clear"]]
        late = f"{delays[len(delays) // 2]:.1f} | {delays[-1]:.1f}" if delays else "- | -"
        share = f"{100 * sum(f['detected'] for f in sure) / len(sure):.0f} %" if sure else "-"
        print(f"| {kind} | {size:g} | {len(rows)} | {100 * len(delays) / len(rows):.0f} % | {len(sure)} | {share} | {late} |")


def summary(faults):
    clear = [f for f in faults if f["clear"]]
    for name, which in (*MAIN.items(), ("all clear ones", None)):
        rows = [f for f in clear if not which or (f["fault"], f["size"]) in which]
        found, loads = sum(f["detected"] for f in rows), len({f["load"] for f in rows})
        print(f"{name}: {found} of {len(rows)} ({100 * found / max(1, len(rows)):.0f} %), {loads} loads")
    for f in clear:
        if not f["detected"]:
            print(f"    missed: {f['fault']} {f['size']:g} {f['load']} after {f['after']} days, {f['days_left']:.1f} days left,"
                  f" others {f['others']}, open before {f['open_before']}")
    return sum(f["detected"] for f in clear) / max(1, len(clear))


def calm(before):
    for r in before:
        print(f"{r['load']:40} {r['weeks']:5.2f} weeks, {r['runs']:4} runs, {len(r['alerts'])} alerts")
        for a in r["alerts"]:
            told = datetime.datetime.utcfromtimestamp(a["raised_ms"] / 1000)
            print(f"    {told} {a['alert']}: expected {a['expected']}; seen {a['seen']}")
    for name, prefix in (("REFIT", "refit"), ("COMBED", "combed"), ("tracebase", "")):
        rows = [r for r in before if r["load"].startswith(prefix) and (prefix or not re.match("refit|combed", r["load"]))]
        weeks = sum(r["weeks"] for r in rows)
        true = ("meter_frozen", "reading_impossible") if prefix == "refit" else ()  # its logger and its meters were
        wrong = sum(a["alert"] not in true for r in rows for a in r["alerts"])
        if weeks:
            print(f"{name}: {len(rows)} loads, {weeks:.1f} weeks of loads, {wrong} false alerts: {8 * wrong / weeks:.2f} a week for 8 loads")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--set", choices=("tune", "report"), default="report")
    p.add_argument("--traces")
    p.add_argument("--refit")
    p.add_argument("--combed")
    p.add_argument("--days", type=int, default=90)
    p.add_argument("--step", type=float, default=8)
    p.add_argument("--json")
    p.add_argument("--only", default="")
    p.add_argument("--fault", action="append", help="only this kind")
    p.add_argument("--quick", action="store_true", help="only the sizes that are clear")
    p.add_argument("--no-faults", action="store_true")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="nilm-alerts-") as folder:
        bench = Bench(args, folder)
        if not bench.loads:
            sys.exit("nothing to replay: --traces, --refit and --combed name no recordings")
        before = bench.undisturbed()
        calm(before)
        faults = [] if args.no_faults else bench.faults()
        if args.refit and args.set == "report" and not args.only and not args.no_faults and not args.fault:
            odd, told = odd_hours(args, folder)
            faults += odd
            print("mains of REFIT, four weeks: " + (", ".join(f"{a['alert']} {a['appliance']} ({a['seen']})" for a in told) or "no alerts"))
        share = None
        if faults:
            table(faults, [(k, s) for k, v in FAULTS.items() for s in v[0]] + [("odd_hour", s) for s in (60, 150, 400, 1200)])
            share = summary(faults)
        if args.json:
            with open(args.json, "w") as f:
                json.dump({"undisturbed": before, "faults": faults, "clear_share": share}, f, indent=1)


main()
