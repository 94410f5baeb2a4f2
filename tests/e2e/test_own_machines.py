"""From a recording to a model that names one's own machines: the commands of README "Your own machines", as they stand there, on simulated
machines that no shipped model calls so. The network is small and trained for seconds."""
import glob
import json
import os
import re
import shlex

from harness import NILM_MODEL, NILMCTL, ROOT, Subscriber, World, check, done, run, wait_for

MACHINES = {"press": ("Press 4", "WaterKettle"), "lathe": ("Lathe", "Washingmachine"), "compressor": ("Compressor", "Refrigerator")}
SMALL = ["--window", "64", "--stride", "16", "--widths", "8,16", "--taps", "5,3", "--pools", "4,4", "--hidden", "16", "--hop", "4",
         "--epochs", "6", "--epoch-windows", "3000", "--quiet"]


def commands():
    """The lines of the section's shell block, as argument lists."""
    section = open(os.path.join(ROOT, "README.md")).read().split("### Your own machines\n")[1].split("\n### ")[0]
    return [shlex.split(line) for line in re.search(r"```sh\n(.*?)```", section, re.S)[1].splitlines()]


def given(argv, **values):
    """argv with other values of options that it has."""
    for name, value in values.items():
        argv[argv.index("--" + name.replace("_", "-")) + 1] = str(value)
    return argv


