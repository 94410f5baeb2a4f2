"""Crash: the agent on replay input is killed (SIGKILL) at random moments, and now and then the broker, the reference consumer
and the consumer in Python too. At the end no number is missing or declared lost, a number that came twice came with the same
content, every number that was committed before a kill arrived, and the events are those of an agent that nobody disturbed.

    crash.py [--count N] [--seed N] [--quick]       N kills of the agent: 500, or 15 with --quick"""
import os
import random
import subprocess
import sys
import time

from faultlib import (Consumer, World, _die_with_parent, arguments, body, check, done, input_name, meters,
                      quiet_broker_kill, run, switchings, wait_for)

PYTHON = "/usr/bin/python3"
RECIPE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recipe.py")
options = arguments(__doc__, quick=15, whole=500)
SPEED, PER_CLASS, DAYS = (7200, 1, 2) if options.quick else (9600, 8, 10)
kills = {"agent": 0, "broker": 0, "consumer": 0, "recipe": 0}


class Recipe:
    """recipe.py as a process."""

    def __init__(self, world):
        self.world, self.store = world, os.path.join(world.folder, "recipe.db")
        self.cert, self.key = world.pki.issue("recipe")

    def start(self):
        w = self.world
        self.process = subprocess.Popen([PYTHON, RECIPE, self.store, "127.0.0.1", str(w.broker.port), w.pki.ca,
                                         self.cert, self.key, "recipe"], preexec_fn=_die_with_parent)

    def report(self):
        import json
        return json.loads(run(PYTHON, RECIPE, "--report", self.store).stdout)

    def bodies(self):
        import json
        import sqlite3
        with sqlite3.connect(self.store, timeout=20) as db:
            return {row[:3]: body(json.loads(row[3])) for row in db.execute("select device, epoch, seq, payload from item")}


def disturb(world, agent, consumer, recipe):
    """Kills of the others, in turns with the agent's: about one in five."""
    dice = random.random()
    if dice < 0.06:
        quiet_broker_kill(world, [])
        kills["broker"] += 1
    elif dice < 0.14:
        consumer.kill()
        time.sleep(random.uniform(0, 1))
        consumer.start()
        kills["consumer"] += 1
    elif dice < 0.20:
        recipe.process.kill()
        recipe.process.wait()
        recipe.start()
        kills["recipe"] += 1


def broker_under_load(world, agent):
    """The broker alone, while the agent runs."""
    time.sleep(random.uniform(0.3, 1))
    if agent.process.poll() is None:
        quiet_broker_kill(world, [agent])
        kills["broker"] += 1


def one_round(world, agent, consumer, recipe, pending):
    """Kills until the replay is through or the count is reached; then to the end. False: the agent failed."""
    while kills["agent"] < options.count:
        agent.start("--exit-when-done", "--drain-timeout", "60")
        if random.random() < 0.05:
            broker_under_load(world, agent)
        try:
            if agent.process.wait(random.uniform(0.02, 2.2)) != 0:
                return check(False, f"{agent.name} ended with {agent.process.returncode}")
            return True
        except subprocess.TimeoutExpired:
            agent.kill()
        kills["agent"] += 1
        if os.path.exists(agent.data + "/nilmd.db"):
            pending |= {(agent.name, row[0]) for row in agent.database("select seq from outbox")}
        disturb(world, agent, consumer, recipe)
    agent.start("--exit-when-done", "--drain-timeout", "60")
    return check(agent.wait(200) == 0, f"{agent.name}: the last start ends by itself")


def arrived(consumer, recipe, agents):
    """Everything that the agents numbered is in both stores."""
    want = {a.name: a.database("select next_seq from outbox_state")[0][0] - 1 for a in agents}

    def complete():
        ours, theirs = {d["device"]: d for d in consumer.report()["devices"]}, recipe.report()["devices"]
        return all(ours.get(n, {}).get("received") == count == theirs.get(n, {}).get("received") for n, count in want.items())
    wait_for(complete, 90, 1)
    return want


def judge(world, consumer, recipe, agents, pending):
    want = arrived(consumer, recipe, agents)
    report, other = consumer.report(), recipe.report()
    check(consumer.stop() == 0, "the consumer's own judgement: nothing missing (exit code 0)")
    recipe.process.terminate()
    recipe.process.wait()
    ours = {d["device"]: d for d in report["devices"]}
    for a in agents:
        d = ours.get(a.name, {"received": 0})
        check(d["received"] == want[a.name] == d.get("highest"),
              f"{a.name}: numbers 1 to {want[a.name]} are all there ({d['received']}), {d.get('holes')}")
    check(report["missing"] == report["declared_lost"] == report["behind"] == 0,
          f"{report['received']} messages; {report['missing']} missing, {report['declared_lost']} declared lost")
    check(report["conflicts"] == other["conflicts"] == 0,
          f"{report['duplicates']} came again at the consumer, {other['duplicates']} at the one in Python, all with the same content")
    lost = {(d, s) for d, s in pending} - {(key[0], key[2]) for key in consumer.stored()}
    check(not lost, f"{len(pending)} items were committed and unsent at a kill; all arrived {sorted(lost)[:5]}")
    lines = consumer.lines()
    ids = [(i["device"], i["id"]) for i in lines]
    check(len(ids) == len(set(ids)) == report["received"],
          f"the file of lines has each message exactly once: {len(ids)} lines after {consumer.kills} kills of the consumer")
    check({k: body(v) for k, v in consumer.stored().items()} == recipe.bodies(),
          "the consumer in Python, made from SPEC 8, has the same messages")
    reference = switchings([i for i in lines if i["device"] == "calm"])
    for a in agents[1:]:
        found = switchings([i for i in lines if i["device"] == a.name])
        check(found == reference if a.finished else set(found) <= set(reference),
              f"{a.name}: the same {len(reference)} switchings as undisturbed ({len(found)}) "
              f"{sorted(set(found) ^ set(reference))[:4]}")


with World() as world:
    began = time.monotonic()
    print("input: " + input_name(PER_CLASS))
    consumer, recipe = Consumer(world).start(), Recipe(world)
    recipe.start()
    consumer.connected()
    time.sleep(1)
    calm = world.agent("calm", meters("max", DAYS, PER_CLASS))
    calm.start("--exit-when-done", "--drain-timeout", "60")
    check(calm.wait(200) == 0, "the undisturbed run ends")
    agents, pending = [calm], set()
    while kills["agent"] < options.count:
        agent = world.agent(f"killed-{len(agents)}", meters(SPEED, DAYS, PER_CLASS))
        agents.append(agent)
        agent.finished = one_round(world, agent, consumer, recipe, pending)
        print(f"{kills} after {time.monotonic() - began:.0f} s", flush=True)
        if not agent.finished:
            break
    judge(world, consumer, recipe, agents, pending)
    print(f"kills: {kills}, {time.monotonic() - began:.0f} s, seed {options.seed}")
    count = kills["agent"]
done("crash", count, options.seed)
