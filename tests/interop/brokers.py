#!/usr/bin/python3
"""The agent with the brokers that fleets use: Mosquitto 2 (two), NATS JetStream (three nodes), RabbitMQ with MQTT (three nodes).

    brokers.py [mosquitto] [nats] [rabbitmq]      default: all; --no-install: skip what is not installed

Each with the configuration of deploy/brokers (its own ports and paths put in), TLS and client certificates. The agent publishes through the first node, which is
killed (SIGKILL) in the middle; it must fail over, and no sequence number may be missing at a consumer on the last node (Mosquitto: on both, together).
Prints a table. Exit code 77 when none could run."""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
import harness  # noqa: E402
from harness import World, _die_with_parent, check, free_port, sequence_report, wait_for  # noqa: E402

CONF = os.path.join(ROOT, "deploy/brokers")
PACKAGES = {"mosquitto": ["mosquitto", "mosquitto-clients"], "nats": ["nats-server", "mosquitto-clients"],
            "rabbitmq": ["rabbitmq-server", "mosquitto-clients"]}
PROGRAM = {"mosquitto": "/usr/sbin/mosquitto", "nats": "nats-server", "rabbitmq": "/usr/lib/rabbitmq/bin/rabbitmq-server"}
RUN_S = 10  # before and after the kill


def conf(name, *changes):
    """A file of deploy/brokers; every change must be found."""
    with open(os.path.join(CONF, name)) as f:
        text = f.read()
    for pattern, new in changes:
        text, count = re.subn(pattern, new, text)
        if not count:
            raise RuntimeError(f"{name}: no {pattern!r} in it")
    return text


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


