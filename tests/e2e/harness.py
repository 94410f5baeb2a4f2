"""What the end-to-end tests share: a PKI, a Mosquitto with TLS and client certificates, a recording TCP forwarder, a
subscriber with a durable session, and agents. Everything runs on 127.0.0.1 with ephemeral ports, in one temporary folder,
and is gone at the end. A test is a script: `with World() as w: ...`, check(), done()."""
import atexit
import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("NILM_BUILD") or os.path.join(ROOT, "build/test")
NILMD = os.path.join(BUILD, "agent/nilmd")
NILMCTL = os.path.join(BUILD, "agent/nilmctl")
NILM_MODEL = os.path.join(BUILD, "agent/nilm-model")
MODELS = os.environ.get("NILM_MODELS") or os.path.join(ROOT, "inference/models")
BASE = "nilm/v1"
failures = []


def check(condition, text):
    print(("ok    " if condition else "FAIL  ") + text, flush=True)
    if not condition:
        failures.append(text)
    return condition


def done():
    if failures:
        print(f"{len(failures)} checks failed")
    sys.exit(1 if failures else 0)


def skip(text):
    print("skipped: " + text)
    sys.exit(77)


def data_folder():
    """The folder of real measurements, or the test is skipped."""
    folder = os.environ.get("NILM_DATA")
    if not folder or not os.path.isdir(os.path.join(folder, "tracebase/sample/complete")):
        skip("NILM_DATA does not name the folder of real measurements")
    return folder


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, seconds, step=0.05):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(step)
    return condition()


def run(*argv, timeout=120, **keywords):
    return subprocess.run([str(a) for a in argv], capture_output=True, timeout=timeout, text=True, **keywords)


class Pki:
    """A CA, a server certificate for 127.0.0.1 and localhost, and client certificates by common name."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        self.ca, self.ca_key = self.path("ca.pem"), self.path("ca.key")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "400",
                      "-subj", "/CN=test CA", "-keyout", self.ca_key, "-out", self.ca)
        self.server, self.server_key = self.issue("server", "subjectAltName=DNS:localhost,IP:127.0.0.1")

    def path(self, name):
        return os.path.join(self.folder, name)

    def _openssl(self, *argv):
        result = run("openssl", *argv)
        if result.returncode:
            raise RuntimeError("openssl: " + result.stderr)

    def sign(self, csr, cert, extension="extendedKeyUsage=clientAuth", days=200):
        ext = self.path("ext")
        with open(ext, "w") as f:
            f.write(extension + "\n")
        self._openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial",
                      "-days", str(days), "-extfile", ext, "-out", cert)
        return cert

    def expired(self, csr, cert):
        """Signs a request as a certificate that ended yesterday ("openssl ca" alone sets dates in the past)."""
        work, dates = self.path("expired.d"), [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() - 86400 * d)) for d in (10, 1)]
        os.makedirs(work, exist_ok=True)
        for name, text in (("index", ""), ("serial", "01\n"), ("conf", f"[ca]\ndefault_ca=d\n[d]\ndatabase={work}/index\nserial={work}/serial\n"
                           f"new_certs_dir={work}\ndefault_md=sha256\npolicy=p\nunique_subject=no\nx509_extensions=e\n[p]\ncommonName=supplied\n"
                           "[e]\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")):
            with open(os.path.join(work, name), "w") as f:
                f.write(text)
        self._openssl("ca", "-batch", "-config", os.path.join(work, "conf"), "-cert", self.ca, "-keyfile", self.ca_key, "-in", self.path(csr),
                      "-notext", "-startdate", dates[0], "-enddate", dates[1], "-out", cert)
        return dates[1]

    def issue(self, name, extension="extendedKeyUsage=clientAuth", days=200):
        cert, key, csr = self.path(name + ".pem"), self.path(name + ".key"), self.path(name + ".csr")
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-subj", "/CN=" + name, "-keyout", key, "-out", csr)
        self.sign(csr, cert, extension, days)
        return cert, key


class Broker:
    """Mosquitto with TLS and required client certificates. Its state survives SIGKILL (saved at every change)."""

    def __init__(self, folder, pki, extra=""):
        self.folder, self.port, self.process = folder, free_port(), None
        os.makedirs(folder)
        self.log = os.path.join(folder, "broker.log")
        self.conf = os.path.join(folder, "mosquitto.conf")
        with open(self.conf, "w") as f:
            f.write(f"""listener {self.port} 127.0.0.1
