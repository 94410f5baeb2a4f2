#!/usr/bin/python3
"""household.py BUILD [--data DIR] [--model M ...]: how well a sum is separated, on REFIT house 2.

The agent's pipeline (nilm-model separate) runs over the two recorded weeks of $NILM_DATA/refit, each by itself, and nilm-model
score judges it: F1 of the starts, of the state by minute, and the energy of each appliance. Beside it the two classic methods
(nilm-model baseline): with power levels from tracebase ($NILM_DATA/tracebase/sample), and with those of the house's other week,
labels and all. No label of the house is used by the first. Markdown on standard output; --json: one object.
"""
import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile

NAMES = {"fridge": "Refrigerator", "washing_machine": "Washingmachine", "dishwasher": "Dishwasher", "microwave": "MicrowaveOven"}
MAP = ",".join(f"{ours}={theirs}" for theirs, ours in NAMES.items())


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"household.py: {' '.join(command)}\n{done.stderr}")
    return done.stdout


def score(tool, events, truth, week):
    return json.loads(run(tool, "score", "--events", events, "--truth", truth, "--map", MAP, "--data", week, "--json"))


def methods(tool, models, weeks, week, sample, work):
    """Yields (name, events file) for one week."""
    other = [w for w in weeks if w != week]
    for model in models:
        out = os.path.join(work, "separate.csv")
        report = json.loads(run(tool, "separate", "--model", model, "--column", "aggregate", "--out", out, "--json", week))
        yield f"separate, {os.path.basename(model)}", out, report
    for method in ("hart", "combinatorial"):
        out = os.path.join(work, f"{method}.jsonl")
        if os.path.isdir(sample):
            names = ",".join(f"{ours}={theirs}" for theirs, ours in NAMES.items())
            run(tool, "baseline", method, "--train", sample, "--data", week, "--out", out, "--names", names)
            yield f"{method}, levels of tracebase", out, None
        if other:
            run(tool, "baseline", method, "--train", other[0], "--data", week, "--out", out)
            yield f"{method}, levels of the other week", out, None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--data", default=os.environ.get("NILM_DATA"))
    parser.add_argument("--model", action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.data:
        print("household.py: NILM_DATA is not set: no recorded home", file=sys.stderr)
        return 77
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    models = options.model or sorted(glob.glob(os.path.join(root, "inference/models/mains-*int8.nilm")))
    tool = os.path.join(options.build, "agent/nilm-model")
    weeks = sorted(glob.glob(os.path.join(options.data, "refit/*.csv")))
    sample = os.path.join(options.data, "tracebase/sample")
    result = []
    with tempfile.TemporaryDirectory() as work:
        for week in weeks:
            truth = os.path.join(work, "truth.csv")
            run(tool, "truth", "--data", week, "--out", truth)
            for name, events, report in methods(tool, models, weeks, week, sample, work):
                result.append({"week": os.path.basename(week)[9:19], "method": name, "report": report, "score": score(tool, events, truth, week)})
    if options.json:
        print(json.dumps(result))
        return 0
    print("| week from | method | " + " | ".join(f"{n}: starts, state, energy" for n in NAMES) + " | macro F1 of starts | of the state | energy off by |")
    print("|---" * (len(NAMES) + 5) + "|")
    for r in result:
        s, cells = r["score"], []
        for name in NAMES:
            a = next((a for a in s["appliances"] if a["name"] == name), None)
            cells.append("-" if not a else " ".join(show(x) for x in (a["f1"], a["state_f1"], a["energy_error"])))
        print(f"| {r['week']} | {r['method']} | " + " | ".join(cells) + f" | {show(s['f1_macro'])} | {show(s['state_f1_macro'])} | {show(s['energy_error_macro'])} |")
    return 0


def show(x):
    return "-" if x is None else f"{x:.2f}"


sys.exit(main())