with World() as world:
    ear = Subscriber(world)
    operator = world.pki.issue("operator")
    record = os.path.join(world.folder, "record")
    sims = {name: {"type": "sim", "appliance": appliance, "start": "2026-03-02", "days": 13, "speed": "max", "record": record, "record_days": 11, "states": "auto"}
            for name, (label, appliance) in MACHINES.items()}
    recorder = world.agent("recorder", sims, extra="[shifts]\nearly = 06:00-14:00 mon-fri\nlate = 14:00-22:00\nnight = 22:00-06:00\n[report]\ndaily_summary = yes")
    recorder.start("--exit-when-done")
    check(recorder.wait(60) == 0, "13 days of three machines are recorded")
    told = {(s["meter"], s["day"]) for s in ear.items("summary")}
    check(len(told) >= 3 * 11 and recorder.database("SELECT count(*) FROM outbox") == [(0,)], f"it ended when the summaries of {len(told)} days were acknowledged, too")
    check(all(s["machine"]["starts"] >= 0 and abs(sum(s["machine"][k] for k in ("off", "idle", "run", "peak")) - s["seen"]) < 60 for s in ear.items("summary")), "they say what the machines did")
    days = {name: len(glob.glob(f"{record}/{name}_*.csv")) for name in MACHINES}
    check(set(days.values()) == {11}, f"of each the newest 11 days are kept: {days}")
    check("2026.03.02" not in "".join(os.listdir(record)), "the oldest are gone")

    shown = recorder.ctl("machines", "--since", "2026-03-02Z", "--json")
    machines = {m["meter"]: m for m in json.loads(shown.stdout)["machines"]} if check(shown.returncode == 0, "machines" + shown.stderr) else {}
    check(set(machines) == set(MACHINES), "each machine is shown")
    for name, m in machines.items():
        truth = sum(row[0] for row in recorder.database(f"SELECT wh FROM energy WHERE meter = '{name}'"))
        hours = m["off_hours"] + m["idle_hours"] + m["run_hours"] + m["peak_hours"]
        weekend = [s for s in m["shifts"] if s["shift"] == "early" and s["date"] in ("2026-03-07", "2026-03-08")]
        by_shift = sum(s["energy"] for s in m["shifts"])
        check(abs(m["energy"] - truth) < 0.002 * truth + 1, f"{name}: {m['energy']:.0f} Wh in quarters, {truth:.0f} in hours")
        check(abs(hours - 13 * 24) < 1 and m["starts"] > 13 and (m["learned"] == 1) == (name != "press"), f"{name}: {hours:.1f} h, {m['starts']} starts, limits {m['run_w']}, {m['peak_w']}")
        check(not weekend and len(m["shifts"]) >= 13 * 2 and 0 < by_shift <= m["energy"] + 0.1, f"{name}: {by_shift:.0f} Wh in {len(m['shifts'])} shifts, none early at the weekend")
    report = json.loads(recorder.ctl("report", "--from", "2026-03-02Z", "--json").stdout)
    for m in report["meters"]:
        q = machines[m["meter"]]
        same = [abs(m["off_hours"] - q["off_hours"]), abs(m["idle_hours"] - q["idle_hours"]), abs(m["run_hours"] - q["run_hours"] - q["peak_hours"]),
                abs(m["peak_hours"] - q["peak_hours"]), abs(m["starts"] - q["starts"])]
        shifts = sum(s["energy"] for s in m["shifts"])
        check(max(same) < 0.01 and abs(m["seen_hours"] - 13 * 24) < 1, f"the report on {m['meter']} tells the same states: {m['idle_hours']:.1f} of {m['seen_hours']:.1f} h idle")
        check(abs(shifts - m["energy"]) < 0.005 * m["energy"] + 5 and any(s["shift"] == "" for s in m["shifts"]), f"and its shifts, and what is in none, are all of it: {shifts:.0f} Wh")
    check("(in no shift)" in recorder.ctl("report", "--from", "2026-03-02Z").stdout, "as in the table")
    table = recorder.ctl("machines", "--since", "2026-03-02Z", "--meter", "lathe").stdout
    check(table.startswith("lathe: ") and " early " in table and "\nall " in table, "as a table:\n" + "\n".join(table.splitlines()[:5]))

    export, train, quantize, pack, sign, push = commands()
    check([c[1] for c in (export, train, quantize, pack, sign, push)] == ["export", "train", "quantize", "pack", "sign", "push"],
          "README has one command for each step")
    for name, (label, _) in MACHINES.items():
        result = run(NILMCTL, *given(export[1:], meter=name, label=label), "--config", recorder.config, cwd=world.folder)
        check(result.returncode == 0, f"export {name}: {result.stdout.strip()}{result.stderr.strip()}")
    check(len(glob.glob(f"{world.folder}/own/Press 4/press_2026.03.*.csv")) == 11, "the class folder has the days")
    result = run(NILMCTL, *export[1:], "--from", "2026-03-06Z", "--to", "2026-03-08Z", "--json", "--out", f"{world.folder}/part", "--config",
                 recorder.config)
    check(result.returncode == 0 and '"files":2' in result.stdout, f"a stretch: {result.stdout.strip()}{result.stderr.strip()}")
    runs = run(NILMCTL, *export[1:], "--runs", "Nothing", "--out", f"{world.folder}/none", "--config", recorder.config)
    check(runs.returncode == 2 and 'meter press is called "Nothing"' in runs.stderr, f"no such runs: {runs.stderr.strip()}")
    washes = [e for e in json.loads(recorder.ctl("events", "--meter", "lathe", "--since", "2026-03-05Z", "--limit", "1000", "--json").stdout)["events"]]
    cut = json.loads(run(NILMCTL, *given(list(export[1:]), meter="lathe", label="Wash", out=f"{world.folder}/runs"), "--runs", "Washingmachine", "--from", "2026-03-05Z",
                         "--json", "--config", recorder.config).stdout)
    all_of_it = json.loads(run(NILMCTL, *given(list(export[1:]), meter="lathe", out=f"{world.folder}/runs"), "--from", "2026-03-05Z", "--json", "--config", recorder.config).stdout)
    share = sum(e["duration"] + 2 * 75 * 60 for e in washes) / (10 * 86400)
    check(len(washes) > 5 and {e["appliance"] for e in washes} == {"Washingmachine"} and 0.7 * share < cut["readings"] / all_of_it["readings"] < 1.3 * share,
          f"{len(washes)} runs with what is around them are {cut['readings']} of {all_of_it['readings']} readings, {share:.0%} of the time")
    none = run(NILMCTL, *given(list(export[1:]), meter="drill"), "--config", recorder.config)
    check(none.returncode == 1 and 'no meter "drill"' in none.stderr, "a meter that is not there")

    few = run(NILM_MODEL, "train", "--data", f"{world.folder}/part", "--out", f"{world.folder}/few.nilm", *SMALL)
    check(few.returncode == 2 and "Press 4 (2 traces" in few.stderr and "two classes" in few.stderr, f"two days of one machine: {few.stderr.strip()}")

    for command in (train + SMALL, quantize, pack, given(sign, key=world.sign_key)):
        result = run(NILM_MODEL, *command[1:], cwd=world.folder, timeout=200)
        check(result.returncode == 0, f"nilm-model {command[1]} {result.stderr[-300:] if result.returncode else ''}")

    live = {name: {"type": "sim", "appliance": appliance, "seed": 7, "start": "2026-05-04", "speed": 2400}
            for name, (_, appliance) in MACHINES.items()}
    agent = world.agent("gateway-1", live)
    agent.start()
    check(wait_for(lambda: [e for e in ear.items("event") if e["device"] == "gateway-1"], 30), "events by the shipped model")
    known = {label for label, _ in MACHINES.values()}
    check(not known & {e["appliance"] for e in ear.items("event")}, "which does not know these machines")
    result = run(NILMCTL, *given(push[1:], broker=f"mqtts://127.0.0.1:{world.broker.port}", ca=world.pki.ca, cert=operator[0], key=operator[1]),
                 cwd=world.folder, timeout=60)
    check(result.returncode == 0, f"push {result.stdout.strip()} {result.stderr.strip()}")

    def named():
        return {(e["meter"], e["appliance"]) for e in ear.items("event") if e["model"] == 10}

    wanted = {(name, label) for name, (label, _) in MACHINES.items()}
    check(wait_for(lambda: wanted <= named(), 60), f"the new model names each machine: {sorted(named())}")
    agent.stop()
done()
