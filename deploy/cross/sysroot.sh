#!/usr/bin/env bash
# sysroot.sh arm64|armhf [test]... - what a build for that gateway needs: Debian's cross compiler, installed as root or with sudo,
# and the gateway's libraries with their headers, unpacked into build/sysroot-ARCH. With 'test' also cmocka and qemu-user.
#
# The libraries come from this machine's own package sources, signatures checked, but with an apt state of their own: no foreign
# architecture is added to this machine, whose packages need not have the same versions as the gateway's, as multiarch would ask.
# Does nothing when everything is there; remove the folder to fetch newer versions.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }
case ${1:-} in
arm64) compiler=(gcc-aarch64-linux-gnu) triple=aarch64-linux-gnu ;;
armhf) compiler=(gcc-arm-linux-gnueabihf) triple=arm-linux-gnueabihf ;;
-h | --help) usage; exit 0 ;;
*) usage >&2; exit 1 ;;
esac
arch=$1
packages=(libc6-dev libpaho-mqtt-dev libmbedtls-dev libsqlite3-dev libcjson-dev libinih-dev)
purposes=(cross)
if [ "${2:-}" = test ]; then
    packages+=(libcmocka-dev)
    purposes+=(emulate)
fi

deploy/packages.sh "${purposes[@]}"
command -v "$triple-gcc" >/dev/null || { echo "sysroot.sh: ${compiler[*]} is installed, but $triple-gcc is not found" >&2; exit 2; }

root=$PWD/build/sysroot-$arch
stamp=$root/.packages
if [ -e "$stamp" ]; then # 'test' adds to what was there
    read -ra had <"$stamp"
    missing=0
    for package in "${packages[@]}"; do [[ " ${had[*]} " == *" $package "* ]] || missing=1; done
    [ $missing = 1 ] || exit 0
fi

state=$root.apt
rm -rf "$root" "$state"
mkdir -p "$root/usr/lib" "$root/usr/bin" "$root/usr/sbin" "$state/lists/partial" "$state/cache/archives/partial"
ln -s usr/lib usr/bin usr/sbin "$root"
: >"$state/status"
log=$state/log
apt=(apt-get -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "Dir::State::status=$state/status"
    -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" -o "APT::Sandbox::User=$(id -un)" -o Debug::NoLocking=1
    -o Acquire::Languages=none -o APT::Install-Recommends=0 -o Dpkg::Use-Pty=0)
echo "Fetching ${packages[*]} for $arch" >&2
# Sources of other publishers may lack the architecture: what matters is whether the packages are found.
"${apt[@]}" update >"$log" 2>&1 || true
"${apt[@]}" install -y --download-only "${packages[@]}" >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "sysroot.sh: apt-get could not fetch for $arch: ${packages[*]}" >&2
    exit 3
}
for package in "$state"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink --no-same-owner
done
# Absolute links would lead out of the folder.
find "$root" -type l -lname '/*' -printf '%p %l\n' | while read -r link target; do ln -sfnr "$root$target" "$link"; done
rm -rf "$state"
echo "${packages[*]}" >"$stamp"
