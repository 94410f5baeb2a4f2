#!/usr/bin/python3
"""What alerts notice, and what they cry wolf about: faults injected into recorded days (nilm-model inject) and replayed by
the agent itself at full speed, beside the same days undisturbed.

    NILM_BUILD=build tests/bench/alerts.py [--traces DIR] [--refit DIR] [--json FILE] [--quick] [--only TEXT]

--traces: tracebase unpacked (complete/CLASS/*.csv); --refit: the folder of refit_h2_*.csv. Databases and disturbed days go
to a temporary folder (TMPDIR; in memory is fastest)."""
import argparse
import datetime
import glob
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("NILM_BUILD") or os.path.join(ROOT, "build")
LEARN = 7  # days, the default of the agent
WEEK_MS = 7 * 86400000

# A household: one device of each class that has days enough. The others are there for the faults.
HOUSEHOLD = [("Refrigerator", "dev_D32131"), ("Freezer", "dev_D36601"), ("Washingmachine", "dev_D338C9"),
             ("Dishwasher", "dev_B82F81"), ("Coffeemaker", "dev_735E9D"), ("WaterKettle", "dev_D33E1F"),
             ("TV-LCD", "dev_B80E51"), ("PC-Desktop", "dev_D337C9")]
MORE = [("Refrigerator", "dev_B83B9E"), ("Refrigerator", "dev_76C07F"), ("Refrigerator", "dev_599393"),
        ("WaterFountain", "dev_998C63"), ("Monitor-TFT", "dev_99514C"), ("BeanToCupCoffeemaker", "dev_B7BE96"),
        ("TV-CRT", "dev_98ABAA"), ("Subwoofer", "dev_5534A4"), ("Amplifier", "dev_D320C8")]
CYCLIC = {"Refrigerator", "Freezer", "WaterFountain", "fridge"}  # run by themselves, day and night

# kind, sizes, alerts that name it, which sizes a technician would call clear where the load's own days leave no doubt (see
# clear_of), only of loads that cycle by themselves
FAULTS = [
    ("stuck_on", [24], {"left_on"}, {24}, False),
    ("power", [1.1, 1.2, 1.3, 1.5, 0.8, 0.7, 0.5], {"power_unusual", "drift"}, {1.3, 1.5, 0.7, 0.5}, False),
    ("run_time", [1.3, 1.5, 2, 3, 0.7, 0.5], {"duration_unusual", "left_on", "cycling_often", "cycle_missing"}, {2, 3, 0.5}, True),
    ("cycles", [0.75, 0.5, 0.3, 1.5, 2], {"cycle_missing", "cycling_often"}, {0.5, 0.3, 2}, True),
    ("dead", [1], {"cycle_missing"}, {1}, True),
    ("drift", [0.02, 0.05], {"drift", "power_unusual"}, set(), False),
    ("lengthen", [0.05, 0.15], {"drift", "duration_unusual", "left_on"}, set(), True),
    ("silent", [1], {"meter_silent"}, {1}, False),
    ("frozen", [1], {"meter_frozen"}, {1}, False),
    ("spikes", [32767], {"reading_impossible"}, {32767}, False),
    ("negative", [1], {"reading_impossible"}, set(), False),
    ("load", [3000], {"total_over"}, {3000}, False),
]


def date_of(path):
    m = re.search(r"(\d{4})\.(\d\d)\.(\d\d)", path)
    return datetime.date(int(m[1]), int(m[2]), int(m[3])).toordinal()


def recording(traces, cls, device, days):
    """Paths of the stretch of `days` days that has the most of them."""
    files = sorted(glob.glob(f"{traces}/complete/{cls}/{device}_*.csv"), key=date_of)
    best = []
    for f in files:
        inside = [g for g in files if date_of(f) <= date_of(g) < date_of(f) + days]
        best = inside if len(inside) > len(best) else best
    return best if best and date_of(best[-1]) - date_of(best[0]) > LEARN else []


def replay(folder, meters, extra=""):
    """Alerts of each meter as rows of the agent's own log. meters: {name: {key: value}}"""
    data = os.path.join(folder, "data")
    shutil.rmtree(data, True)
    conf = os.path.join(folder, "nilmd.conf")
    with open(conf, "w") as f:
        f.write(f"[device]\nid = bench\ndata_dir = {data}\n[log]\nlevel = error\n"
                f"[model]\nfile = {ROOT}/inference/models/identify-pruned-int8.nilm\n")
        for name, keys in meters.items():
            f.write(f"[meter:{name}]\ntype = replay\nspeed = max\n{extra}")
            f.writelines(f"{k} = {v}\n" for k, v in keys.items())
    subprocess.run([f"{BUILD}/agent/nilmd", "--config", conf, "--exit-when-done"], check=True)
    db = sqlite3.connect(f"{data}/nilmd.db")
    db.row_factory = sqlite3.Row
    rows = [dict(r) for r in db.execute("SELECT * FROM alert ORDER BY raised_ms")]
    runs = {m: [dict(r) for r in db.execute("SELECT * FROM run WHERE meter = ? AND end_ms > 0 ORDER BY start_ms", (m,))]
            for m in meters}
    db.close()
    return {m: [r for r in rows if r["meter"] == m] for m in meters}, {m: r for m, r in runs.items() if r}


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


