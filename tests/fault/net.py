#!/usr/bin/python3
"""The agent on bad networks: gateway and broker in two network namespaces, a consumer beside the broker.

    net.py            every scenario, longer (about 5 minutes)
    net.py --quick    loss, black hole and broker restart, short (for ctest)
    --seconds N       how long each trouble lasts

Loss by nftables, a narrow link by tc tbf, delay and reordering by a forwarder between two TUN devices (kernels without netem), half-open links by a
broker that dies while nothing passes and whose resets are dropped. Printed: how long until the agent noticed, how long until it was back after the trouble
had ended, and whether a sequence number is missing at the consumer. Needs root (namespaces) and the packages nftables and iproute2; else it skips (77)."""
import argparse
import fcntl
import heapq
import os
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
from harness import NILMD, Agent, Broker, World, _die_with_parent, check, done, sequence_report, skip, wait_for  # noqa: E402

KEEPALIVE = 5
DEVICE = "gw"


def sh(command, ok=False):
    result = subprocess.run(command, shell=True, capture_output=True, text=True)
    if result.returncode and not ok:
        raise RuntimeError(f"{command}: {result.stderr.strip()}")
    return result.returncode == 0


class Net:
    """Two namespaces, joined by a veth pair (10.77.0.x) and by the forwarder (10.78.0.x). x: 1 gateway, 2 broker."""

    def __init__(self):
        tag = f"{os.getpid() % 100000}"
        self.gw, self.hub = "gw" + tag, "hub" + tag
        self.delay_ms, self.jitter_ms, self.stopping, self.passed, self.reordered = 0, 0, False, 0, 0
        for ns in (self.gw, self.hub):
            sh(f"ip netns add {ns}")
            sh(f"ip -n {ns} link set lo up")
        sh(f"ip -n {self.gw} link add v0 type veth peer name v0 netns {self.hub}")
        self.tuns = []
        for n, ns in ((1, self.gw), (2, self.hub)):
            sh(f"ip -n {ns} addr add 10.77.0.{n}/24 dev v0 && ip -n {ns} link set v0 up")
            name = f"nt{n}x{tag}"[:15]
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH", name.encode(), 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
            sh(f"ip link set {name} netns {ns} && ip -n {ns} addr add 10.78.0.{n}/24 dev {name} && ip -n {ns} link set {name} up")
            sh(f"ip netns exec {ns} nft 'add table inet t; add chain inet t i {{ type filter hook input priority 0; }}; add chain inet t o {{ type filter hook output priority 0; }}'")
            self.tuns.append(fd)
        threading.Thread(target=self._forward, daemon=True).start()

    def _forward(self):
        queue, number = [], 0
        last = {0: 0, 1: 0}
        while not self.stopping:
            wait = max(0, min(0.05, queue[0][0] - time.monotonic())) if queue else 0.05
            for fd in select.select(self.tuns, [], [], wait)[0]:
                try:
                    packet = os.read(fd, 65536)
                except OSError:  # its namespace is gone
                    return
                number += 1
                due = time.monotonic() + (self.delay_ms + random.uniform(-1, 1) * self.jitter_ms) / 1000
                heapq.heappush(queue, (due, number, 1 - self.tuns.index(fd), packet))
            while queue and queue[0][0] <= time.monotonic():
                _, n, side, packet = heapq.heappop(queue)
                self.passed += 1
                self.reordered += n < last[side]
                last[side] = max(last[side], n)
                try:
                    os.write(self.tuns[side], packet)
                except OSError:
                    pass

    def rule(self, text, hooks=(("gw", "i"), ("hub", "i"))):
        for which, chain in hooks:
            sh(f"ip netns exec {getattr(self, which)} nft 'add rule inet t {chain} {text}'")

    def clear(self):
        for ns in (self.gw, self.hub):
            sh(f"ip netns exec {ns} nft 'flush chain inet t i; flush chain inet t o'")
            sh(f"ip netns exec {ns} tc qdisc del dev v0 root", ok=True)

    def close(self):
        self.stopping = True
        for ns in (self.gw, self.hub):
            sh(f"ip netns del {ns}", ok=True)


