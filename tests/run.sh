#!/usr/bin/env bash
# run.sh - installs what is missing, builds, runs every test, ends with "N passed, N failed".
#
#   --build DIR      build folder (default build/test)
#   --filter REGEX   only tests whose name matches (ctest -R)
#   --sanitize LIST  build with these sanitizers, e.g. address,undefined or thread
#   --no-install     do not install packages
# NILM_DATA names a folder of real measurements; tests that need it skip without.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

build=build/test filter=. sanitize= install=1
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift 2 ;;
    --filter) filter=$2; shift 2 ;;
    --sanitize) sanitize=$2; shift 2 ;;
    --no-install) install=0; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown option '$1' (see --help)" >&2; exit 1 ;;
    esac
done

[ $install = 0 ] || deploy/packages.sh build test || exit $?
[ -z "${NILM_DATA:-}" ] || NILM_DATA=$(realpath "$NILM_DATA") || exit 2
export NILM_DATA

type=Release
[ -z "$sanitize" ] || type=RelWithDebInfo
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=$type -DNILM_WERROR=ON -DNILM_SANITIZE="$sanitize" >/dev/null &&
    cmake --build "$build" || { echo "run.sh: the build failed" >&2; echo "0 passed, 1 failed"; exit 2; }

ctest --test-dir "$build" -R "$filter" --output-on-failure --no-tests=error -j "$(nproc)"
/usr/bin/python3 tests/count.py "$build/Testing/Temporary/LastTest.log"