class Node:
    def __init__(self, folder, world, number):
        self.folder, self.port, self.process, self.number = os.path.join(folder, f"node{number}"), free_port(), None, number
        os.makedirs(self.folder)
        self.log = os.path.join(self.folder, "log")
        self.pki = (("/etc/nilm/ca.pem", world.pki.ca), ("/etc/nilm/server.pem", world.pki.server), ("/etc/nilm/server.key", world.pki.server_key))

    def spawn(self, *argv, env=None):
        self.process = subprocess.Popen(argv, stdout=open(self.log, "ab"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                        preexec_fn=lambda: (_die_with_parent(), os.setsid()), env=env)

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def kill(self):
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None


def start_mosquitto(world, folder):
    nodes = [Node(folder, world, n) for n in (1, 2)]
    for node in nodes:
        acl = write(os.path.join(node.folder, "acl"), open(os.path.join(ROOT, "deploy/mosquitto.acl")).read().replace("user operator", "user sub"))
        text = conf("mosquitto.conf", *node.pki, ("listener 8883", f"listener {node.port} 127.0.0.1"), ("/etc/nilm/mosquitto.acl", acl),
                    ("/var/lib/mosquitto/", node.folder + "/"))
        if os.getuid() == 0:
            text += "user root\n"
        node.spawn(PROGRAM["mosquitto"], "-c", write(os.path.join(node.folder, "conf"), text))
    return nodes


def start_nats(world, folder):
    nodes = [Node(folder, world, n) for n in (1, 2, 3)]
    routes = [free_port() for _ in nodes]
    for node, route in zip(nodes, routes):
        text = conf("nats-server.conf", *node.pki, ("server_name: node1", f"server_name: node{node.number}"), ("127.0.0.1:4222", f"127.0.0.1:{free_port()}"),
                    ("/var/lib/nats", node.folder), ("0.0.0.0:6222", f"127.0.0.1:{route}"), ("0.0.0.0:8883", f"127.0.0.1:{node.port}"),
                    *((f"node{n + 1}:6222", f"127.0.0.1:{r}") for n, r in enumerate(routes)))
        node.spawn(PROGRAM["nats"], "-c", write(os.path.join(node.folder, "conf"), text))
    return nodes


def start_rabbitmq(world, folder):
    nodes = [Node(folder, world, n) for n in (1, 2, 3)]
    host = socket.gethostname().split(".")[0]
    names = [f"nilm{os.getpid()}n{n.number}@{host}" for n in nodes]
    cookie = write(os.path.join(folder, ".erlang.cookie"), "NILMTEST")
    os.chmod(cookie, 0o400)
    epmd = free_port()
    for node, name in zip(nodes, names):
        text = conf("rabbitmq.conf", *node.pki, ("mqtt.listeners.ssl.default = 8883", f"mqtt.listeners.ssl.default = 127.0.0.1:{node.port}"),
                    *((f"rabbit@node{n + 1}", other) for n, other in enumerate(names)))
        env = {"PATH": os.environ["PATH"], "HOME": folder, "LANG": "C.UTF-8", "RABBITMQ_NODENAME": name, "RABBITMQ_NODE_PORT": str(free_port()),
               "RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # so that it may be ended
               "RABBITMQ_CONFIG_FILE": write(os.path.join(node.folder, "rabbitmq.conf"), text)[:-5],
               "RABBITMQ_ENABLED_PLUGINS_FILE": shutil.copy(os.path.join(CONF, "enabled_plugins"), node.folder),
               "RABBITMQ_MNESIA_BASE": node.folder, "RABBITMQ_LOG_BASE": node.folder, "RABBITMQ_PID_FILE": os.path.join(node.folder, "pid"),
               "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none"}
        node.env = env
        node.spawn(PROGRAM["rabbitmq"], env=env)
    def ctl(*argv):
        return subprocess.run(["/usr/lib/rabbitmq/bin/rabbitmqctl", "-n", names[2], *argv], env=nodes[2].env, capture_output=True, text=True, timeout=60)
    if not wait_for(lambda: all(n.listens() for n in nodes), 180, 1):
        return nodes
    wait_for(lambda: ctl("cluster_status", "--formatter", "json").stdout.count(f"nilm{os.getpid()}n") and
             len(json.loads(ctl("cluster_status", "--formatter", "json").stdout or "{}").get("running_nodes", [])) == 3, 60, 2)
    for user in ("gw", "sub"):
        ctl("add_user", user, "")
        ctl("set_permissions", user, ".*", ".*", ".*")
    return nodes


class Consumer:
    def __init__(self, world, port):
        self.messages, self.stopping = [], False
        self.argv = ["stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "--cafile", world.pki.ca, "--cert", world.pki.path("sub.pem"),
                     "--key", world.pki.path("sub.key"), "-i", f"sub{port}", "-c", "-q", "1", "-V", "mqttv311", "-t", "nilm/v1/gw/#", "-F", "%t %x"]
        self.process = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while not self.stopping:
            self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent)
            for line in self.process.stdout:
                topic, _, payload = line.decode().strip().partition(" ")
                if re.search(r"/(event|alert|summary|gap|report)(/|$)", topic):
                    self.messages.append(json.loads(bytes.fromhex(payload)))
            self.process.wait()
            time.sleep(0.5)

    def stop(self):
        self.stopping = True
        if self.process:
            self.process.kill()


