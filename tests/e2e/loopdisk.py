"""A real file system of a few MB in a file, mounted in a mount namespace of its own (root, loop devices)."""
import os
import shutil
import subprocess
import sys

from harness import run, skip

INSIDE = "inside"


def enter(*programs):
    """Starts the script that was called again in a mount namespace; skips where that, or a program, cannot be had."""
    if os.getuid() != 0:
        skip("not root")
    for program in ("losetup", *programs):
        if not shutil.which(program):
            skip(f"no {program}")
    if sys.argv[1:] != [INSIDE]:
        if run("unshare", "-m", "true").returncode:
            skip("no mount namespace can be had here")
        os.execvp("unshare", ["unshare", "-m", sys.executable, os.path.abspath(sys.argv[0]), INSIDE])


class LoopDisk:
    """with LoopDisk(image, megabytes, mkfs, path, options) as disk: mounted at path."""

    def __init__(self, image, megabytes, mkfs, path, options="defaults"):
        self.image, self.path, self.options, self.device = image, path, options, None
        with open(image, "wb") as f:
            f.truncate(megabytes << 20)
        made = run(*mkfs, image)
        if made.returncode:
            skip(f"{mkfs[0]}: {made.stderr.strip()[-200:]}")

    def __enter__(self):
        attached = run("losetup", "-f", "--show", self.image)
        if attached.returncode:
            skip("no loop device can be had here: " + attached.stderr.strip())
        self.device = attached.stdout.strip()
        if not self.mount():
            self.__exit__()
            skip(f"this kernel does not mount it ({self.options})")
        return self

    def mount(self):
        os.makedirs(self.path, exist_ok=True)
        return run("mount", "-o", self.options, self.device, self.path).returncode == 0

    def unmount(self):
        return run("umount", self.path).returncode == 0

    def __exit__(self, *_):
        if not self.unmount():
            subprocess.run(["umount", "-l", self.path], stderr=subprocess.DEVNULL, check=False)
        run("losetup", "-d", self.device)