class HubBroker(Broker):
    def __init__(self, world, net):
        self.net = net
        super().__init__(os.path.join(world.folder, "hub"), world.pki)
        with open(self.conf) as f:
            text = re.sub(r"listener (\d+) 127.0.0.1", r"listener \1 0.0.0.0", f.read())
        with open(self.conf, "w") as f:
            f.write(text + "log_type subscribe\n")

    def start(self):
        self.process = subprocess.Popen(["ip", "netns", "exec", self.net.hub, "/usr/sbin/mosquitto", "-c", self.conf], preexec_fn=_die_with_parent,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not wait_for(lambda: sh(f"ip netns exec {self.net.hub} bash -c '</dev/tcp/127.0.0.1/{self.port}'", ok=True), 10):
            raise RuntimeError("mosquitto did not start: " + open(self.log).read()[-2000:])


class Consumer:
    """mosquitto_sub beside the broker, whose namespace no trouble touches."""

    def __init__(self, world, net, broker):
        self.cert, self.key = world.pki.issue("consumer")
        self.argv = ["ip", "netns", "exec", net.hub, "stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "--cafile", world.pki.ca,
                     "--cert", self.cert, "--key", self.key, "-i", "consumer", "-c", "-q", "1", "-V", "mqttv311", "-t", f"nilm/v1/{DEVICE}/#", "-F", "%t %x"]
        self.messages, self.stopping, self.process = [], False, None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while not self.stopping:
            self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent)
            for line in self.process.stdout:
                topic, _, payload = line.decode().strip().partition(" ")
                if re.search(r"/(event|alert|gap|report)(/|$)", topic):
                    self.messages.append((time.monotonic(), bytes.fromhex(payload)))
            self.process.wait()
            time.sleep(0.2)

    def items(self):
        import json
        return [json.loads(p) for _, p in list(self.messages)]

    def stop(self):
        self.stopping = True
        self.process.kill()


class NetAgent(Agent):
    def __init__(self, world, net, broker):
        meters = {f"m{i}": {"type": "sim", "appliance": a, "speed": 3000, "seed": i, "days": 3000} for i, a in
                  enumerate(("refrigerator", "waterkettle", "freezer", "dishwasher"))}
        super().__init__(world, DEVICE, meters, f"[broker]\nkeepalive = {KEEPALIVE}s\nfail_back = 1h", port=broker.port)
        self.net = net
        self.use("10.77.0.2")

    def use(self, host):
        with open(self.config) as f:
            text = re.sub(r"url = mqtts://[0-9.]+:", f"url = mqtts://{host}:", f.read())
        with open(self.config, "w") as f:
            f.write(text)

    def start(self):
        self.process = subprocess.Popen(["ip", "netns", "exec", self.net.gw, NILMD, "--config", self.config], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=open(self.log, "ab"), preexec_fn=_die_with_parent)


class Watch:
    """When which line came into the agent's log."""

    def __init__(self, agent):
        self.agent, self.lines, self.stopping = agent, [], False
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        seen = 0
        while not self.stopping:
            lines = self.agent.text().split("\n")[:-1]
            now = time.monotonic()
            self.lines += [(now, line) for line in lines[seen:]]
            seen = len(lines)
            time.sleep(0.1)

    def first(self, words, since):
        return next((t for t, line in list(self.lines) if t >= since and words in line), None)

    def wait(self, words, since, seconds):
        return wait_for(lambda: self.first(words, since), seconds, 0.1)


