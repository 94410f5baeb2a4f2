"""The engine's code with all kernel sets of the processor stays under 96 KB: the objects that a program needs to load a model and run
it, without what writes models, reads traces or trains. Measured in Release builds only (77: skipped)."""
import os
import platform
import re
import subprocess
import sys

LIMIT = 96 * 1024
OBJECTS = re.compile(r"^(engine\w*|kernels\w*|model|model_decode|model_file)\.c\.o$")

build = os.environ.get("NILM_BUILD", "build")
try:
    cache = open(f"{build}/CMakeCache.txt").read()
except OSError:
    cache = ""
if "CMAKE_BUILD_TYPE:STRING=Release" not in cache or not re.search(r"NILM_SANITIZE:STRING=$", cache, re.M):
    print(f"skipped: {build} is no Release build without sanitizers")
    sys.exit(77)
table = subprocess.run(["size", f"{build}/inference/libnilm_inference.a"], capture_output=True, text=True, check=True).stdout
sizes = {line.split()[5]: int(line.split()[0]) for line in table.splitlines()[1:] if OBJECTS.match(line.split()[5])}
for name, size in sorted(sizes.items()):
    print(f"{size:7} {name}")
total = sum(sizes.values())
print(f"{total:7} bytes, {total / 1024:.1f} KB of {LIMIT // 1024}, {platform.machine()}")
if len(sizes) < 6 or total > LIMIT:
    print("FAIL  the engine is too large, or objects are missing")
    sys.exit(1)
