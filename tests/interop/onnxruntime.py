#!/usr/bin/python3
"""onnxruntime.py BUILD - our ONNX exports run in ONNX Runtime (its library comes inside the npm package onnxruntime-node).

FP32: the benchmark networks (NILM_BENCH, or bench beside NILM_DATA), imported and exported again, against their reference logits.
INT8: the shipped models as QDQ against the logits of their golden vectors, which the engine reproduces bit for bit.
The first class must be the same on at least 99.5 % of the windows. Exit code 77: skipped, the message says why."""
import array
import math
import os
import shutil
import struct
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


def skip(text):
    print("skipped: " + text)
    sys.exit(77)


def floats(data):
    values = array.array("f")
    values.frombytes(data)
    return values


def feature(kind, full, now, before):
    """inference/model.h, enum model_feature."""
    watts = min(max(now, 0.0), full)
    if kind == 1:
        return watts / full
    if kind == 2:
        return math.log1p(watts) / math.log1p(full)
    difference = min(max(now - before, -full), full)
    return math.copysign(math.log1p(abs(difference)) / math.log1p(full), difference)


def golden(path):
    """Features [channel][time] and logits of an INT8 model's golden vectors (SPEC 1.3 to 1.9)."""
    data = open(path, "rb").read()
    section = {}
    for i in range(7):
        tag, offset, length = struct.unpack_from("<4sII", data, 32 + 16 * i)
        section[tag.decode()] = data[offset:offset + length]
    (window,) = struct.unpack_from("<I", section["HEAD"], 8)
    channels, _, classes, count = struct.unpack_from("<4I", section["HEAD"], 28)
    kinds = [struct.unpack_from("<If", section["CHAN"], c * (8 + 255 * 4)) for c in range(channels)]
    numbers, features, logits = floats(section["GOLD"]), array.array("f"), array.array("f")
    for g in range(count):
        row = numbers[g * (window + 1 + classes):(g + 1) * (window + 1 + classes)]
        for kind, full in kinds:
            features.extend(feature(kind, full, row[t + 1], row[t]) for t in range(window))
        logits.extend(row[window + 1:])
    return features, logits, count, channels, window


def check(folder, name, onnx, features, logits, count, channels, window):
    """Windows with the same first class, of count."""
    with open(f"{folder}/x", "wb") as f:
        features.tofile(f)
    subprocess.run(["node", "run.js", onnx, "x", "y", str(count), str(channels), str(window)], cwd=folder, check=True)
    answers = floats(open(f"{folder}/y", "rb").read())
    classes, same = len(logits) // count, 0
    for i in range(count):
        ours, theirs = (list(v[i * classes:(i + 1) * classes]) for v in (logits, answers))
        same += ours.index(max(ours)) == theirs.index(max(theirs))
    print(f"{name}: same first class on {same} of {count} windows")
    return same


def networks(tool, folder):
    """(name, ONNX file, features, logits, count, channels, window) of each."""
    data = os.environ.get("NILM_DATA")
    bench = os.environ.get("NILM_BENCH") or (data and os.path.join(data, "..", "bench"))
    if bench and os.path.isdir(bench):
        inputs = floats(open(f"{bench}/inputs_64x512.f32", "rb").read())
        for name in ("base", "pruned"):
            subprocess.run([tool, "import", "--onnx", f"{bench}/{name}_fp32.onnx", "--out", f"{folder}/{name}.nilm"], check=True)
            subprocess.run([tool, "export", "--model", f"{folder}/{name}.nilm", "--out", f"{folder}/{name}.onnx"], check=True)
            logits = floats(open(f"{bench}/{name}_logits_64x32.f32", "rb").read())
            yield name, f"{folder}/{name}.onnx", inputs, logits, 64, 1, 512
    else:
        print("no benchmark networks: INT8 only")
    for name in ("identify-int8", "identify-pruned-int8"):
        model = f"inference/models/{name}.nilm"
        subprocess.run([tool, "export", "--model", model, "--out", f"{folder}/{name}.onnx"], check=True)
        yield name, f"{folder}/{name}.onnx", *golden(model)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: onnxruntime.py BUILD")
    tool = os.path.abspath(os.path.join(sys.argv[1], "agent", "nilm-model"))
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
        same = total = 0
        for network in networks(tool, folder):
            same += check(folder, *network)
            total += network[4]
    print(f"{same} of {total}")
    if not total or same < 0.995 * total:
        sys.exit("FAIL  expected the same first class on at least 99.5 %")


main()
