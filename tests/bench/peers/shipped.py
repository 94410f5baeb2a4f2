#!/usr/bin/python3
"""shipped.py BUILD [ROUNDS] - the engine on the shipped models beside ONNX Runtime on their ONNX exports (QDQ): both pinned to core 0, one
thread, turns of 10 ms. ONNX Runtime starts from the features as floats, the engine from watts. The first class has to be that of
the engine on at least 61 of 64 windows. For a mains model also the agent's whole path (`nilm-model separate`: readings at 1 Hz to
runs and energies), for each result of the network. ONNX Runtime's library is the one that run.py installs in its work folder."""
import array
import glob
import json
import os
import random
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
WORK = os.path.join(os.environ.get("TMPDIR", "/tmp"), "nilm-peers")
COUNT, NEEDED = 64, 61


def build(name, source, *flags):
    subprocess.run(["gcc", "-std=gnu17", "-O2", "-o", f"{WORK}/{name}", f"{HERE}/{source}", "-I", ROOT, *flags], check=True)
    return f"{WORK}/{name}"


def firsts(path, classes):
    values = array.array("f", open(path, "rb").read())
    return [values[i * classes:(i + 1) * classes].index(max(values[i * classes:(i + 1) * classes])) for i in range(COUNT)]


def made_up_mains(path, days):
    """A meter at 1 Hz whose loads switch at random: what the path costs depends little on what it sees."""
    chance = random.Random(1)
    loads = [(40.0, 400), (90.0, 1200), (600.0, 90), (1300.0, 120), (2100.0, 240)]
    until, on = [0.0] * len(loads), [False] * len(loads)
    with open(path, "w", encoding="ascii") as out:
        out.write("time,watts\n")
        for t in range(days * 86400):
            for i, (_, seconds) in enumerate(loads):
                if t >= until[i]:
                    on[i] = not on[i]
                    until[i] = t + seconds * chance.uniform(0.5, 2.0) * (1 if on[i] else 4)
            watts = 120 + sum(w for (w, _), is_on in zip(loads, on) if is_on) + chance.gauss(0, 2)
            out.write(f"{1700000000 + t},{watts:.0f}\n")


def whole_path(folder, model, rounds):
    """Microseconds of processor time that the agent's path takes for each result of the network, and the share of a core."""
    made_up_mains(f"{WORK}/mains.csv", 2)
    command = ["taskset", "-c", "0", f"{folder}/agent/nilm-model", "separate", "--json", "--model", model, f"{WORK}/mains.csv"]
    times, shares = [], []
    for _ in range(max(3, rounds // 8)):
        report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        times.append(1e6 * report["seconds"] / report["inferences"])
        shares.append(report["seconds"] / report["readings"])
    return statistics.median(times), statistics.median(shares), report["memory_bytes"]


def measure(folder, model, library, rounds):
    mains = os.path.basename(model).startswith("mains")
    name = os.path.basename(model)
    subprocess.run([f"{folder}/agent/nilm-model", "export", "--model", model, "--out", f"{WORK}/net.onnx"], check=True, stdout=subprocess.DEVNULL)
    shape = subprocess.run([f"{folder}/tests/interop_answers", model, "made-up", str(COUNT), f"{WORK}/x", f"{WORK}/y"], check=True,
                           capture_output=True, text=True).stdout.split()
    _, channels, window, classes = map(int, shape)
    sizes = [f"-DPEER_WINDOW={channels * window}", f"-DPEER_CLASSES={classes}"]
    ours = build("shipped", "shipped.c", *sizes, f"{folder}/inference/libnilm_inference.a", "-lm")
    ort = build("shipped-ort", "ort.c", *sizes, f"-DORT_CHANNELS={channels}", '-DORT_INPUT="features"', '-DORT_OUTPUT="probabilities"', "-ldl", "-lm")
    running = {}
    for title, command in (("ONNX Runtime", [ort, "-", f"{WORK}/x", f"{WORK}/theirs", library, f"{WORK}/net.onnx"]),
                           ("ours", [ours, model, f"{WORK}/x", f"{WORK}/none"]),
                           ("ours, hop of 4" if mains else "ours, hop of 32", [ours, model, f"{WORK}/x", f"{WORK}/none", "4" if mains else "32"])):
        p = subprocess.Popen(["taskset", "-c", "0", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if p.stdout.readline() != "ready\n":
            sys.exit(f"FAIL  {title} does not run here")
        running[title] = (p, [])
    same = sum(a == b for a, b in zip(firsts(f"{WORK}/theirs", classes), firsts(f"{WORK}/y", classes)))
    for _ in range(rounds):
        for p, times in running.values():
            p.stdin.write("10\n")
            p.stdin.flush()
            times.append(float(p.stdout.readline()))
    for title, (p, times) in running.items():
        ratio = statistics.median(a / b for a, b in zip(times, running["ONNX Runtime"][1]))
        print(f"| {name} | {title} | {statistics.median(times):.2f} | {ratio:.3f} | {same} |")
        p.stdin.close()
        p.wait()
    if mains:
        us, share, memory = whole_path(folder, model, rounds)
        ratio = us / statistics.median(running["ONNX Runtime"][1])
        print(f"| {name} | ours, whole path at 1 Hz | {us:.2f} | {ratio:.3f} | {100 * share:.5f} % of a core, {memory} bytes |")
    if same < NEEDED:
        sys.exit(f"FAIL  {name}: same first class on {same} of {COUNT} windows")


def main():
    found = glob.glob(f"{WORK}/node_modules/onnxruntime-node/bin/napi-v*/linux/*/libonnxruntime.so.1")
    if len(sys.argv) < 2 or not found:
        print("usage: shipped.py BUILD [ROUNDS], after run.py, which installs ONNX Runtime")
        sys.exit(77)
    print("| model | engine | median us | / ONNX Runtime | same class of 64 |\n|---|---|---|---|---|")
    for name in ("identify-int8", "identify-pruned-int8", "mains-int8", "mains-pruned-int8"):
        measure(os.path.abspath(sys.argv[1]), f"{ROOT}/inference/models/{name}.nilm", found[0], int(sys.argv[2]) if len(sys.argv) > 2 else 40)


main()
