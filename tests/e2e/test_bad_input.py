"""Bad input from every side: empty, binary, huge and half-written configuration, model, trace, command, certificate and
database. Each gets a message that names what and where; the agent does not crash and goes on where it can; what was stored
stays. Run it on a sanitizer build too: a report of a sanitizer fails it."""
import glob
import hashlib
import json
import os
import shutil
import sqlite3
import time

from harness import NILMD, Subscriber, World, check, done, run, wait_for

KINDS = ("empty", "binary", "huge", "half-written")
SIM = {"kettle": {"type": "sim", "appliance": "WaterKettle", "seed": 5, "speed": 2400, "start": "2024-05-01T06:00:00Z"}}  # before breakfast
number = 0


def spoil(path, kind, target=None):
    """Writes a bad variant of the good file path to target (default: in place)."""
    good = open(path, "rb").read()
    bad = {"empty": b"", "binary": bytes(range(256)) * 16, "huge": good + b"\n; " + b"x" * (3 << 20) if good else b"",
           "half-written": good[:len(good) // 2]}[kind]
    with open(target or path, "wb") as f:
        f.write(bad)
    return target or path


def fresh(world, meters=None, **keywords):
    global number
    number += 1
    return world.agent(f"gw{number}", meters or SIM, **keywords)


def clean(agent):
    text = agent.text()
    return "Sanitizer" not in text and "runtime error" not in text


def rewrite(agent, key, value):
    text = open(agent.config).read()
    lines = [f"{key} = {value}" if line.startswith(key + " =") else line for line in text.split("\n")]
    open(agent.config, "w").write("\n".join(lines))


def runs_on(agent, name):
    """It detects: something new is stored within the time."""
    ok = wait_for(lambda: os.path.exists(agent.data + "/nilmd.db") and stored(agent) > 0, 40, 0.3)
    check(ok and agent.process.poll() is None and clean(agent), f"{name}: the agent goes on and stores what it detects")


def stored(agent):
    try:
        return agent.database("select count(*) from run")[0][0]
    except sqlite3.Error:
        return 0


def configurations(world):
    for kind in KINDS:
        agent = fresh(world)
        spoil(agent.config, kind)
        for options in (["--check-config"], []):
            result = run(NILMD, "--config", agent.config, *options, timeout=30)
            check(result.returncode in (1, 2) and agent.config in result.stderr and "Sanitizer" not in result.stderr,
                  f"configuration, {kind} {options}: {result.stderr.strip().splitlines()[-1:]}")


def models(world):
    for kind in KINDS:
        agent = fresh(world)
        bad = spoil(world.model, kind, os.path.join(agent.folder, "bad.nilm"))
        rewrite(agent, "file", bad)
        agent.start()
        runs_on(agent, f"model, {kind}")
        line = [x for x in agent.text().splitlines() if bad in x]
        check(line, f"model, {kind}: {line[:1]}")
        agent.stop()


def traces(world):
    good = "".join(f"01/06/2012 {s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d};{2000 if s % 1800 < 300 else 0};0\n"
                   for s in range(0, 36000, 4))
    bad_lines = {"empty": "\n\n\n", "binary": "\x00\x01\xff;;;\x7f\n", "huge": "9" * 100000 + ";5\n",
                 "half-written": "01/06/2012 00:1\n"}
    for kind in KINDS:
        folder = os.path.join(world.folder, "traces-" + kind)
        os.makedirs(folder)
        path = os.path.join(folder, "dev_A_2012.06.01.csv")
        with open(path, "w", encoding="latin-1") as f:
            f.write(good[:len(good) // 54 // 2 * 27] + bad_lines[kind] + good[len(good) // 54 // 2 * 27:])
        agent = fresh(world, {"plug": {"type": "replay", "files": path, "speed": "max"}})
        agent.start("--exit-when-done", "--drain-timeout", "60")
        code = agent.wait(60)
        line = [x for x in agent.text().splitlines() if path + ":" in x]
        check(code == 0 and clean(agent) and (line or kind == "empty"), f"line of a trace, {kind}: {line[:1]}")
        check(stored(agent) == 20, f"line of a trace, {kind}: the other readings count ({stored(agent)} runs of 20)")
    whole = {"empty": b"", "binary": os.urandom(100000), "huge": b"1" * (3 << 20), "half-written": b"01/06/20"}
    for kind in KINDS:
        path = os.path.join(world.folder, f"whole-{kind}.csv")
        open(path, "wb").write(whole[kind])
        agent = fresh(world, {"plug": {"type": "replay", "files": path, "speed": "max"}, **SIM})
        agent.start()
        runs_on(agent, f"trace file, {kind}")
        line = [x for x in agent.text().splitlines() if path in x]
        check(line, f"trace file, {kind}: {line[:1]}")
        agent.stop()


def commands(world):
    ear = Subscriber(world)
    agent = fresh(world)
    agent.start()
    wait_for(lambda: (ear.last("status") or {}).get("state") == "online", 20)
    cert, key = world.pki.issue("operator")
    good = json.dumps({"id": "1", "command": "ping"}).encode()
    bad = {"empty": b"", "binary": bytes(range(256)), "huge": b'{"id": "' + b"x" * 500000 + b'"}', "half-written": good[:20],
           "deep": b"[" * 30000, "of no known name": b'{"id": "2", "command": "format"}'}
    for kind, payload in bad.items():
        path = os.path.join(world.folder, "command")
        open(path, "wb").write(payload)
        before = len(ear.messages)
        run("mosquitto_pub", "-h", "127.0.0.1", "-p", world.broker.port, "--cafile", world.pki.ca, "--cert", cert, "--key", key,
            "-q", "1", "-t", f"nilm/v1/{agent.name}/command", "-f", path)

        def answered():
            replies = [json.loads(m) for t, m in ear.messages[before:] if t.endswith("/reply")]
            return [r for r in replies if not r["ok"]] or [x for x in agent.text().splitlines() if "JSON command" in x]
        answer = wait_for(answered, 10)
        check(answer and agent.process.poll() is None, f"command, {kind}: {str(answer)[:160]}")
    with open(path, "wb") as f:
        f.write(good)
    run("mosquitto_pub", "-h", "127.0.0.1", "-p", world.broker.port, "--cafile", world.pki.ca, "--cert", cert, "--key", key,
        "-q", "1", "-t", f"nilm/v1/{agent.name}/command", "-f", path)
    check(wait_for(lambda: (ear.last("reply") or {}).get("ok"), 10), "after all of them a good command is answered")
    check(clean(agent), "no report of a sanitizer")
    agent.stop()


def certificates(world):
    for name in ("ca", "cert", "key"):
        for kind in KINDS:
            agent = fresh(world)
            source = {"ca": world.pki.ca, "cert": agent.cert, "key": agent.key}[name]
            bad = spoil(source, kind, os.path.join(agent.folder, "bad.pem"))
            if kind == "huge":  # a good one with a long tail may well be read
                spoil(source, "binary", bad)
                with open(bad, "ab") as f:
                    f.write(b"\n" * (3 << 20))
            rewrite(agent, name, bad)
            agent.start()
            runs_on(agent, f"{name}, {kind}")
            line = [x for x in agent.text().splitlines() if bad in x]
            check(line, f"{name}, {kind}: {line[:1]}")
            agent.stop()


def databases(world):
    agent = fresh(world)
    agent.start()
    runs_on(agent, "database, good")
    agent.stop()
    path = agent.data + "/nilmd.db"
    keep = os.path.join(world.folder, "good.db")
    shutil.copy(path, keep)
    for kind in KINDS:
        for old in glob.glob(path + "*"):
            os.remove(old)
        spoil(keep, "binary" if kind == "huge" else kind, path)
        if kind == "huge":
            os.truncate(path, 64 << 20)
        digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
        agent.start()
        runs_on(agent, f"database, {kind}")
        agent.stop()
        aside = glob.glob(path + ".corrupt-*")
        if kind == "empty":
            check(not aside, "database, empty: is simply a new one")
            continue
        line = [x for x in agent.text().splitlines() if ".corrupt-" in x]
        check(line, f"database, {kind}: {line[-1:]}")
        kept = any(hashlib.sha256(open(p, "rb").read()).hexdigest() == digest for p in aside)
        check(kept, f"database, {kind}: set aside, byte for byte")
        alerts = agent.database("select count(*) from outbox") if os.path.exists(path) else []
        check(alerts, "the new database is in use")


with World() as world:
    for part in (configurations, models, traces, commands, certificates, databases):
        began = time.monotonic()
        part(world)
        print(f"      ({part.__name__}: {time.monotonic() - began:.0f} s)")
done()
