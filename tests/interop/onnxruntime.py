#!/usr/bin/python3
"""onnxruntime.py BUILD [MODEL ...] - our ONNX exports run in ONNX Runtime (its library comes inside the npm package onnxruntime-node).

Each model is exported, INT8 as QDQ, and run on windows: real ones with NILM_DATA (6,000 where there are as many), made-up ones without.
Our own answers come from the code that is deployed (interop_answers). Models: the shipped ones, an FP32 network trained here on a few
made-up days, the benchmark networks where they are (NILM_BENCH, or bench beside NILM_DATA) and those named.
The first class must be the same on at least 99.5 % of the windows of each. Exit code 77: skipped, the message says why."""
import array
import glob
import os
import shutil
import subprocess
import sys
import tempfile

RUN = """
const ort = require('onnxruntime-node'), fs = require('fs');
(async () => {
  const [, , model, input, output, n, channels, window] = process.argv;
  const bytes = fs.readFileSync(input);
  const x = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const session = await ort.InferenceSession.create(model);
  const result = await session.run({features: new ort.Tensor('float32', x, [+n, +channels, +window])});
  fs.writeFileSync(output, Buffer.from(result.probabilities.data.buffer));
})().catch(e => { console.error(e.message); process.exit(1); });
"""


WINDOWS = 6000


def skip(text):
    print("skipped: " + text)
    sys.exit(77)


def floats(data):
    values = array.array("f")
    values.frombytes(data)
    return values


def make_network(tool, folder):
    """A small FP32 network, trained on made-up days in tracebase's layout: each class has its own power and rhythm."""
    for label, watts, on, off in (("Lamp", 60, 40, 30), ("Kettle", 2000, 15, 60), ("Iron", 1100, 5, 9)):
        os.makedirs(f"{folder}/days/{label}")
        for day in range(1, 9):
            with open(f"{folder}/days/{label}/dev_{watts:06X}_2012.01.{day:02}.csv", "w") as f:
                for s in range(1800):
                    power = watts + s * 7 % 5 if (s + day * 17) % (on + off) < on else 0
                    f.write(f"{day:02}/01/2012 10:{s // 60:02}:{s % 60:02};{power};{power}\n")
    subprocess.run([tool, "train", "--data", f"{folder}/days", "--out", f"{folder}/small.nilm", "--period-ms", "1000", "--window", "128",
                    "--stride", "8", "--widths", "8,12", "--taps", "5,3", "--pools", "2,2", "--hidden", "16", "--epochs", "4", "--quiet"],
                   check=True, stdout=subprocess.DEVNULL)
    return f"{folder}/small.nilm"


def models(tool, folder, named):
    yield make_network(tool, folder)
    data = os.environ.get("NILM_DATA")
    bench = os.environ.get("NILM_BENCH") or (data and os.path.join(data, "..", "bench"))
    for name in ("base", "pruned"):
        if bench and os.path.isdir(bench):
            subprocess.run([tool, "import", "--onnx", f"{bench}/{name}_fp32.onnx", "--out", f"{folder}/{name}.nilm"], check=True,
                           stdout=subprocess.DEVNULL)
            yield f"{folder}/{name}.nilm"
    yield from sorted(glob.glob("inference/models/*.nilm"))
    yield from named


def check(tool, answers, folder, model):
    """The share of windows with the same first class."""
    data = os.environ.get("NILM_DATA")
    source = ["data", os.path.join(data, "tracebase", "sample")] if data else ["made-up"]
    subprocess.run([tool, "export", "--model", model, "--out", f"{folder}/net.onnx"], check=True, stdout=subprocess.DEVNULL)
    shape = subprocess.run([answers, model, *source, str(WINDOWS), f"{folder}/x", f"{folder}/ours"], check=True, capture_output=True,
                           text=True).stdout.split()
    subprocess.run(["node", "run.js", "net.onnx", "x", "theirs", *shape[:3]], cwd=folder, check=True)
    ours, theirs = (floats(open(f"{folder}/{name}", "rb").read()) for name in ("ours", "theirs"))
    count, classes = int(shape[0]), int(shape[3])
    if not count or len(ours) != count * classes or len(theirs) != len(ours):
        sys.exit(f"FAIL  {model}: {count} windows, {len(ours)} and {len(theirs)} answers")
    same = 0
    for i in range(0, len(ours), classes):
        a, b = ours[i:i + classes], theirs[i:i + classes]
        same += a.index(max(a)) == b.index(max(b))
    firsts = {ours[i:i + classes].index(max(ours[i:i + classes])) for i in range(0, len(ours), classes)}
    difference = max(abs(a - b) for a, b in zip(ours, theirs))
    print(f"{os.path.basename(model)}: same first class on {same} of {count} {'real' if data else 'made-up'} windows ({100 * same / count:.3f} %), "
          f"{len(firsts)} classes, probabilities differ by at most {difference:.2g}", flush=True)
    if len(firsts) < 2:
        sys.exit(f"FAIL  {model}: all windows are of one class, which shows nothing")
    return same / count


def main():
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]):
        sys.exit("usage: onnxruntime.py BUILD [MODEL ...]")
    tool, answers = (os.path.abspath(os.path.join(sys.argv[1], name)) for name in ("agent/nilm-model", "tests/interop_answers"))
    named = [os.path.abspath(m) for m in sys.argv[2:]]
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    if not shutil.which("npm") or not shutil.which("node"):
        skip("needs node and npm")
    with tempfile.TemporaryDirectory(prefix="nilm-interop-") as folder:
        # Without its install script, which would fetch libraries for graphics processors.
        install = subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "onnxruntime-node"], cwd=folder,
                                 capture_output=True, text=True, timeout=600)
        if install.returncode:
            skip("npm could not install onnxruntime-node: " + install.stderr.strip()[-300:])
        with open(f"{folder}/run.js", "w") as f:
            f.write(RUN)
        shares = [check(tool, answers, folder, model) for model in models(tool, folder, named)]
    if min(shares) < 0.995:
        sys.exit("FAIL  expected the same first class on at least 99.5 %")


main()
