#!/usr/bin/python3
"""run.py - the engine and its peers on the benchmark networks, one table.

Installs what is missing (XNNPACK, oneDNN and PyTorch from Debian, ONNX Runtime's library from npm), builds a small program for each, gives
all of them the same weights, checks that they agree with the FP32 reference, and lets them work in turns of a few milliseconds: pinned to
one core, one thread, one window at a time, quantization of the input and softmax included. A peer that cannot be had here is named and
left out. A time is the median of the rounds' medians; ratios are taken round by round, so that what slows a whole round down cancels."""
import argparse
import array
import glob
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

import network_file

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
PACKAGES = {"xnnpack": ["libxnnpack-dev", "libpthreadpool-dev"], "onednn": ["libdnnl-dev", "g++"], "torch": ["python3-torch"],
            "ours": ["gcc", "cmake", "ninja-build"]}
CLASSES, WINDOWS, NEEDED = 32, 64, 61


def say(text):
    print(text, file=sys.stderr, flush=True)


def install(packages):
    """Whether these Debian packages are there now."""
    def missing():
        status = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages], capture_output=True, text=True)
        have = {line.split()[0] for line in status.stdout.splitlines() if line.endswith(" installed")}
        return [p for p in packages if p not in have]
    if missing() and os.geteuid() == 0:
        say("installing: " + " ".join(missing()))
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *missing()], stdout=subprocess.DEVNULL)
    return not missing()


def onnxruntime(work):
    """The library's path, or None."""
    found = f"{work}/node_modules/onnxruntime-node/bin/napi-v*/linux/{'x64' if platform.machine() == 'x86_64' else 'arm64'}/libonnxruntime.so.1"
    if not glob.glob(found) and shutil.which("npm"):
        say("installing: onnxruntime-node")
        subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", work, "onnxruntime-node"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return (glob.glob(found) or [None])[0]


def compile_program(work, name, source, *flags):
    """The program's path, or None with the compiler's words."""
    cc = ["g++", "-std=c++17"] if source.endswith(".cpp") else ["gcc", "-std=gnu17"]
    done = subprocess.run([*cc, "-O2", "-o", f"{work}/{name}", f"{HERE}/{source}", *flags], capture_output=True, text=True)
    if done.returncode:
        say(f"{name}: does not build:\n{done.stderr}")
    return None if done.returncode else f"{work}/{name}"