class Suite:
    def __init__(self, world, net, seconds):
        self.net, self.seconds, self.rows = net, seconds, []
        self.broker = HubBroker(world, net)
        self.broker.start()
        self.consumer = Consumer(world, net, self.broker)
        check(wait_for(lambda: "consumer 1 nilm/" in open(self.broker.log).read(), 20, 0.1), "the consumer has subscribed")
        self.agent = NetAgent(world, net, self.broker)
        world.agents.append(self.agent)
        self.agent.start()
        self.watch = Watch(self.agent)
        check(self.watch.wait("connected to", 0, 20), "connected")

    def scenario(self, name, begin, end=None, breaks=False, seconds=None):
        """begin() makes the trouble, which lasts; then it ends. breaks: the session is to be lost."""
        if self.only not in name:
            return
        before, began = len(self.consumer.messages), time.monotonic()
        begin()
        noticed = self.watch.wait("session lost", began, 40) if breaks else None
        if not breaks:
            time.sleep(seconds or self.seconds)
        during = len(self.consumer.messages) - before
        (end or self.net.clear)()
        ended = time.monotonic()
        stored = self.agent.database("SELECT coalesce(max(next_seq), 1) - 1 FROM outbox_state")[0][0]
        back = self.watch.wait("connected to", began if noticed and noticed < ended else ended, 150) if breaks else ended
        caught_up = wait_for(lambda: {i["seq"] for i in self.consumer.items()} >= set(range(1, stored + 1)), 150, 0.2)
        caught = time.monotonic() - ended
        lost = noticed or self.watch.first("session lost", began)
        ok = caught_up and (not breaks or (noticed and back))
        self.rows.append((name, f"{lost - began:.1f} s" if lost else "-", f"{max(0, back - ended):.1f} s" if breaks and back else "-", f"{caught:.1f} s", during, stored))
        check(ok, f"{name}: noticed {self.rows[-1][1]}, session back {self.rows[-1][2]}, all {stored} items there {caught:.1f} s after its end; {during} came during it")

    def table(self):
        print(f"\n{'trouble':34} {'noticed after':>14} {'session back':>13} {'caught up':>10} {'came during':>12} {'items so far':>13}")
        for name, noticed, back, caught, during, stored in self.rows:
            print(f"{name:34} {noticed:>14} {back:>13} {caught:>10} {during:>12} {stored:>13}")
        print(f"keepalive {KEEPALIVE} s; session back and caught up: after the end of the trouble; '-': the session was not lost")

    # ---- the troubles ----

    def loss(self):
        self.net.rule("tcp sport != 0 numgen random mod 100 < 30 drop")

    def narrow(self):
        for ns in (self.net.gw, self.net.hub):
            sh(f"ip netns exec {ns} tc qdisc add dev v0 root tbf rate 16kbit burst 1600 latency 3s")

    def black_hole(self):
        self.net.rule("iifname v0 drop")

    def half_open(self):
        """The broker's machine dies and comes back without a word of the old connection."""
        self.net.rule("oifname v0 tcp flags & (fin | rst) != 0x0 drop", (("hub", "o"),))
        self.broker.kill()
        self.broker.start()

    def restart(self):
        self.broker.kill(signal.SIGKILL)
        time.sleep(0.5)
        self.broker.start()

    def through_tun(self):
        self.agent.use("10.78.0.2")
        self.agent.process.send_signal(signal.SIGHUP)
        began = time.monotonic()
        check(self.watch.wait("connected to 10.78.0.2", began - 1, 30), "moved to the other link by SIGHUP")

    def slow(self):
        self.net.delay_ms, self.net.jitter_ms = 250, 150
        self.net.reordered = 0

    def fast(self):
        print(f"      {self.net.passed} packets passed, {self.net.reordered} out of order")
        self.net.delay_ms = self.net.jitter_ms = 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    o = parser.parse_args()
    if os.getuid() or not shutil.which("nft") or not shutil.which("tc") or not os.path.exists("/dev/net/tun") or not sh("unshare -n true", ok=True):
        skip("needs root, network namespaces, /dev/net/tun, and the packages nftables and iproute2")
    with World() as w:
        w.broker.kill()
        w.pki.server, w.pki.server_key = w.pki.issue("hub", "subjectAltName=IP:127.0.0.1,IP:10.77.0.2,IP:10.78.0.2")
        net = Net()
        try:
            s = Suite(w, net, o.seconds or (5 if o.quick else 30))
            s.only = o.only
            s.scenario("30 % loss both ways", s.loss)
            s.scenario("black hole", s.black_hole, breaks=True)
            s.scenario("broker killed and started", s.restart, breaks=True)
            if not o.quick:
                s.scenario("narrow link, 16 kbit/s", s.narrow)
                s.scenario("half-open (broker rebooted)", s.half_open, breaks=True)
                s.through_tun()
                s.scenario("250 +- 150 ms, reordering", s.slow, s.fast)
                s.scenario("30 % loss, killed meanwhile", lambda: (s.loss(), s.restart()), breaks=True)
            s.agent.stop()
            missing, conflicts, distinct = sequence_report(s.consumer.items())
            left = {r[0] for r in s.agent.database("SELECT seq FROM outbox")}
            duplicates = len(s.consumer.messages) - distinct
            check(not [m for m in missing if m not in left] and not conflicts, f"{distinct} sequence numbers at the consumer, none missing; {duplicates} duplicates, all the same as the first")
            s.table()
            s.consumer.stop()
            s.watch.stopping = True
            s.broker.kill()
        finally:
            net.close()
    done()


main()
