"""Figures of learning a place (DESIGN "Learning the place"): loads that the model does not know, and machines of a building.

    place.py removed --build BUILD --data DIR [--model M] [--seeds 1,2,..] [--classes A,B]
        A class is taken out of the mains model (its output is cut off; the layers before it have seen it). On homes mixed from test
        devices (nilm-model mix, two weeks, four appliances): how many of its runs are among the loads that nothing explains, the
        share of those that is in one cluster, and, once that is named after a week, F1 of the starts in the second week.
    place.py combed --build BUILD --data FILE
        COMBED: the four air-handling units on the mains, learned from one week's list of runs, tried on the other week.
    place.py refit --build BUILD --data FILE,FILE [--model M]
        REFIT house 2: events of the model on each file, and after a person has said when the four submetered appliances ran in the
        other one (place_house.h).

DIR is tracebase unpacked, FILE one of the recordings of the data notes. Nothing else is needed; prints a table, --json one object."""
import argparse
import collections
import csv
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib

WEEK_MS = 7 * 86400000
CLASSES = "WaterKettle,Toaster,MicrowaveOven"

def run(*argv):
    result = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, argv))}: {result.stderr.strip()}")
    return result.stdout


def without(source, target, label):
    """Writes the model (SPEC 1) without one of its classes."""
    data = open(source, "rb").read()
    count = struct.unpack_from("<I", data, 16)[0]
    table = [struct.unpack_from("<4sII", data, 32 + 16 * i) for i in range(count)]
    parts = {tag: data[offset:offset + length] for tag, offset, length in table}
    head, layers = bytearray(parts[b"HEAD"]), bytearray(parts[b"LAYR"])
    window, = struct.unpack_from("<I", head, 8)
    layer_count, classes, golden = struct.unpack_from("<III", head, 32)
    names = [parts[b"LABL"][32 * i:32 * i + 32].split(b"\0")[0].decode() for i in range(classes)]
    gone = names.index(label)
    kept = [i for i in range(classes) if i != gone]
    inputs, = struct.unpack_from("<I", layers, 56 * (layer_count - 2) + 4)
    struct.pack_into("<I", head, 36, classes - 1)
    struct.pack_into("<I", layers, 56 * (layer_count - 1) + 4, classes - 1)

    rows_bytes = (classes * inputs + 3) // 4 * 4
    weights = parts[b"WGTS"]
    last = weights[len(weights) - rows_bytes - 12 * classes:]  # rows, bias, weight_scale, logit_scale
    rows = b"".join(last[i * inputs:(i + 1) * inputs] for i in kept)
    rest = last[rows_bytes:]
    parts[b"WGTS"] = (weights[:-len(last)] + rows + b"\0" * (-len(rows) % 4)
                      + b"".join(rest[4 * (k * classes + i):][:4] for k in range(3) for i in kept))
    parts[b"LABL"] = b"".join(parts[b"LABL"][32 * i:32 * i + 32] for i in kept)
    size = 4 * (window + 1 + classes)
    vectors = [parts[b"GOLD"][k * size:(k + 1) * size] for k in range(golden)]
    parts[b"GOLD"] = b"".join(v[:4 * (window + 1)] + b"".join(v[4 * (window + 1 + i):][:4] for i in kept) for v in vectors)
    meta = []
    for line in parts[b"META"].rstrip(b"\0").decode().split("\n"):
        key, _, value = line.partition("=")
        if key == "thresholds":
            value = ",".join(t for i, t in enumerate(value.split(",")) if i != gone)
        if key == "aggregates":
            value = "|".join(r for r in value.split("|") if not r.startswith(label + ":"))
        if key:
            meta.append(f"{key}={value}")
    parts[b"META"] = "\n".join(meta).encode() + b"\0"
    parts[b"HEAD"], parts[b"LAYR"] = bytes(head), bytes(layers)

    body, entries, offset = b"", b"", 32 + 16 * count
    for tag, _, _ in table:
        body += b"\0" * (-offset % 8)
        offset += -offset % 8
        entries += struct.pack("<4sIII", tag, offset, len(parts[tag]), 0)
        body += parts[tag]
        offset += len(parts[tag])
    out = bytearray(data[:32] + entries + body)
    struct.pack_into("<I", out, 8, offset)
    struct.pack_into("<I", out, 12, zlib.crc32(bytes(out[16:])))
    open(target, "wb").write(out)


