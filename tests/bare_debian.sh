#!/usr/bin/env bash
# bare_debian.sh [DIR] - makes a bare Debian 12 root with debootstrap (package source and settings from this machine's apt
# configuration), clones the committed tree into it, and runs both commands of README.md there: ./deploy/demo.sh and
# ./tests/run.sh. Needs root. The root is removed afterwards unless DIR is given.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "bare_debian.sh: must be root (debootstrap, chroot)" >&2; exit 1; }
command -v debootstrap >/dev/null || apt-get install -y --no-install-recommends debootstrap >/dev/null

target=${1:-$(mktemp -d /var/tmp/nilmd-bare.XXXXXX)}
mkdir -p "$target"
finish() { # KEEP
    for mount in dev/shm dev proc; do mountpoint -q "$target/$mount" && umount -l "$target/$mount"; done
    [ $# -gt 0 ] && [ -n "$1" ] || rm -rf --one-file-system "$target"
}
trap 'finish "${keep:-}"' EXIT
keep=${1:-}

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
[ -n "$mirror" ] || { echo "bare_debian.sh: no bookworm package source in the apt configuration" >&2; exit 2; }
[ -x "$target/usr/bin/apt-get" ] || debootstrap --variant=minbase bookworm "$target" "$mirror" >"$target.log" 2>&1 || {
    tail -n 20 "$target.log" >&2; exit 2; }
rm -f "$target.log"
# The machine's sources and transport settings (proxies, authentication), not its packages.
rm -f "$target"/etc/apt/sources.list
cp -a /etc/apt/sources.list* /etc/apt/apt.conf* /etc/apt/auth.conf* /etc/apt/trusted.gpg.d /etc/apt/keyrings \
    "$target/etc/apt/" 2>/dev/null || true
cp /etc/resolv.conf /etc/hosts "$target/etc/" 2>/dev/null || true
mount -t proc proc "$target/proc"
mount --rbind /dev "$target/dev"
git clone -q --no-hardlinks . "$target/root/nilmd"

for command in ./deploy/demo.sh ./tests/run.sh; do
    echo "== in the bare root: $command"
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
        chroot "$target" bash -c "cd /root/nilmd && $command" || { echo "bare_debian.sh: $command failed: $?" >&2; exit 2; }
done
echo "bare_debian.sh: both commands passed"