def clear_of(kind, size, runs):
    """Would a technician with the load's chart of undisturbed days at hand have no doubt? Only when the disturbed figure of a
    usual day lies outside everything that those days show. runs: main runs. Rare loads: runs instead of days."""
    days = {}
    for r in runs:
        days.setdefault(r["start_ms"] // 86400000, []).append(r)
    if kind == "stuck_on":
        return 24 * 3600e3 > 1.5 * max(r["end_ms"] - r["start_ms"] for r in runs)
    if kind in ("power", "run_time"):
        figure = (lambda r: r["mean_w"]) if kind == "power" else (lambda r: r["end_ms"] - r["start_ms"])
        full = [median([figure(r) for r in d]) for d in days.values() if len(d) >= 5]
        seen = full if len(full) >= 5 else [figure(r) for r in runs]
    elif kind == "cycles":
        seen = [len(d) for d in list(days.values())[1:-1]]
    else:
        return True
    changed = median(seen) * size
    return changed > 1.02 * max(seen) or changed < 0.98 * min(seen)


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.loads, self.runs, self.ready = args, folder, {}, {}, {}
        for cls, device in HOUSEHOLD + MORE:
            files = recording(args.traces, cls, device, args.days) if args.traces else []
            if files:
                self.loads[f"{cls}-{device}"] = (cls, files, None)
        if args.refit:
            files = sorted(glob.glob(f"{args.refit}/refit_h2_*.csv"))
            for column in ("fridge", "washing_machine", "dishwasher", "microwave", "aggregate") if files else ():
                self.loads["refit-" + column] = (column, files, column)
        self.loads = {k: v for k, v in self.loads.items() if args.only in k}

    def meter(self, load):
        cls, files, column = self.loads[load]
        keys = {"files": " ".join(files)}
        if len(keys["files"]) > 2000:  # the longest value of the configuration
            link = os.path.join(self.folder, "days-" + load)
            os.makedirs(link, exist_ok=True)
            for f in files:
                os.path.exists(os.path.join(link, os.path.basename(f))) or os.symlink(f, os.path.join(link, os.path.basename(f)))
            keys["files"] = link
        if column:
            keys["column"] = column
        return keys

    def undisturbed(self):
        alerts, spans = replay(self.folder, {load: self.meter(load) for load in self.loads})
        result = []
        for load, rows in alerts.items():
            if load not in spans:
                continue
            runs = main_runs(spans[load])
            self.runs[load] = runs
            weeks = (runs[-1]["end_ms"] - runs[0]["start_ms"]) / WEEK_MS - LEARN / 7
            # a fault comes when learning is over and 20 runs are known: never, where there are none behind it
            ready = max(runs[0]["start_ms"] + LEARN * 86400000, runs[20]["start_ms"]) if len(runs) > 25 else None
            self.ready[load] = ready and (ready - runs[0]["start_ms"]) / 8.64e7 + 0.5
            wrong = [r for r in rows if r["alert"] not in ("meter_silent",) and
                     not (load.startswith("refit") and r["alert"] in ("meter_frozen", "reading_impossible"))]
            result.append({"load": load, "weeks": max(0, weeks), "alerts": [
                {k: r[k] for k in ("alert", "raised_ms", "cleared_ms", "since_ms", "expected", "seen")} for r in rows],
                "false": len(wrong)})
        return result

    def disturb(self, load, kind, size):
        cls, files, column = self.loads[load]
        out = os.path.join(self.folder, f"{load}-{kind}-{size}.csv")
        hours = {"stuck_on": 24, "silent": 6, "frozen": 12, "load": 1}.get(kind, 24)
        run = subprocess.run([f"{BUILD}/agent/nilm-model", "inject", "--fault", kind, "--size", str(size), "--hours", str(hours),
                              "--after", str(self.ready[load]), "--out", out, "--json", *(["--column", column] if column else []),
                              *files], capture_output=True, text=True)
        if run.returncode:
            return None
        return out, json.loads(run.stdout)

    def faults(self, before):
        todo = []
        for kind, sizes, names, clear, cyclic in FAULTS:
            for load, (cls, _, _) in self.loads.items():
                if (cyclic and cls not in CYCLIC) or cls == "aggregate" or not self.ready.get(load):
                    continue
                todo += [(kind, size, names, size in clear and clear_of(kind, size, self.runs[load]), load)
                         for size in (sorted(clear) if self.args.quick else sizes)]
        known = {r["load"]: r["alerts"] for r in before}
        result = []
        for i in range(0, len(todo), 24):
            meters, cases = {}, {}
            for j, (kind, size, names, clear, load) in enumerate(todo[i:i + 24]):
                made = self.disturb(load, kind, size)
                if made:
                    name = f"m{j:02d}"
                    meters[name] = {"files": made[0]}
                    if kind == "load":
                        meters[name]["limit_w"] = 2900
                    cases[name] = (kind, size, names, clear, load, made[1])
            if not meters:
                continue
            alerts, _ = replay(self.folder, meters)
            for name, (kind, size, names, clear, load, truth) in cases.items():
                if truth["to"] - truth["from"] < (5 if kind == "silent" else 0.5) * 3600e3:
                    continue  # the recording ends there
                if kind == "cycles" and truth["changed"] < 4:
                    continue  # no room for more runs
                old = {(a["alert"], a["raised_ms"]) for a in known.get(load, []) if a["alert"] not in names}
                fresh = [r for r in alerts[name] if r["raised_ms"] >= truth["from"] and (r["alert"], r["raised_ms"]) not in old]
                found = [r for r in fresh if r["alert"] in names]
                result.append({"fault": kind, "size": size, "load": load, "clear": clear, "detected": bool(found),
                               "delay_h": (found[0]["raised_ms"] - truth["from"]) / 3.6e6 if found else None,
                               "days_left": (truth["to"] - truth["from"]) / 8.64e7,
                               "others": sorted({r["alert"] for r in fresh} - names)})
                os.unlink(meters[name]["files"])
            print(f"{min(i + 24, len(todo))} of {len(todo)} faults", file=sys.stderr)
        return result


def table(faults):
    print(f"{'fault':10} {'size':>7} {'loads':>5} {'found':>6} {'clear':>11} {'median h':>10} {'longest':>8}    not found (! clear)")
    for kind, sizes, _, clear, _ in FAULTS:
        for size in sizes:
            rows = [f for f in faults if f["fault"] == kind and f["size"] == size]
            if not rows:
                continue
            delays = sorted(f["delay_h"] for f in rows if f["detected"])
            sure = [f for f in rows if f["clear"]]
            print(f"{kind:10} {size:7g} {len(rows):5} {100 * len(delays) / len(rows):5.0f}%"
                  f"{sum(f['detected'] for f in sure):6} of{len(sure):3} {delays[len(delays) // 2] if delays else float('nan'):10.1f}"
                  f" {delays[-1] if delays else float('nan'):8.1f}    {' '.join(f['load'] + '!' * f['clear'] for f in rows if not f['detected'])[:200]}")
    clear = [f for f in faults if f["clear"]]
    share = sum(f["detected"] for f in clear) / max(1, len(clear))
    print(f"clear faults found: {sum(f['detected'] for f in clear)} of {len(clear)}, {100 * share:.0f} %")
    return share


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--traces")
    p.add_argument("--refit")
    p.add_argument("--days", type=int, default=24)
    p.add_argument("--json")
    p.add_argument("--only", default="")
    p.add_argument("--quick", action="store_true", help="only the sizes that are clear")
    p.add_argument("--no-faults", action="store_true")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="nilm-alerts-") as folder:
        bench = Bench(args, folder)
        if not bench.loads:
            sys.exit("nothing to replay: --traces and --refit name no recordings")
        before = bench.undisturbed()
        for r in before:
            print(f"{r['load']:40} {r['weeks']:5.2f} weeks, false alerts {r['false']}")
            for a in r["alerts"]:
                if a["alert"] != "meter_silent":
                    print(f"    {datetime.datetime.utcfromtimestamp(a['raised_ms'] / 1000)} {a['alert']}: expected {a['expected']}; seen {a['seen']}")
        for name, picked in (("tracebase household", [f"{c}-{d}" for c, d in HOUSEHOLD]), ("REFIT house 2", None), ("all", 0)):
            rows = [r for r in before if r["weeks"] > 0 and
                    (picked == 0 or (r["load"] in picked if picked else r["load"].startswith("refit")))]
            print(f"{name}: {len(rows)} loads, {sum(r['false'] / r['weeks'] for r in rows):.2f} false alerts a week")
        faults = [] if args.no_faults else bench.faults(before)
        share = table(faults) if faults else None
        if args.json:
            with open(args.json, "w") as f:
                json.dump({"undisturbed": before, "faults": faults, "clear_share": share}, f, indent=1)


main()
