"""cross_agent.py NATIVE CROSS EMULATOR... - nilmd and nilmctl of two build folders, the second under an emulator, on the same
simulated days without a broker: both have to detect and name the same runs, to the last digit."""
import json
import os
import subprocess
import sys
import tempfile

native, cross, emulator = sys.argv[1], sys.argv[2], sys.argv[3:]
METERS = ("Refrigerator", "WaterKettle", "Dishwasher", "Coffeemaker", "TV-LCD")


def run(*argv):
    result = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    if result.returncode:
        sys.exit(f"{' '.join(argv)}: exit code {result.returncode}: {result.stderr[-2000:]}")
    return result


def configuration(folder):
    os.makedirs(os.path.join(folder, "data"))
    path = os.path.join(folder, "nilmd.conf")
    with open(path, "w") as f:
        f.write(f"[device]\nid = gw\ndata_dir = {folder}/data\n"
                f"[model]\nfile = {os.path.abspath('inference/models/identify-pruned-int8.nilm')}\n")
        for seed, appliance in enumerate(METERS):
            f.write(f"[meter:{appliance.lower()}]\ntype = sim\nappliance = {appliance}\nseed = {seed}\nspeed = max\n"
                    "days = 1\nstart = 2026-03-01\n")
    return path


def history(folder, build, prefix):
    config = configuration(folder)
    nilmd, nilmctl = (prefix + [os.path.join(build, "agent", name)] for name in ("nilmd", "nilmctl"))
    print("      " + run(*nilmd, "--version").stdout.strip())
    run(*nilmd, "--config", config, "--check-config")
    log = run(*nilmd, "--config", config, "--exit-when-done").stderr
    print("      " + next(line for line in log.splitlines() if "kernels:" in line))
    runs = json.loads(run(*nilmctl, "events", "--config", config, "--json").stdout)["events"]
    for r in runs:
        del r["run"]  # numbered as the meters' threads come
    return sorted(runs, key=lambda r: (r["meter"], r["start"]))


with tempfile.TemporaryDirectory() as folder:
    expected = history(os.path.join(folder, "native"), native, [])
    got = history(os.path.join(folder, "cross"), cross, emulator)
named = sum(bool(r["appliance"]) for r in expected)
print(f"      {len(expected)} runs, {named} named")
for a, b in zip(expected, got):
    if a != b:
        sys.exit(f"runs differ:\n{a}\n{b}")
if len(got) != len(expected) or named < 10:
    sys.exit(f"{len(got)} runs, expected {len(expected)}, at least 10 of them named")