def pair(starts, truth):
    """Indices of starts that lie within 30 s or a tenth of the run of a true one; each counts once."""
    used, pairs = set(), []
    for start, end in truth:
        near = max(30000, (end - start) // 10)
        left = [i for i in range(len(starts)) if i not in used and abs(starts[i] - start) <= near]
        if left:
            best = min(left, key=lambda i: abs(starts[i] - start))
            used.add(best)
            pairs.append(best)
    return pairs


def read_loads(path):
    """start ms, seconds, Wh, peak W, step up, step down; in the order in which they end."""
    loads = []
    for row in csv.DictReader(open(path)):
        start, end, up, down = int(row["start_ms"]), int(row["end_ms"]), float(row["up_w"]), float(row["down_w"])
        loads.append((start, (end - start) / 1e3, (up + down) / 2 * (end - start) / 3.6e6, max(up, down), up, down))
    return sorted(loads, key=lambda l: l[0] + l[1] * 1e3)


def removed_case(args, folder, label):
    place, tool = (os.path.join(args.build, p) for p in ("tests/bench_place", "agent/nilm-model"))
    at = lambda name: os.path.join(folder, name)
    truth = [(int(r["start_ms"]), int(r["end_ms"])) for r in csv.DictReader(open(at("truth.csv"))) if r["appliance"] == label]
    if not truth:
        return None
    without(args.model, at("model.nilm"), label)
    run(tool, "separate", "--model", at("model.nilm"), "--out", at("events.jsonl"), "--loads", at("loads.csv"), at("home.csv"))
    loads = read_loads(at("loads.csv"))
    open(at("runs.csv"), "w").write("".join(",".join(map(str, l)) + "\n" for l in loads))
    numbers = [tuple(map(int, line.split(","))) for line in run(place, "runs", at("runs.csv")).split()]
    found = pair([l[0] for l in loads], truth)
    votes = collections.Counter(numbers[i][1] for i in found)
    best, count = votes.most_common(1)[0] if votes else (0, 0)
    named = truth[0][0] + WEEK_MS
    later = [t for t in truth if t[0] >= named]
    said = [loads[i][0] for i in range(len(loads)) if loads[i][0] >= named and best in numbers[i]]
    right = len(pair(said, later))
    rows = [loads[i] for i in range(len(loads)) if loads[i][0] < named and best in numbers[i]]
    open(at("list.csv"), "w").write("".join(f"{label},{l[0]},{l[0] + l[1] * 1e3:.0f}\n" for l in rows))
    with open(at("home.csv")) as f, open(at("week.csv"), "w") as out:
        out.writelines(line for n, line in enumerate(f) if n == 0 or int(line.split(",")[0]) < named)
    run(place, "house", at("model.nilm"), at("week.csv"), at("list.csv"), at("list.csv"), at("home.csv"), at("taught.csv"), label)
    taught = [int(r["start_ms"]) for r in csv.DictReader(open(at("taught.csv"))) if r["appliance"] == label and int(r["start_ms"]) >= named]
    hits = len(pair(taught, later))
    return {"class": label, "taught": len(taught), "taught_right": hits,
            "taught_f1": round(2 * hits / (len(later) + len(taught)), 4) if later or taught else 0, "true": len(truth), "loads": len(loads), "found": len(found),
            "clusters": len({n[1] for n in numbers}), "in_one": round(count / len(found), 4) if found else 0,
            "later_true": len(later), "said": len(said), "right": right,
            "f1": round(2 * right / (len(later) + len(said)), 4) if later or said else 0}


def removed(args):
    tool, rows = os.path.join(args.build, "agent/nilm-model"), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds.split(","):
            run(tool, "mix", "--data", args.data, "--model", args.model, "--out", os.path.join(folder, "home.csv"), "--truth",
                os.path.join(folder, "truth.csv"), "--split", "device", "--part", "test", "--homes", 1, "--days", 14, "--loads", 4,
                "--seed", seed, "--quiet")
            for label in args.classes.split(","):
                row = removed_case(args, folder, label)
                if row is None:
                    continue
                rows.append({"home": int(seed), **row})
                if not args.json:
                    print(f"home {seed} without {label:15} {row['true']:4} runs, {row['found']:4} among {row['loads']:4} loads; in one "
                          f"of {row['clusters']} clusters {100 * row['in_one']:5.1f} %; after naming F1 {row['f1']:.3f} "
                          f"({row['right']} right of {row['said']} said and {row['later_true']} true), by its prototype {row['taught_f1']:.3f} "
                          f"({row['taught_right']} right of {row['taught']})", flush=True)
    if args.json:
        print(json.dumps({"removed": rows}))


def combed(args):
    place, tool = (os.path.join(args.build, p) for p in ("tests/bench_place", "agent/nilm-model"))
    result = []
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        run(tool, "truth", "--data", args.data, "--out", at("truth.csv"))
        lines = [line.split(",") for line in open(at("truth.csv")).read().split()]
        span = next([int(l[1]), int(l[2])] for l in lines if l[0] == "_span")
        first = span[0] // 86400000 * 86400000
        weeks = [(first, first + WEEK_MS), (first + WEEK_MS, first + 2 * WEEK_MS)]
        for learn, test in ((0, 1), (1, 0)):
            events = run(place, "switches", args.data, at("truth.csv"), 30000, *weeks[learn], *weeks[test])
            open(at("events.csv"), "w").write(events)
            low, high = max(weeks[test][0], span[0]), min(weeks[test][1], span[1])
            keep = [lines[0], ["_span", str(low), str(high), "", ""]]
            keep += [l for l in lines[1:] if l[0] != "_span" and (l[0][0] == "_" or low <= int(l[1]) < high)]
            open(at("week.csv"), "w").write("".join(",".join(l) + "\n" for l in keep))
            score = json.loads(run(tool, "score", "--events", at("events.csv"), "--truth", at("week.csv"), "--json"))
            starts, stops = score["overall"], score["overall"]["stops"]
            both = 2 * (starts["matched"] + stops["matched"]) / sum(c["true"] + c["predicted"] for c in (starts, stops))
            result.append({"learned": learn + 1, "tried": test + 1, "f1": round(both, 4), "starts": starts["f1"], "stops": stops["f1"],
                           "starts_macro": score["f1_macro"], "stops_macro": score["stops_f1_macro"],
                           "state_macro": score["state_f1_macro"]})
            if not args.json:
                print(f"learned on week {learn + 1}, tried on week {test + 1}: starts and stops {both:.3f}; starts {starts['f1']:.3f} (macro "
                      f"{score['f1_macro']:.3f}), stops {stops['f1']:.3f} ({score['stops_f1_macro']:.3f}), state by minute "
                      f"{score['state_f1_macro']:.3f}", flush=True)
    if args.json:
        print(json.dumps({"combed": result}))


NAMES = {"fridge": "Refrigerator", "washing_machine": "Washingmachine", "dishwasher": "Dishwasher", "microwave": "MicrowaveOven"}


def refit(args):
    place, tool = (os.path.join(args.build, p) for p in ("tests/bench_place", "agent/nilm-model"))
    files, result = args.data.split(","), []
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        for i, path in enumerate(files):
            run(tool, "truth", "--data", path, "--out", at(f"truth{i}.csv"))
            run(tool, "separate", "--model", args.model, "--out", at(f"model{i}.csv"), path)
            rows = [r for r in csv.DictReader(open(at(f"truth{i}.csv"))) if r["appliance"] in NAMES]
            with open(at(f"list{i}.csv"), "w") as f:
                f.write("".join(f"{NAMES[r['appliance']]},{r['start_ms']},{r['end_ms']}\n" for r in rows))
        for learn, test in ((0, 1), (1, 0)):
            run(place, "house", args.model, files[learn], at(f"list{learn}.csv"), at(f"model{learn}.csv"), files[test], at("named.csv"),
                *NAMES.values())
            for what, events in (("model alone", at(f"model{test}.csv")), ("after naming", at("named.csv"))):
                score = json.loads(run(tool, "score", "--events", events, "--truth", at(f"truth{test}.csv"), "--map",
                                       ",".join(f"{ours}={theirs}" for theirs, ours in NAMES.items()), "--data", files[test], "--json"))
                row = {a["name"]: {k: a[k] for k in ("f1", "true", "predicted", "matched", "state_f1", "energy_error")}
                       for a in score["appliances"] if a["name"] in NAMES}
                result.append({"learned": learn + 1, "tried": test + 1, "what": what, "f1_macro": score["f1_macro"],
                               "state_f1_macro": score["state_f1_macro"], "energy_error_macro": score["energy_error_macro"], **row})
                if not args.json:
                    print(f"week {test + 1}, {what:12}: macro F1 of starts {score['f1_macro']:.3f}, of the state {score['state_f1_macro']:.3f}, energy off by "
                          f"{score['energy_error_macro']:.2f}; "
                          + ", ".join(f"{k} {v['f1']:.2f} ({v['matched']} of {v['predicted']} said and {v['true']} true)" for k, v in row.items()), flush=True)
    if args.json:
        print(json.dumps({"refit": result}))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("what", choices=["removed", "combed", "refit"])
parser.add_argument("--build", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--model", default="inference/models/mains-int8.nilm")
parser.add_argument("--seeds", default="1,2,3,4,5,6")
parser.add_argument("--classes", default=CLASSES)
parser.add_argument("--json", action="store_true")
arguments = parser.parse_args()
{"removed": removed, "combed": combed, "refit": refit}[arguments.what](arguments)
