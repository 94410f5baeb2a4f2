#!/usr/bin/python3
"""A real agent on a disk that fills up, and on a database that is damaged under it: the meters go on, the status says so,
and in the end every number has come or is declared. The data folder is a small tmpfs in a mount namespace of its own
(needs unshare; skipped where that is not permitted)."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Subscriber, World, check, done, sequence_report, skip, wait_for  # noqa: E402
import json  # noqa: E402

INSIDE = "inside"
DISK_MB = 12
RATE = 60


def enter():
    """Starts this script again in a mount namespace."""
    for option in ("-m", "-rm"):
        if subprocess.run(["unshare", option, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True).returncode == 0:
            os.execvp("unshare", ["unshare", option, sys.executable, os.path.abspath(__file__), INSIDE])
    skip("no mount namespace can be had here")


class Feed:
    """Readings of a load that is on for a minute and off for a minute, through the agent's standard input."""

    def __init__(self, agent):
        reader, self.pipe = os.pipe()
        agent.start(stdin=reader)
        os.close(reader)
        self.time, self.readings, self.runs = 1_704_067_200_000, 0, 0

    def run(self, count):
        for _ in range(count):
            for watts in [120.0] * 6 + [0.0] * 6:
                os.write(self.pipe, f"{self.time},{watts}\n".encode())
                self.time += 10_000
                self.readings += 1
            self.runs += 1


def status(agent):
    answer = agent.ctl("status", "--json")
    return json.loads(answer.stdout) if answer.returncode == 0 else {}


def fill(folder):
    """Not a byte is free afterwards."""
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as f:
        size = 65536
        while size:
            try:
                f.write(bytes(size))
            except OSError:
                size //= 2
    return path


def all_came(world, agent, subscriber, runs):
    def look():
        offs = {i["seq"] for i in subscriber.items("event") if i["type"] == "off"}
        return len(offs) >= runs
    return wait_for(look, 25, 0.3)


def full_disk(world, agent, subscriber, feed, fill=fill):
    feed.run(5)
    check(all_came(world, agent, subscriber, feed.runs), "events arrive while there is room")
    check(status(agent)["store"] == {"state": "ok", "waiting": 0, "lost": 0}, "status: the store is ok")
    filler = fill(agent.data)
    for _ in range(40):  # until the log is full too
        feed.run(2)
        if wait_for(lambda: status(agent)["store"]["state"] == "refusing", 0.7, 0.3):
            break
    feed.run(20)
    wait_for(lambda: status(agent)["meters"][0]["samples"] >= feed.readings - 6, 10, 0.3)
    s = status(agent)
    check(s["store"]["state"] == "refusing" and s["store"]["waiting"] > 0, f"full disk: status says so ({s['store']})")
    check(s["meters"][0]["samples"] >= feed.readings - 6, f"full disk: {s['meters'][0]['samples']} readings were taken")
    check("THE DISK REFUSES" in agent.ctl("status").stdout, "full disk: nilmctl status says so")
    check(wait_for(lambda: (subscriber.last("status") or {}).get("store", {}).get("state") == "refusing", 15, 0.3),
          "full disk: so does the retained status")
    check(agent.process.poll() is None, "full disk: the agent runs")
    os.unlink(filler)
    check(wait_for(lambda: status(agent)["store"]["state"] == "ok", 15, 0.3), "room again: it writes again")
    check(all_came(world, agent, subscriber, feed.runs), "room again: every event comes")
    check(status(agent)["store"]["lost"] == 0, "nothing was lost")


def damage(world, agent, subscriber, feed):
    """A flipped bit in what waits: SQLite sees nothing, the check sum of the row does."""
    world.broker.kill()
    waiting = 2 * 80 - 8  # more than the publisher holds in memory
    feed.run(80)
    check(wait_for(lambda: status(agent)["outbox"]["rows"] >= waiting, 15, 0.3), "items wait while the broker is away")
    body = agent.database("SELECT body FROM outbox WHERE body LIKE '%\"type\":\"off\"%' ORDER BY seq LIMIT 1 OFFSET 70")[0][0]
    for name in ("nilmd.db", "nilmd.db-wal"):
        with open(os.path.join(agent.data, name), "r+b") as f:
            data = f.read()
            at = data.find(body.encode())
            while at >= 0:
                f.seek(at + body.find('"off"') + 3)
                f.write(b"g")
                at = data.find(body.encode(), at + 1)
    world.broker.start()
    began, before = time.monotonic(), len(subscriber.items("event"))
    check(wait_for(lambda: any(a["alert"] == "store_replaced" for a in subscriber.items("alert")), 40, 0.3),
          "damage under the running agent: the database is replaced, an alert says so")
    check(any(".corrupt-" in n for n in os.listdir(agent.data)), "damage: the old file is set aside")
    feed.run(5)
    check(all_came(world, agent, subscriber, feed.runs - 1), "damage: all but the damaged one come, and what follows")
    came = len(subscriber.items("event")) - before - 10
    took = time.monotonic() - began
    check(took > (came - RATE / 10 - 64) / RATE, f"{came} replayed events at {RATE} a second at most: {took:.1f} s")
    gaps = [(g["count"], g["reason"]) for g in subscriber.items("gap")]
    check(gaps == [(1, "damage")], f"damage: the one is declared lost ({gaps})")
    alert = next((a for a in subscriber.items("alert") if a["alert"] == "store_replaced"), {})
    check(alert.get("value") == 1, "      " + alert.get("seen", ""))


def main():
    if sys.argv[1:] != [INSIDE]:
        enter()
    with World() as world:
        agent = world.agent("gw", {"m": {"type": "stdin", "min_off": "10s"}}, extra=f"[outbox]\ndrain_rate = {RATE}")
        os.makedirs(agent.data)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=700", "none", agent.data], check=True)
        subscriber = Subscriber(world)
        feed = Feed(agent)
        wait_for(lambda: status(agent), 15, 0.2)
        full_disk(world, agent, subscriber, feed)
        damage(world, agent, subscriber, feed)
        check(agent.stop() == 0, "the agent ends in good order")
        missing, conflicts, count = sequence_report(subscriber.items())
        check(conflicts == 0, f"{count} numbers, none with two contents")
        check(not missing, f"no number is missing undeclared ({missing[:10]})")
        subprocess.run(["umount", "-l", agent.data], check=False)
    done()


if __name__ == "__main__":
    main()