def build_ours(work, library):
    if not library:
        folder = f"{work}/engine"
        subprocess.run(["cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DNILM_TESTS=OFF",
                        "-DNILM_WORKSHOP=OFF"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", folder, "nilm_inference"], check=True, stdout=subprocess.DEVNULL)
        library = f"{folder}/inference/libnilm_inference.a"
    return compile_program(work, "ours", "ours.c", "-I", ROOT, library, "-lm")


def contenders(work, library):
    """(name, environment, command for a network) of everything that works here."""
    def network(name, *more):
        return lambda n: [f"{work}/{name}", f"{work}/{n}.net", "INPUTS", f"{work}/{name}.out", *(m.replace("NET", n) for m in more)]

    if build_ours(work, library):
        for cpu in ("", "avxvnni", "avx2", "scalar"):
            yield "ours" + (f", {cpu}" if cpu else ""), {"NILM_CPU": cpu}, network("ours", f"{work}/NET.nilm")
        yield "ours, hop of 32", {}, network("ours", f"{work}/NET.nilm", "hop")
    ort = onnxruntime(work)
    if ort and compile_program(work, "ort", "ort.c", "-ldl", "-lm"):
        yield "ONNX Runtime", {}, network("ort", ort, "BENCH/NET_int8_qdq.onnx")
        yield "ONNX Runtime FP32", {}, network("ort", ort, "BENCH/NET_fp32.onnx")
    else:
        say("left out: ONNX Runtime (needs npm and the package onnxruntime-node)")
    if install(PACKAGES["xnnpack"]) and compile_program(work, "xnnpack", "xnnpack.c", "-lXNNPACK", "-lm"):
        yield "XNNPACK", {}, network("xnnpack")
    else:
        say("left out: XNNPACK (needs " + " ".join(PACKAGES["xnnpack"]) + ")")
    if install(PACKAGES["onednn"]) and compile_program(work, "onednn", "onednn.cpp", "-ldnnl"):
        for isa in ("", "AVX512_CORE_VNNI", "AVX2"):
            yield "oneDNN" + (f", {isa}" if isa else ""), {"ONEDNN_MAX_CPU_ISA": isa} if isa else {}, network("onednn")
    else:
        say("left out: oneDNN (needs " + " ".join(PACKAGES["onednn"]) + ")")
    if install(PACKAGES["torch"]):
        for kind in ("", "fp32"):
            yield "PyTorch" + (" FP32" if kind else ""), {}, lambda n, kind=kind: [
                "/usr/bin/python3", f"{HERE}/torch_peer.py", f"{work}/{n}.net", "INPUTS", f"{work}/torch.out",
                f"BENCH/{n}_int8_qdq.onnx", f"BENCH/{n}_fp32.onnx", *([kind] if kind else [])]
    else:
        say("left out: PyTorch (needs python3-torch)")


def first_classes(path):
    values = array.array("f", open(path, "rb").read())
    rows = [values[i * CLASSES:(i + 1) * CLASSES] for i in range(WINDOWS)]
    return [row.index(max(row)) for row in rows]


class Contender:
    def __init__(self, name, environment, command, network, options):
        bench = options.bench
        command = [c.replace("BENCH", bench).replace("INPUTS", f"{bench}/inputs_64x512.f32") for c in command(network)]
        self.name, self.times, self.same = name, [], 0
        self.process = subprocess.Popen(["taskset", "-c", str(options.core), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment})
        if self.process.stdout.readline() != "ready\n":
            self.process.wait()
            raise RuntimeError("does not run here")
        reference = first_classes(f"{bench}/{network}_logits_64x32.f32")
        self.same = sum(a == b for a, b in zip(reference, first_classes(command[3] if "torch_peer" not in command[1] else command[4])))
        if self.same < NEEDED:
            raise RuntimeError(f"same first class on {self.same} of {WINDOWS} windows, expected {NEEDED}")

    def work(self, milliseconds):
        self.process.stdin.write(f"{milliseconds}\n")
        self.process.stdin.flush()
        self.times.append(float(self.process.stdout.readline()))

    def peak_mb(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def measure(network, found, options):
    running = []
    for name, environment, command in found:
        try:
            running.append(Contender(name, environment, command, network, options))
        except RuntimeError as e:
            say(f"left out: {name}: {e}")
    for i in range(options.rounds):
        for c in running:
            c.work(options.ms)
        if (i + 1) % 10 == 0:
            say(f"{network}: round {i + 1} of {options.rounds}")
    rows = []
    by_name = {c.name: c.times for c in running}
    for c in running:
        def ratio(to):
            return statistics.median(a / b for a, b in zip(c.times, by_name[to])) if to in by_name else None
        rows.append({"network": network, "name": c.name, "median_us": statistics.median(c.times), "least_us": min(c.times),
                     "to_onnxruntime": ratio("ONNX Runtime"), "to_onednn": ratio("oneDNN"), "to_onednn_avx2": ratio("oneDNN, AVX2"),
                     "same_first_class": c.same, "peak_mb": c.peak_mb()})
        c.stop()
    return rows


def processor():
    """What kind, without its name: the instructions that matter here."""
    flags = set()
    for line in open("/proc/cpuinfo"):
        if line.startswith(("flags", "Features")):
            flags |= set(line.split(":")[1].split())
    wanted = ("sse4_1", "avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp")
    return platform.machine() + " with " + ", ".join(f for f in wanted if f in flags)


def show(report):
    def number(x, digits):
        return "" if x is None else f"{x:.{digits}f}"
    print(f"{report['date']}, {report['processor']}, {report['rounds']} rounds\n")
    for network in ("base", "pruned"):
        print(f"| {network} | median us | least us | / ONNX Runtime | / oneDNN | / oneDNN AVX2 | same class of {WINDOWS} | peak MB |")
        print("|---|---|---|---|---|---|---|---|")
        for r in report["rows"]:
            if r["network"] == network:
                print(f"| {r['name']} | {r['median_us']:.2f} | {r['least_us']:.2f} | {number(r['to_onnxruntime'], 3)} | "
                      f"{number(r['to_onednn'], 3)} | {number(r['to_onednn_avx2'], 3)} | {r['same_first_class']} | {r['peak_mb']:.1f} |")
        print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", default=os.environ.get("NILM_BENCH"), help="folder of the benchmark networks (NILM_BENCH)")
    parser.add_argument("--work", default=os.path.join(os.environ.get("TMPDIR", "/tmp"), "nilm-peers"), help="folder for what is built")
    parser.add_argument("--library", help="libnilm_inference.a, if it is built already")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--ms", type=int, default=10, help="length of one turn")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--only", help="only names that contain this, and ONNX Runtime and oneDNN")
    parser.add_argument("--json", help="write the figures to this file as well")
    options = parser.parse_args()
    if not options.bench or not os.path.exists(f"{options.bench}/base_fp32.onnx"):
        say("skipped: NILM_BENCH, or --bench, names no folder with the benchmark networks")
        sys.exit(77)
    os.makedirs(options.work, exist_ok=True)
    install(PACKAGES["ours"])
    for n in ("base", "pruned"):
        network_file.write(f"{options.bench}/{n}_int8_qdq.onnx", f"{options.bench}/{n}_fp32.onnx", f"{options.work}/{n}.net")
    found = [c for c in contenders(options.work, options.library)
             if not options.only or options.only in c[0] or c[0] in ("ONNX Runtime", "oneDNN", "oneDNN, AVX2")]
    report = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "processor": processor(), "rounds": options.rounds, "rows": []}
    for n in ("base", "pruned"):
        report["rows"] += measure(n, found, options)
    show(report)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(report, f, indent=1)


main()
