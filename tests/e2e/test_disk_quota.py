#!/usr/bin/python3
"""A real quota (of btrfs) that is used up under a running agent: to it that is a full disk. The index of SQLite's log, which
is memory shared by way of a file, lies in a tmpfs: btrfs copies a page that is written and ends a process (SIGBUS) that it
has no room for (DESIGN "A disk that refuses"). Needs root, loop devices and btrfs-progs; skipped elsewhere."""
import errno
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Subscriber, World, check, done, run, sequence_report, skip, wait_for  # noqa: E402
from loopdisk import LoopDisk, enter  # noqa: E402
from test_disk import Feed, full_disk, status  # noqa: E402

QUOTA_MB = 12


def use_up(folder):
    """The disk has room; the quota has not."""
    path, reason = os.path.join(folder, "filler"), 0
    with open(path, "wb", buffering=0) as f:
        size = 65536
        while size:
            try:
                f.write(bytes(size))
                os.fsync(f.fileno())
            except OSError as e:
                size, reason = size // 4, e.errno
    check(reason == errno.EDQUOT, f"the quota is used up: {os.strerror(reason)}")
    return path


def share_index(memory, data):
    os.makedirs(memory)
    run("mount", "-t", "tmpfs", "none", memory, check=True)
    for path in (memory + "/index", data + "/nilmd.db-shm"):
        open(path, "w").close()
    run("mount", "--bind", memory + "/index", data + "/nilmd.db-shm", check=True)


def main():
    enter("mkfs.btrfs", "btrfs")
    with World() as world:
        agent = world.agent("gw", {"m": {"type": "stdin", "min_off": "10s"}})
        with LoopDisk(os.path.join(world.folder, "disk.img"), 256, ("mkfs.btrfs", "-q"), agent.data):
            if run("btrfs", "quota", "enable", agent.data).returncode or \
                    run("btrfs", "qgroup", "limit", f"{QUOTA_MB}M", agent.data).returncode:
                skip("this kernel has no quota for btrfs")
            memory = os.path.join(world.folder, "memory")
            share_index(memory, agent.data)
            subscriber = Subscriber(world)
            feed = Feed(agent)
            wait_for(lambda: status(agent), 15, 0.2)
            full_disk(world, agent, subscriber, feed, use_up)
            check(agent.stop() == 0, "the agent ends in good order")
        run("umount", memory)
        missing, conflicts, count = sequence_report(subscriber.items())
        check(conflicts == 0 and not missing, f"{count} numbers, none missing ({missing[:10]}), none with two contents")
    done()


main()
