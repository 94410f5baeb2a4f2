"""Two brokers in order, and credentials that change under a running agent: fail-over and the way back, nothing lost;
new files are used only when the broker accepts them, by signal and by themselves; a refusal and a certificate that ends soon are alerts, once."""
import json
import os
import shutil
import signal
import time

import schema
from harness import NILMCTL, Broker, Pki, Subscriber, World, check, done, free_port, run, sequence_report, wait_for


def link(agent):
    result = agent.ctl("status", "--json")
    return json.loads(result.stdout)["link"] if result.returncode == 0 else {}


def connected_to(agent, broker, seconds):
    """Seconds until the agent's session is with that broker, or None."""
    began = time.monotonic()
    name = f"127.0.0.1:{broker.port}"
    ok = wait_for(lambda: link(agent).get("connected") and link(agent).get("broker") == name, seconds, 0.3)
    return time.monotonic() - began if ok else None


def replace(path, source):
    """As renewal tools do: a new file under the old name."""
    shutil.copy(source, path + ".new")
    os.rename(path + ".new", path)


def alerts(subscribers, name):
    unique = {i["id"]: i for s in subscribers for i in s.items("alert") if i["alert"] == name}
    return [(a["state"], a["alert_id"], a["seen"]) for a in sorted(unique.values(), key=lambda a: a["seq"])]


def fail_over(world, second, agent, sim):
    check(connected_to(agent, world.broker, 20) is not None, "the first broker of the list is used")
    world.broker.kill()
    took = connected_to(agent, second, 30)
    check(took is not None, f"its process is killed: the session is with the second after {took and round(took, 1)} s")
    world.broker.start()
    took = connected_to(agent, world.broker, 40)
    check(took is not None, f"it is there again: back to the first after {took and round(took, 1)} s (fail_back = 5s)")
    check("is there again; going back to it" in agent.text(), "by a trial, and not because the second was lost")


def reload(world, second, agent, both):
    before = link(agent)["sessions"]
    stranger = Pki(os.path.join(world.folder, "strangers"))
    bad_cert, bad_key = stranger.issue(agent.name)
    good = agent.cert + ".good", agent.key + ".good"
    shutil.copy(agent.cert, good[0])
    shutil.copy(agent.key, good[1])
    replace(agent.cert, bad_cert)
    replace(agent.key, bad_key)
    agent.process.send_signal(signal.SIGHUP)
    check(wait_for(lambda: link(agent).get("refused"), 20, 0.3), "a certificate of an unknown CA: refused after SIGHUP")
    now = link(agent)
    check(now["connected"] and now["sessions"] == before, "the old session goes on meanwhile")
    check("the old session goes on" in agent.text() and "does not know the CA" in now["refused"], f"with the reason: {now['refused']}")
    check(wait_for(lambda: alerts(both, "credentials_refused"), 10), "alert credentials_refused is raised")

    world.broker.kill()
    world.broker.start()
    check(wait_for(lambda: link(agent).get("sessions", 0) > before, 30, 0.3), "a new session with the old credentials while the files are bad")

    renewed = world.pki.issue("renewed-" + agent.name)
    replace(agent.cert, renewed[0])
    time.sleep(1)  # certificate and key never change at the same moment
    replace(agent.key, renewed[1])
    check(wait_for(lambda: "accepts the new settings" in agent.text(), 40, 0.3), "good ones are found without a signal, tried and used")
    check(wait_for(lambda: link(agent).get("connected") and not link(agent)["refused"], 20, 0.3), "the session is made anew with them")
    log = open(world.broker.log).read() + open(second.log).read()
    check(f"as {agent.name} (" in log and f"u'renewed-{agent.name}'" in log, "the broker sees the name in the new certificate")
    states = wait_for(lambda: [a for a in alerts(both, "credentials_refused") if a[0] == "cleared"] and alerts(both, "credentials_refused"), 15)
    check(states and [s for s, _, _ in states] == ["raised", "cleared"] and len({i for _, i, _ in states}) == 1,
          f"the alert was raised once and cleared: {states}")


def expiry(world, agent, both):
    soon = world.pki.issue("soon", days=10)
    replace(agent.cert, soon[0])
    replace(agent.key, soon[1])
    agent.process.send_signal(signal.SIGHUP)
    check(wait_for(lambda: alerts(both, "certificate_expiring"), 30, 0.3), "a certificate that ends in 10 days: alert certificate_expiring")
    agent.stop()
    agent.start()
    check(wait_for(lambda: link(agent).get("connected"), 30, 0.3), "started again")
    time.sleep(3)
    check(len(alerts(both, "certificate_expiring")) == 1, f"raised once, not again by a new start: {alerts(both, 'certificate_expiring')}")
    late = world.pki.issue("late")
    replace(agent.cert, late[0])
    replace(agent.key, late[1])
    agent.process.send_signal(signal.SIGHUP)
    done_ = wait_for(lambda: [a for a in alerts(both, "certificate_expiring") if a[0] == "cleared"], 30, 0.3)
    check(done_, "renewed: cleared")


with World() as w:
    second = Broker(os.path.join(w.folder, "second"), w.pki)
    second.start()
    first_sub = Subscriber(w, "sub-1")
    broker, w.broker = w.broker, second
    second_sub = Subscriber(w, "sub-2")
    second_sub.port = second.port
    w.broker = broker
    both = [first_sub, second_sub]
    meters = {"fridge": {"type": "sim", "appliance": "refrigerator", "speed": 4000, "days": 400}}
    agent = w.agent("gw", meters, "[broker]\nfail_back = 5s", port=[w.broker.port, second.port])
    agent.start()
    cert, key = w.pki.issue("operator")
    watch = run(NILMCTL, "watch", "--broker", f"mqtts://127.0.0.1:{free_port()} mqtts://127.0.0.1:{second.port}", "--ca", w.pki.ca, "--cert", cert, "--key", key,
                "--topic", "$SYS/broker/version", "--count", "1", "--seconds", "20")
    check(watch.returncode == 0 and f"connected to 127.0.0.1:{second.port} " in watch.stderr, f"nilmctl watch goes on to the second broker, and says so: {watch.stderr.strip()}")
    fail_over(w, second, agent, meters)
    reload(w, second, agent, both)
    expiry(w, agent, both)
    agent.stop()
    wait_for(lambda: False, 1)
    items = [i for s in both for i in s.items()]
    missing, conflicts, distinct = sequence_report(items)
    left = agent.database("SELECT count(*) FROM outbox")[0][0]
    check(len(missing) <= left and not conflicts, f"nothing is missing on the two brokers together: {distinct} items, missing {missing[:5]}, left in the outbox {left}")
    for i in [x for x in items if x.get("alert") in ("certificate_expiring", "credentials_refused")]:
        schema.check("alert", json.dumps(i).encode())
    second.kill()
done()
