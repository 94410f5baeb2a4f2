"""The reference consumer (SPEC 8) against a stream made by hand: duplicates, two contents, gaps whole and merged, a replaced
database, messages that are none, a disk that refuses, a session that the broker forgot, rotation of the file of lines."""
import json
import os
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fault"))
from faultlib import NILMCTL, Consumer, World, _die_with_parent, check, run, wait_for  # noqa: E402
from harness import done  # noqa: E402


class Stream:
    def __init__(self, world):
        self.world = world
        self.cert, self.key = world.pki.issue("device")

    def publish(self, tail, *payloads):
        w = self.world
        for p in payloads:
            subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(w.broker.port), "--cafile", w.pki.ca, "--cert",
                            self.cert, "--key", self.key, "-q", "1", "-t", "nilm/v1/" + tail, "-m",
                            p if isinstance(p, str) else json.dumps(p)], check=True)


def event(seq, epoch=100, **more):
    return {"id": f"{epoch}-{seq}", "device": "gw", "epoch": epoch, "seq": seq, "replay": False, "type": "on", **more}


def received(consumer, n):
    return wait_for(lambda: (consumer.device("gw") or {}).get("received") == n, 20, 0.2)


def usage():
    broker = ["--broker", "mqtts://localhost", "--ca", "x"]
    for argv in (["--exactly-once", *broker], ["--store", "x", *broker], ["--report"], ["--out", "x", *broker],
                 ["--exactly-once", "--store", "x", "--topic", "#", *broker], ["--exactly-once", "--report", "--store", "x"]):
        result = run(NILMCTL, "watch", *argv)
        check(result.returncode == 1, f"wrong usage: {' '.join(argv)}: {result.stderr.strip()}")
    check(run(NILMCTL, "watch", "--report", "--store", "/nowhere/x").returncode == 2, "no store: nothing to report")


def judged(consumer, stream):
    """Numbers, duplicates, gaps."""
    stream.publish("gw/event/m", event(1), event(2), event(2, replay=True), event(5), event(9), event(12))
    stream.publish("gw/gap", event(13, from_seq=3, to_seq=4, count=2, reason="rows"),
                   event(14, from_seq=6, to_seq=11, count=3, reason="bytes"))
    check(received(consumer, 7), "seven numbers")
    d = consumer.device("gw")
    check((d["duplicates"], d["conflicts"], d["declared_lost"], d["missing"]) == (1, 0, 5, 2),
          f"a duplicate that differs in replay only; a merged gap says three of five holes: {d}")
    check(run(NILMCTL, "watch", "--report", "--store", consumer.store).returncode == 2, "a hole that nobody declared: exit code 2")
    stream.publish("gw/alert/m", event(10), event(11))
    stream.publish("gw/event/m", event(12, type="off"))
    check(received(consumer, 9) and wait_for(lambda: consumer.device("gw")["conflicts"] == 1, 10), "another content is told")
    d = consumer.device("gw")
    check((d["missing"], d["declared_lost"]) == (0, 5), f"late ones fill holes: {d}")
    stream.publish("gw/event/m", event(1, epoch=300), event(2, epoch=300))
    check(received(consumer, 11) and consumer.device("gw")["missing"] == 0, "numbers begin again: a new database, no hole")
    status = {"epoch": 300, "outbox": {"next_seq": 6, "rows": 0}}
    stream.publish("gw/status", status)
    check(wait_for(lambda: consumer.device("gw")["behind"] == 3, 10), "the device delivered three that did not come")
    stream.publish("gw/event/m", "no json", "[1]", {"seq": 4}, "{\"epoch\":300,\"seq\":-1}", event(3, epoch=300), event(4, epoch=300),
                   event(5, epoch=300))
    check(received(consumer, 14) and consumer.device("gw")["behind"] == 0, "what is no message is passed over, what follows is not")


def refused_by_the_disk(consumer, stream):
    """Files may not grow: nothing is acknowledged, nothing lost, and nothing comes twice into the file of lines."""
    stream.publish("gw/event/m", event(6, epoch=300))
    check(received(consumer, 15), "before")
    size = 4096  # not even the first frame of a log that begins anew; what the consumer says still fits
    resource.prlimit(consumer.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    stream.publish("gw/event/m", *[event(n, epoch=300, text="x" * 2000) for n in range(7, 27)])
    check(wait_for(lambda: "come again" in open(consumer.log).read(), 20), "the disk refuses: told, not acknowledged")
    check(consumer.process.poll() is None and consumer.device("gw")["received"] == 15, "nothing half stored")
    resource.prlimit(consumer.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    check(received(consumer, 35), "all there when the disk takes it again")
    lines = [(e["epoch"], e["seq"]) for e in consumer.lines()]
    check(len(lines) == len(set(lines)) == 35, f"each once in the file of lines ({len(lines)})")


def killed_and_rotated(world, consumer, stream):
    consumer.kill()
    stream.publish("gw/event/m", event(27, epoch=300))
    with open(consumer.out, "a") as f:
        f.write('{"half')  # as a kill between file and transaction leaves it
    consumer.start()
    check(received(consumer, 36) and len(consumer.lines()) == 36, "what the store does not know of is cut off the file")
    second = run(NILMCTL, "watch", "--exactly-once", "--store", consumer.store, "--broker", f"mqtts://127.0.0.1:{world.broker.port}",
                 "--ca", world.pki.ca, "--cert", consumer.cert, "--key", consumer.key)
    check(second.returncode == 3 and "another consumer" in second.stderr, f"one consumer at a time: {second.stderr.strip()}")
    consumer.stop()
    os.rename(consumer.out, consumer.out + ".1")
    stream.publish("gw/event/m", event(28, epoch=300))
    consumer.start()
    check(received(consumer, 37) and [e["seq"] for e in consumer.lines()] == [28], "a rotated file goes on with what is new")
    consumer.stop()
    with open(consumer.out, "w") as f:
        f.write("x")
    consumer.start()
    check(consumer.process.wait(10) == 2, "a file that is shorter than it was is refused")
    os.unlink(consumer.out)


def pipe_and_lost_session(world, consumer, stream):
    """--json: what was printed is not printed again; a session that the broker forgot is told."""
    world.broker.kill(signal.SIGTERM)
    os.unlink(os.path.join(world.broker.folder, "mosquitto.db"))
    world.broker.start()
    argv = [NILMCTL, "watch", "--exactly-once", "--store", consumer.store, "--broker", f"mqtts://127.0.0.1:{world.broker.port}", "--ca",
            world.pki.ca, "--cert", consumer.cert, "--key", consumer.key, "--json", "--seconds", "3"]
    first = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_die_with_parent)
    time.sleep(1.5)
    stream.publish("gw/event/m", event(29, epoch=300))
    out, err = first.communicate(timeout=30)
    check("no session of ours" in err, "a lost session is told")
    check(len(out.splitlines()) == 38 and first.returncode == 0, f"all that is stored, once: {len(out.splitlines())} lines")
    again = run(*argv)
    check(again.stdout == "" and again.returncode == 0, "and never again")


usage()
with World() as world:
    consumer, stream = Consumer(world), Stream(world)
    consumer.start()
    consumer.connected()
    time.sleep(1)
    judged(consumer, stream)
    refused_by_the_disk(consumer, stream)
    killed_and_rotated(world, consumer, stream)
    pipe_and_lost_session(world, consumer, stream)
done()