def exercise(world, kind, nodes):
    """One row of the table."""
    if not check(wait_for(lambda: all(n.listens() for n in nodes), 60, 0.5), f"{kind}: {len(nodes)} nodes listen"):
        print(open(nodes[0].log, errors="replace").read()[-3000:])
        return None
    consumers = [Consumer(world, n.port) for n in (nodes if kind == "mosquitto" else nodes[-1:])]
    time.sleep(3)
    meters = {f"m{i}": {"type": "sim", "appliance": a, "speed": 4000, "seed": i, "days": 3000} for i, a in enumerate(("refrigerator", "waterkettle", "dishwasher"))}
    agent = harness.Agent(world, "gw", meters, "[broker]\nkeepalive = 10s\nfail_back = 1h", port=[n.port for n in nodes])
    world.agents.append(agent)
    agent.start()
    up = wait_for(lambda: re.search(r"connected to 127.0.0.1:(\d+), MQTT ([0-9.]+), (\S+ \S+)", agent.text()), 60)
    if not check(up and int(up[1]) == nodes[0].port, f"{kind}: connected to the first node: {up and up[0]}"):
        return None
    time.sleep(RUN_S)
    before = max((i["seq"] for c in consumers for i in c.messages), default=0)
    killed = time.monotonic()
    nodes[0].kill()
    over = wait_for(lambda: any(f"connected to 127.0.0.1:{n.port}" in agent.text() for n in nodes[1:]), 60, 0.1)
    took = time.monotonic() - killed
    check(over, f"{kind}: a node killed after {before} items; failed over in {took:.1f} s")
    time.sleep(RUN_S)

    agent.process.terminate()
    agent.process.wait(20)
    left = {r[0] for r in agent.database("SELECT seq FROM outbox")}
    top = agent.database("SELECT next_seq - 1 FROM outbox_state")[0][0]
    have = lambda: {i["seq"] for c in consumers for i in c.messages}  # noqa: E731
    wait_for(lambda: have() >= set(range(1, top + 1)) - left, 30, 0.5)
    lost = sorted(set(range(1, top + 1)) - left - have())
    count = sum(len(c.messages) for c in consumers)
    check(not lost and top - len(left) > before > 0, f"{kind}: {len(have())} of {top} items at the consumer, {len(left)} still in the outbox, missing {lost[:8]}; {count - len(have())} duplicates")
    for c in consumers:
        c.stop()
    return kind, len(nodes), up[2], up[3], f"{took:.1f} s", top - len(left), count - len(have()), len(lost)


def install(kind, allowed):
    if shutil.which(PROGRAM[kind]) and shutil.which("mosquitto_sub"):
        return True
    if not allowed or os.getuid():
        return False
    policy = "/usr/sbin/policy-rc.d"  # the packages' services shall not start
    made = not os.path.exists(policy) and bool(write(policy, "#!/bin/sh\nexit 101\n"))
    if made:
        os.chmod(policy, 0o755)
    try:
        argv = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES[kind]]
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(argv, env=env, capture_output=True).returncode:
            subprocess.run(["apt-get", "update"], capture_output=True)
            subprocess.run(argv, env=env, capture_output=True)
    finally:
        if made:
            os.unlink(policy)
    return bool(shutil.which(PROGRAM[kind]) and shutil.which("mosquitto_sub"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="mosquitto|nats|rabbitmq")
    parser.add_argument("--no-install", action="store_true")
    o = parser.parse_args()
    rows = []
    for kind in o.kinds or list(PACKAGES):
        if not install(kind, not o.no_install):
            print(f"skipped: {kind}: the packages {' '.join(PACKAGES[kind])} are not installed")
            continue
        with World() as w:
            w.pki.issue("sub")
            folder = os.path.join(w.folder, kind)
            os.makedirs(folder)
            w.broker.kill()
            nodes = globals()["start_" + kind](w, folder)
            try:
                rows.append(exercise(w, kind, nodes))
            finally:
                for node in nodes:
                    node.kill()
                if kind == "rabbitmq":
                    time.sleep(1)
                    subprocess.run(["epmd", "-kill"], env=nodes[0].env, capture_output=True)
    if not rows:
        harness.skip("no broker could run")
    print(f"\n{'broker':12} {'nodes':>5} {'MQTT':>6} {'failed over in':>15} {'items':>6} {'duplicates':>11} {'missing':>8}  TLS")
    for row in filter(None, rows):
        kind, nodes, mqtt, tls, took, items, duplicates, lost = row
        print(f"{kind:12} {nodes:5} {mqtt:>6} {took:>15} {items:6} {duplicates:11} {lost:8}  {tls}")
    harness.done()


main()
