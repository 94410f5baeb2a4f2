#!/usr/bin/env bash
# packages.sh [run|build|test|demo|ci|cross|emulate]... - installs the Debian packages that are missing for these purposes (default: build).
# As root, or with sudo. Says what it does; does nothing when everything is there.
set -euo pipefail

run=(libpaho-mqtt1.3 libmbedtls14 libsqlite3-0 libcjson1 libinih1)
build=(gcc cmake ninja-build pkg-config libc6-dev libpaho-mqtt-dev libmbedtls-dev libsqlite3-dev libcjson-dev
    libinih-dev libopenblas-dev libprotobuf-c-dev protobuf-c-compiler)
demo=(mosquitto mosquitto-clients openssl ca-certificates)
test=("${demo[@]}" libcmocka-dev python3 python3-jsonschema python3-yaml python3-paho-mqtt procps e2fsprogs btrfs-progs)
ci=(clang libclang-rt-14-dev git)
cross=(gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf libc6-dev-arm64-cross libc6-dev-armhf-cross cmake ninja-build pkg-config)
emulate=(qemu-user)

wanted=()
for purpose in "${@:-build}"; do
    case $purpose in
    run) wanted+=("${run[@]}") ;;
    build) wanted+=("${build[@]}") ;;
    demo) wanted+=("${demo[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    ci) wanted+=("${ci[@]}") ;;
    cross) wanted+=("${cross[@]}") ;;
    emulate) wanted+=("${emulate[@]}") ;;
    *) echo "packages.sh: '$purpose' is none of: run build demo test ci cross emulate" >&2; exit 1 ;;
    esac
done

missing=()
for package in "${wanted[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "packages.sh: these packages are missing and neither root nor sudo is at hand: ${missing[*]}" >&2
        exit 2
    }
    as_root=(sudo)
fi
echo "Installing: ${missing[*]}" >&2
had_mosquitto=$(dpkg-query -W -f '${db:Status-Status}' mosquitto 2>/dev/null || true)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        "${missing[@]}" >"$log" 2>&1
}
install || { "${as_root[@]}" apt-get update >"$log" 2>&1 && install; } || {
    tail -n 20 "$log" >&2
    echo "packages.sh: apt-get could not install: ${missing[*]}" >&2
    exit 3
}
# The scripts start brokers of their own; the package's service, new on this machine, would only occupy port 1883.
if [ "$had_mosquitto" != installed ] && [[ " ${missing[*]} " == *" mosquitto "* ]] && [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl disable --now mosquitto >/dev/null 2>&1 || true
fi
