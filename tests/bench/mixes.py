#!/usr/bin/python3
"""mixes.py BUILD --data TRACEBASE [--model M] [--part valid|test] [--seeds 11,12,13] [--loads 1,2,..8] [--plain] [--period-ms MS] [--svg FILE] [--json]

How well a sum is separated, by the number of named appliances in a home: the agent's pipeline (nilm-model separate) over homes
mixed from tracebase's days of one side of the split (nilm-model mix), judged by nilm-model score. Rules are tuned on part valid;
part test is for the figure at the end. Printed are F1 of the starts by number of loads, a table by appliance, and why starts were
missed or wrong: told too early or too late (the run is there), taken for another appliance, a piece of a run that is told, or
nothing there at all. --plain: recordings added up, without base load, noise and what a meter does. --period-ms: between readings
(8000). --svg: the chart. --work DIR keeps the mixed homes for the next call.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

NEAR_MS = 30000  # a start is right so near, or within a tenth of the run
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 50, 20, 40, 50


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"mixes.py: {' '.join(command)}\n{done.stderr}")
    return done.stdout


def read_runs(path, ends):
    """Runs by appliance, in order of time, and the stretches that are not judged."""
    runs, not_judged = defaultdict(list), []
    with open(path) as f:
        for row in csv.DictReader(f):
            start, end = int(row["start_ms"]), int(row[ends])
            if row["appliance"] in ("_gap", "_flat"):
                not_judged.append((start, end))
            elif row["appliance"][0] != "_":
                runs[row["appliance"]].append((start, end))
    left = defaultdict(list)
    for name in runs:
        left[name] = [r for r in runs[name] if any(a - 60000 <= r[0] <= b + 60000 for a, b in not_judged)]
        runs[name] = sorted(r for r in runs[name] if r not in left[name])
    return runs, left


def tolerance(r):
    return max(NEAR_MS, (r[1] - r[0]) / 10)


def pair(said, true):
    """Indices of said and true runs whose starts belong together, as score pairs them."""
    pairs, used = {}, set()
    for i, s in enumerate(said):
        fit = [k for k, t in enumerate(true) if k not in used and abs(s[0] - t[0]) <= tolerance(t)]
        if fit:
            pairs[i] = min(fit, key=lambda k: true[k][0] + tolerance(true[k]))
            used.add(pairs[i])
    return pairs


def overlap(a, b):
    return min(a[1], b[1]) - max(a[0], b[0])


def causes(said, truth):
    """Counter of (appliance, 'missed' or 'wrong', cause)."""
    (said, _), (true, left) = said, truth
    said = {n: [s for s in said[n] if not any(overlap(s, t) > 0 for t in left[n])] for n in said}
    out = Counter()
    paired = {name: pair(said.get(name, []), true.get(name, [])) for name in set(said) | set(true)}

    def other(name, r, where, slack):
        return next((k for k in where if k != name for x in where[k] if abs(x[0] - r[0]) <= slack), None)

    for name, pairs in paired.items():
        mine, theirs = said.get(name, []), true.get(name, [])
        free = [s for i, s in enumerate(mine) if i not in pairs]
        for t in (t for k, t in enumerate(theirs) if k not in pairs.values()):
            held = [s for s in free if overlap(s, t) > 0]
            if held:
                first = min(held, key=lambda s: abs(s[0] - t[0]))
                cause = "too early" if first[0] < t[0] else "too late"
            elif any(overlap(s, t) > 0 for s in mine):
                cause = "joined to another"
            else:
                taken = other(name, t, said, tolerance(t))
                cause = f"taken for {taken}" if taken else "nothing said"
            out[name, "missed", cause] += 1
        for s in free:
            mine_true = [(k, t) for k, t in enumerate(theirs) if overlap(s, t) > 0]
            if mine_true:
                cause = "piece of a run" if any(k in pairs.values() for k, _ in mine_true) else "wrong start"
            else:
                taken = other(name, s, true, NEAR_MS) or next((k for k in true if k != name for t in true[k] if overlap(s, t) > 0), None)
                cause = f"is {taken}" if taken else "nothing there"
            out[name, "wrong", cause] += 1
    return out


def one(options, tool, loads, seed, work):
    base = os.path.join(work, f"{options.part}-{'plain-' * options.plain}{'' if options.period_ms == 8000 else f'{options.period_ms}-'}{options.homes}x{options.days}-{loads}-{seed}")
    home, truth, events = base + ".csv", base + "-truth.csv", base + f"-said-{os.getpid()}.csv"
    if not os.path.exists(truth):
        rules = os.path.join(os.path.dirname(__file__), "../../inference/models/mains.rules")
        run(tool, "mix", "--rules", rules, "--data", options.data, "--out", home, "--truth", truth, "--split", "day", "--part", options.part,
            "--homes", str(options.homes), "--days", str(options.days), "--loads", str(loads), "--seed", str(seed), "--quiet",
            "--period-ms", str(options.period_ms), *["--plain"] * options.plain)
    run(tool, "separate", "--model", options.model, "--column", "aggregate", "--out", events, home)
    judged = json.loads(run(tool, "score", "--events", events, "--truth", truth, "--data", home, "--json"))
    why = causes(read_runs(events, "end_ms"), read_runs(truth, "end_ms"))
    os.unlink(events)
    return loads, judged, why


def f1(row):
    total = row["true"] + row["said"]
    return 2 * row["right"] / total if total else 0.0


def add_up(results):
    """By number of loads and appliance, and over all of them: counts, energies, causes."""
    table = defaultdict(lambda: defaultdict(Counter))
    why = defaultdict(Counter)
    for loads, judged, causes_of in results:
        why[loads].update(causes_of)
        for a in judged["appliances"]:
            row = {"true": a["true"], "said": a["predicted"], "right": a["matched"], "true_wh": a["energy_true_wh"] or 0, "wh": a["energy_wh"] or 0}
            table[loads][a["name"]].update(row)
            table[loads]["all"].update(row)
    return table, why


def chart(table):
    loads = sorted(table)
    step = (WIDTH - LEFT - RIGHT) / max(len(loads), 1)

    def y(share):
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def text(x, at, words, anchor="middle"):
        return f'<text x="{x:.1f}" y="{at:.1f}" text-anchor="{anchor}" fill="#333">{words}</text>'

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts += [f'<line x1="{LEFT}" y1="{y(share):.1f}" x2="{WIDTH - RIGHT}" y2="{y(share):.1f}" stroke="#ccc"/>', text(LEFT - 8, y(share) + 4, f"{share:g}", "end")]
    for i, n in enumerate(loads):
        value, x = f1(table[n]["all"]), LEFT + (i + 0.2) * step
        parts += [f'<rect x="{x:.1f}" y="{y(value):.1f}" width="{0.6 * step:.1f}" height="{y(0) - y(value):.1f}" fill="#1f5fa8"/>',
                  text(x + 0.3 * step, y(value) - 6, f"{value:.2f}"), text(x + 0.3 * step, y(0) + 18, str(n))]
    parts += [text(LEFT, 20, "F1 of starts in mixed homes, days not trained on", "start"), text(WIDTH / 2, HEIGHT - 10, "named appliances in the home"), "</svg>"]
    return "\n".join(parts) + "\n"


def show(table, why, detail):
    print("| loads | true | said | right | F1 of starts |\n|---|---|---|---|---|")
    for n in sorted(table):
        row = table[n]["all"]
        print(f"| {n} | {row['true']} | {row['said']} | {row['right']} | {f1(row):.3f} |")
    for n in detail:
        print(f"\n{n} loads:\n\n| appliance | true | said | right | precision | recall | F1 | energy off by | missed | wrong |\n" + "|---" * 10 + "|")
        for name in sorted(table[n]):
            row = table[n][name]
            energy = f"{row['wh'] / row['true_wh'] - 1:+.2f}" if row["true_wh"] else "-"
            words = [", ".join(f"{cause} {count}" for (a, kind, cause), count in why[n].most_common() if a == name and kind == k) for k in ("missed", "wrong")]
            print(f"| {name} | {row['true']} | {row['said']} | {row['right']} | {row['right'] / max(row['said'], 1):.2f} | {row['right'] / max(row['true'], 1):.2f} "
                  f"| {f1(row):.3f} | {energy} | {words[0]} | {words[1]} |")


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=os.path.join(root, "inference/models/mains-int8.nilm"))
    parser.add_argument("--part", default="valid")
    parser.add_argument("--seeds", default="11,12,13")
    parser.add_argument("--loads", default="1,2,3,4,5,6,7,8")
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--period-ms", type=int, default=8000)
    parser.add_argument("--detail", default="3", help="numbers of loads with a table of their own")
    parser.add_argument("--work")
    parser.add_argument("--svg")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tool = os.path.join(options.build, "agent/nilm-model")
    with tempfile.TemporaryDirectory() as own:
        work = options.work or own
        os.makedirs(work, exist_ok=True)
        todo = [(int(n), int(seed)) for n in options.loads.split(",") for seed in options.seeds.split(",")]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda x: one(options, tool, x[0], x[1], work), todo))
    table, why = add_up(results)
    if options.svg:
        with open(options.svg, "w") as f:
            f.write(chart(table))
    if options.json:
        print(json.dumps({n: {a: dict(row, f1=f1(row)) for a, row in table[n].items()} for n in table}))
    else:
        show(table, why, [int(n) for n in options.detail.split(",") if int(n) in table])
    return 0


sys.exit(main())