cafile {pki.ca}
certfile {pki.server}
keyfile {pki.server_key}
require_certificate true
use_identity_as_username true
allow_anonymous false
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 1
max_inflight_messages 0
max_queued_messages 0
log_dest file {self.log}
log_type error
log_type warning
log_type notice
""")
            f.write(extra)
            if os.getuid() == 0:
                f.write("user root\n")

    def start(self):
        self.process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", self.conf], preexec_fn=_die_with_parent,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not wait_for(self.listens, 10):
            raise RuntimeError("mosquitto did not start: " + open(self.log).read()[-2000:])

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def kill(self, how=signal.SIGKILL):
        if self.process:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None


class Recorder:
    """A TCP forwarder that keeps what crosses it: the capture of the network side."""

    def __init__(self, target_port):
        self.target, self.bytes = target_port, {"up": bytearray(), "down": bytearray()}
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.server.accept()
            try:
                upstream = socket.create_connection(("127.0.0.1", self.target), 2)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._pump, args=(client, upstream), daemon=True).start()

    def _pump(self, client, upstream):
        try:
            while True:
                for source in select.select([client, upstream], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    self.bytes["up" if source is client else "down"] += data
                    (upstream if source is client else client).sendall(data)
        except OSError:
            pass
        finally:
            client.close()
            upstream.close()


class Subscriber:
    """mosquitto_sub with a durable QoS 1 session; messages [(topic, payload bytes)] as they arrive."""

    def __init__(self, world, name="subscriber", topic="#"):
        self.world, self.name, self.topic, self.messages = world, name, topic, []
        self.cert, self.key = world.pki.issue(name)
        world.subscribers.append(self)
        self.process, self.stopping = None, False
        self.start()

    def start(self):
        threading.Thread(target=self._keep_running, daemon=True).start()
        log = self.world.broker.log
        wait_for(lambda: f"as {self.name} " in open(log).read(), 10)
        time.sleep(0.3)  # for the SUBSCRIBE after the CONNECT

    def _keep_running(self):
        """mosquitto_sub ends when its broker is killed; its session on the broker does not."""
        w = self.world
        while not self.stopping:
            self.process = subprocess.Popen(
                ["stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(w.broker.port), "--cafile", w.pki.ca,
                 "--cert", self.cert, "--key", self.key, "-i", self.name, "-c", "-q", "1", "-V", "mqttv311",
                 "-t", self.topic, "-F", "%t %r %x"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            for line in self.process.stdout:
                parts = line.decode().rstrip("\n").split(" ")
                if len(parts) == 3:
                    self.messages.append((parts[0], bytes.fromhex(parts[2])))
            self.process.wait()
            time.sleep(0.2)

    def items(self, *kinds):
        """Payloads (dicts) with an envelope, in order of arrival; kinds: event, alert, summary, gap, report."""
        result = []
        for topic, payload in list(self.messages):
            match = re.fullmatch(re.escape(BASE) + r"/[^/]+/(event|alert|summary|gap|report)(/[^/]+)?", topic)
            if match and (not kinds or match[1] in kinds):
                result.append(json.loads(payload))
        return result

    def last(self, suffix):
        """The last payload on BASE/*/suffix, parsed."""
        for topic, payload in reversed(list(self.messages)):
            if topic.startswith(BASE) and topic.endswith("/" + suffix) and payload:
                return json.loads(payload)
        return None

    def stop(self):
        self.stopping = True
        self.process.kill()


class Agent:
    """One nilmd with its configuration. meters: {name: {key: value}}."""

    def __init__(self, world, name, meters, extra="", port=None, program=NILMD):
        self.world, self.name, self.program = world, name, program
        self.folder = os.path.join(world.folder, name)
        os.makedirs(self.folder)
        self.cert, self.key = world.pki.issue(name)
        self.data = os.path.join(self.folder, "data")
        self.config = os.path.join(self.folder, "nilmd.conf")
        self.log = os.path.join(self.folder, "nilmd.log")
        self.process, self.port = None, port or world.broker.port
        ports = [self.port] if isinstance(self.port, int) else self.port  # several: brokers in order
        lines = ["[device]", f"id = {name}", f"data_dir = {self.data}", "[broker]",
                 "url = " + " ".join(f"mqtts://127.0.0.1:{p}" for p in ports), f"ca = {world.pki.ca}", f"cert = {self.cert}",
                 f"key = {self.key}", "[model]", f"file = {world.model}", f"keys = {world.ring}", extra]
        for meter, keys in meters.items():
            lines.append(f"[meter:{meter}]")
            lines += [f"{key} = {value}" for key, value in keys.items()]
        with open(self.config, "w") as f:
            f.write("\n".join(lines) + "\n")

    def start(self, *options, stdin=subprocess.DEVNULL, environment=None):
        self.process = subprocess.Popen([self.program, "--config", self.config, *options], stdin=stdin,
                                        stdout=subprocess.DEVNULL, stderr=open(self.log, "ab"),
                                        preexec_fn=_die_with_parent, env={**os.environ, **(environment or {})})
        return self.process

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=20):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode if self.process else None

    def wait(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def text(self):
        return open(self.log, errors="replace").read() if os.path.exists(self.log) else ""

    def ctl(self, *argv, timeout=30):
        return run(NILMCTL, *argv, "--config", self.config, timeout=timeout)

    def database(self, query):
        """Rows of the agent's own database, read beside it."""
        with sqlite3.connect(f"file:{self.data}/nilmd.db?mode=ro", uri=True, timeout=10) as db:
            return db.execute(query).fetchall()

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])


class World:
    """The temporary folder, the PKI, a running broker and a key ring with its private key."""

    def __enter__(self):
        for program in (NILMD, NILMCTL, NILM_MODEL):
            if not os.path.exists(program):
                sys.exit(f"{program} is not built (NILM_BUILD names the build folder)")
        self.folder = tempfile.mkdtemp(prefix="nilm-e2e-")
        atexit.register(shutil.rmtree, self.folder, True)
        self.pki = Pki(os.path.join(self.folder, "pki"))
        self.ring = os.path.join(self.folder, "ring")
        os.makedirs(self.ring)
        self.model = os.path.join(MODELS, "identify-int8.nilm")
        self.sign_key = self.key_pair("operator", self.ring)
        self.broker = Broker(os.path.join(self.folder, "broker"), self.pki)
        self.broker.start()
        self.agents, self.subscribers = [], []
        return self

    def key_pair(self, name, public_folder):
        key = os.path.join(self.folder, name + ".key")
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key, check=True)
        run("openssl", "ec", "-in", key, "-pubout", "-out", os.path.join(public_folder, name + ".pub"), check=True)
        return key

    def agent(self, *argv, **keywords):
        agent = Agent(self, *argv, **keywords)
        self.agents.append(agent)
        return agent

    def __exit__(self, kind, value, trace):
        for agent in self.agents:
            agent.stop(5)
            if kind or failures:
                print(f"--- log of {agent.name} (end)\n" + agent.text()[-8000:])
        for subscriber in self.subscribers:
            subscriber.stop()
        self.broker.kill()


def sequence_report(items):
    """(missing numbers not declared by a gap, duplicates with differing content, number of distinct ids)."""
    by_seq, conflicts = {}, 0
    for item in items:
        core = {k: v for k, v in item.items() if k != "replay"}
        if item["seq"] in by_seq and by_seq[item["seq"]] != core:
            conflicts += 1
        by_seq[item["seq"]] = core
    declared = set()
    for item in by_seq.values():
        if "from_seq" in item:
            declared.update(range(item["from_seq"], item["to_seq"] + 1))
    top = max(by_seq, default=0)
    return [s for s in range(1, top + 1) if s not in by_seq and s not in declared], conflicts, len(by_seq)
