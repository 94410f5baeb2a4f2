"""The rules of DESIGN.md "Folders" that a machine can check: who includes whom, which library's header appears where, every
public header compiles alone, a function's prefix is its header's name, and the size of functions and files."""
import glob
import os
import re
import subprocess
import sys

LEAVES = ("inference", "storage", "transport")
failures = []


def fail(text):
    failures.append(text)
    print("FAIL  " + text)


def sources(pattern):
    return [f for top in LEAVES + ("agent",) for f in sorted(glob.glob(f"{top}/**/{pattern}", recursive=True))]


def check_includes():
    for path in sources("*.[ch]"):
        top = path.split("/")[0]
        for number, line in enumerate(open(path), 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not match:
                continue
            header, place = match[1], f"{path}:{number}"
            if header.startswith("openssl/"):
                fail(f"{place} includes {header}: OpenSSL is in no process of ours")
            if header == "sqlite3.h" and top != "storage":
                fail(f"{place} includes {header}: storage only")
            if (header.startswith(("mbedtls/", "MQTT"))) and top != "transport":
                fail(f"{place} includes {header}: transport only")
            for other in LEAVES + ("agent", "tests", "deploy"):
                if header.startswith(other + "/") and top in LEAVES and other != top:
                    fail(f"{place} includes {header}: leaves know neither each other nor the agent")
            if header.startswith("inference/workshop/") and path not in ("agent/nilm_model.c",) and top == "agent":
                fail(f"{place} includes {header}: the workshop is not linked into the agent")


def check_headers_alone():
    compiler = os.environ.get("CC", "cc")
    for path in sources("*.h"):
        result = subprocess.run([compiler, "-std=c17", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-I.", "-x", "c", path],
                                capture_output=True, text=True)
        if result.returncode or result.stderr.replace("#pragma once in main file", "").strip():
            fail(f"{path} does not compile alone: {result.stderr[:300]}")


def check_prefixes():
    for path in sources("*.h"):
        stem = os.path.basename(path)[:-2]
        text = re.sub(r"/\*.*?\*/", "", open(path).read(), flags=re.S)
        text = re.sub(r"__attribute__\(\(.*?\)\)|_Static_assert\(.*?\);", "", text, flags=re.S)
        text = re.sub(r"\{[^{}]*\}", "", re.sub(r"\{[^{}]*\}", "", text))
        for name in re.findall(r"^(?!typedef|static|#|\s)[\w\s*]*?\b(\w+)\(", text, re.M):
            # A private header (source_impl.h, sim_shapes.h) may share the prefix of the public one it belongs to.
            if not name.startswith((stem, stem.split("_")[0] + "_")):
                fail(f"{path} declares {name}: its name does not begin with {stem}")


def check_sizes():
    lengths, files = [], []
    for path in sources("*.c"):
        lines = open(path).read().split("\n")
        files.append((len(lines), path))
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                lengths.append((number - start + 1, f"{path}:{start}"))
                start = None
    within = sum(n <= 60 for n, _ in lengths) / max(1, len(lengths))
    print(f"{len(lengths)} functions, {100 * within:.1f} % within 60 lines; longest: {sorted(lengths)[-3:]}")
    if within < 0.95:
        fail(f"only {100 * within:.1f} % of the functions are within 60 lines (95 % expected)")
    for count, path in files:
        if count > 700:
            fail(f"{path} has {count} lines (about 600 expected)")


check_includes()
check_headers_alone()
check_prefixes()
check_sizes()
sys.exit(1 if failures else 0)
