"""nilm-model compare as a user runs it: a whole run on made-up traces whose class names are hostile, runs that are killed at
several moments and go on, and reports that parsers other than ours can read."""
import csv
import html.parser
import json
import math
import os
import random
import signal
import subprocess
import tempfile
import time

from harness import NILM_MODEL as PROGRAM, check, done, wait_for

NAMES = ["<script>alert(1)", "=cmd|'calc'!A0", "a|b`*c*`", "Kettle & \"Co\""]
NETWORK = "--widths 12,16 --taps 5,5 --pools 4,4 --hidden 32 --window 128 --stride 32 --epoch-windows 1024"
VOID = {"meta", "br"}


def write_traces(folder):
    """Four classes, two devices of each, seven days of five hours."""
    numbers = random.Random(1)
    for k, name in enumerate(NAMES):
        os.makedirs(os.path.join(folder, name))
        for device in "AB":
            for day in range(1, 8):
                level, period, phase = (2000, 90, 400, 1200)[k], (600, 300, 900, 1800)[k], numbers.randrange(900)
                with open(os.path.join(folder, name, f"dev_{device}{k}0000{k}_2011.09.{day:02d}.csv"), "w") as f:
                    for t in range(0, 5 * 3600, 8):
                        watts = int(level * numbers.gauss(1, 0.03)) if (t + phase) % period < period / 2 else 0
                        f.write(f"{day:02d}/09/2011 {t // 3600:02d}:{t // 60 % 60:02d}:{t % 60:02d};{watts};{watts}\n")


def arguments(data, base, out):
    return [PROGRAM, "compare", "--data", data, "--out", out, "--base", base, "--quick", "--quiet", "--json",
            "--epoch-windows", "256", "--sweep-windows", "100", "--taylor-windows", "32", "--latency-rounds", "2",
            "--latency-ms", "0"]


def without_base(data, out):
    line = arguments(data, "", out)
    at = line.index("--base")
    return line[:at] + line[at + 2:]


def without_times(result):
    """What two runs must agree in."""
    result = json.loads(json.dumps(result))
    del result["seconds"]
    for stage in result["stages"]:
        del stage["seconds"]
    for model in result["models"]:
        del model["latency"]
    for table in result["tables"].values():
        for row in table:
            for key in ("time_us", "faster"):
                row.pop(key, None)
    return result


def finished(out):
    work = os.path.join(out, "work")
    return sum(name.endswith(".done") for name in os.listdir(work)) if os.path.isdir(work) else 0


def whole(data, base, out):
    run = subprocess.run(arguments(data, base, out), capture_output=True, text=True)
    check(run.returncode == 0, f"a whole run ends with 0 {run.stderr.strip()[:300]}")
    return json.loads(run.stdout)


def killed(data, base, out, expected):
    """Killed when so many stages are done, and once more a moment into a stage; then left to its end."""
    for stages in (0, 2, 7, 20):
        process = subprocess.Popen(arguments(data, base, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(lambda: finished(out) > stages or process.poll() is not None, 120, 0.002)
        time.sleep(0.02)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        check(alive, f"killed after {finished(out)} stages")
    before = {name: os.stat(os.path.join(out, "work", name)).st_mtime_ns
              for name in os.listdir(os.path.join(out, "work")) if name.endswith(".done")}
    run = subprocess.run(arguments(data, base, out), capture_output=True, text=True)
    check(run.returncode == 0, f"the run after four kills ends with 0 {run.stderr.strip()[:300]}")
    same = all(os.stat(os.path.join(out, "work", name)).st_mtime_ns == then for name, then in before.items())
    check(same and len(before) > 20, f"the {len(before)} stages that were done were not done again")
    left = [n for n in os.listdir(os.path.join(out, "work")) if not n.endswith((".nilm", ".json", ".done", ".log"))]
    check(not left, f"nothing half written is left {left}")
    check(without_times(json.loads(run.stdout)) == without_times(expected), "and gives the result of the run that nobody killed")


def damaged(data, base, out, expected):
    """A stage's files are changed behind its back: it, and what depends on its bytes, is done again."""
    path = os.path.join(out, "work", "base-int8.nilm")
    with open(path, "r+b") as f:
        f.write(b"garbage")
    run = subprocess.run(arguments(data, base, out), capture_output=True, text=True)
    check(run.returncode == 0 and without_times(json.loads(run.stdout)) == without_times(expected),
          "a damaged file of a stage is made again")


class Page(html.parser.HTMLParser):
    """Counts what is open and what a browser would fetch or run."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack, self.bad, self.tags, self.text = [], [], {}, []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag not in VOID:
            self.stack.append(tag)
        self.bad += [f"{tag} {key}={value}" for key, value in attrs if key.startswith("on") or key in ("src", "href")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.bad.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.text.append(data)


def reports(out, result):
    page = Page()
    page.feed(open(os.path.join(out, "report.html"), encoding="utf-8").read())
    page.close()
    text = "".join(page.text)
    check(not page.stack and not page.bad, f"report.html: every tag is closed, nothing is fetched {page.bad[:3]} {page.stack[-3:]}")
    check("script" not in page.tags and "b" not in page.tags, "report.html: class names are text, not tags")
    check(all(text.count(name) >= 4 for name in NAMES), "report.html: both confusion matrices name every class")
    check(page.tags.get("table") == 2 and "0.68" in text and "87 %" in text and "65 %" in text, "report.html: the article's tables and figures")
    check(page.tags.get("svg", 0) >= 6 and "NaN" not in text and "nan" not in text.lower().replace("inference", ""), "report.html: charts without holes")

    markdown = open(os.path.join(out, "report.md"), encoding="utf-8").read()
    tables = [block for block in markdown.split("\n\n") if block.startswith("|")]
    cells = [[len(line.replace("\\|", "").split("|")) for line in block.strip().split("\n")] for block in tables]
    check(len(tables) == 3 and all(len(set(counts)) == 1 for counts in cells), "report.md: three tables, rows as long as their heads")
    check("<script" not in markdown, "report.md: no tag of a class name")

    models = list(csv.DictReader(open(os.path.join(out, "models.csv"), newline="", encoding="utf-8")))
    check([m["name"] for m in models] == [m["name"] for m in result["models"]] and all(None not in m and None not in m.values() for m in models),
          "models.csv: a whole row for each model")
    check(all(math.isclose(float(m["test_f1_macro"]), r["test"]["f1_macro"]) for m, r in zip(models, result["models"])), "models.csv: the figures of result.json")
    classes = list(csv.reader(open(os.path.join(out, "classes.csv"), newline="", encoding="utf-8")))
    check({row[0].lstrip("'") for row in classes[1:]} == set(NAMES), "classes.csv: every class")
    check(not any(cell[:1] in "=+-@" and cell for row in classes for cell in row), "classes.csv: no cell that a spreadsheet would compute")
    sweep = list(csv.DictReader(open(os.path.join(out, "sweep.csv"), newline="", encoding="utf-8")))
    check(len({(p["criterion"], p["scope"]) for p in sweep}) == 9 and len(sweep) > 50, "sweep.csv: eight variants and the base")
    check(json.load(open(os.path.join(out, "result.json"))) == result, "result.json is what --json prints")


def figures(result):
    """Figures that can be worked out from others."""
    base = result["models"][0]
    for w in result["within"]:
        m = next(m for m in result["models"] if m["name"] == w["model"])
        fit = [k for k in result["models"] if k["valid"]["f1_macro"] >= base["valid"]["f1_macro"] - w["drop"] - 1e-9]
        check(m in fit and all(k["size_bytes"] >= m["size_bytes"] for k in fit), f"within {w['drop']}: {w['model']} is the smallest")
    candidates = [m for m in result["models"] if m["kind"] == "candidate"]
    best = max(candidates, key=lambda m: m["valid"]["f1_macro"])
    check(len(candidates) == 8 and result["chosen"]["criterion"] == best["criterion"] and result["chosen"]["scope"] == best["scope"],
          "the validation part chose the variant")
    zero = result["sweep"][0]
    check(zero["ratio"] == 0 and all(p["parameters"] <= zero["parameters"] for p in result["sweep"]), "pruned networks are smaller")


def by_hand(data, base, out, result):
    """A command of the report, run by hand, gives the figure of the report."""
    stage = next(s for s in result["stages"] if s["name"] == "eval-test-base-fp32")
    shell = subprocess.run(["sh", "-c", stage["command"].replace("nilm-model", f'"{PROGRAM}"', 1)], capture_output=True, text=True,
                           env={**os.environ, "DATA": data, "BASE": base, "OUT": out})
    check(shell.returncode == 0 and json.loads(shell.stdout)["f1_macro"] == result["models"][0]["test"]["f1_macro"],
          f"a command of the report gives its figure {shell.stderr.strip()[:200]}")


def from_scratch(data, out):
    """Without --base: killed while it trains the base, it trains it again; the sizes to prune to come from it."""
    more = ["--train-options", NETWORK, "--epochs", "2"]
    process = subprocess.Popen(without_base(data, out) + more, stdout=subprocess.DEVNULL)
    wait_for(lambda: os.path.exists(os.path.join(out, "work", "base-fp32.json.part")), 60, 0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    check(finished(out) == 0, "killed while the base is trained")
    plan = subprocess.run(without_base(data, out) + more + ["--plan"], capture_output=True, text=True)
    check(plan.returncode == 0 and "CRITERION" in plan.stdout and finished(out) == 0, "--plan runs nothing")
    run = subprocess.run(without_base(data, out) + more, capture_output=True, text=True)
    check(run.returncode == 0, f"it goes on {run.stderr.strip()[:300]}")
    result = json.loads(run.stdout)
    parameters = result["models"][0]["parameters"]
    sizes = [m["parameters"] for m in result["models"] if "share" in m]
    check(len(sizes) == 11 and all(n <= 0.28 * parameters for n in sizes), "what is cut to 28 % of the base has at most that")
    check([r["kind"] for r in result["tables"]["combined"]] == ["base", "base_int8", "pruned", "pruned_int8", "pruned_int8_aware"],
          "the combined table has its rows")


def refusals(data, base, out):
    def told(words, *more):
        run = subprocess.run([PROGRAM, "compare", *more], capture_output=True, text=True)
        check(run.returncode in (1, 2) and words in run.stderr, f"refused: {words} ({run.returncode}: {run.stderr.strip()[:200]})")
    told("--data is required", "--out", out)
    told("not none", "--data", data, "--out", out, "--split", "none")
    told("expected an FP32 model", "--data", data, "--out", out, "--base", os.path.join(out, "work", "base-int8.nilm"))
    told("no-such", "--data", data + "/no-such", "--out", out)
    told("--budget", "--data", data, "--out", out + "2", "--base", base, "--epochs", "1", "--latency-ms", "9000", "--latency-rounds", "99", "--budget", "1")
    told("stage cut-l1-local-ratio50 failed: nilm-model: prune: unknown option", "--data", data, "--out", out + "3", "--base", base, "--quick",
         "--epoch-windows", "64", "--sweep-windows", "8", "--taylor-windows", "1", "--quiet", "--prune-options", "--no-such-option")


with tempfile.TemporaryDirectory(prefix="nilm-compare-") as root:
    traces, model = os.path.join(root, "data"), os.path.join(root, "base.nilm")
    write_traces(traces)
    subprocess.run([PROGRAM, "train", "--data", traces, "--out", model, *NETWORK.split(), "--epochs", "3", "--quiet"],
                   check=True, stdout=subprocess.DEVNULL)
    first = os.path.join(root, "whole")
    expected = whole(traces, model, first)
    reports(first, expected)
    figures(expected)
    by_hand(traces, model, first, expected)
    killed(traces, model, os.path.join(root, "killed"), expected)
    damaged(traces, model, first, expected)
    from_scratch(traces, os.path.join(root, "scratch"))
    refusals(traces, model, first)
done()
