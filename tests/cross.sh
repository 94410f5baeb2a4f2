#!/usr/bin/env bash
# cross.sh arm64|armhf - builds engine, storage, transport and agent for that processor and tests them on this one with qemu-user:
# the unit tests, every kernel set, the hashes that x86-64 gives for the shipped models, and the agent on simulated days, whose
# history has to be that of the agent built for this machine. Ends with "N passed, N failed".
#
#   --all           also the tests that take minutes under qemu (kills and damage of the database, TLS, brokers)
#   --filter REGEX  only unit tests whose name matches
#   --no-install    do not install packages and do not fetch libraries
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

arch= filter=. all=0 install=1
while [ $# -gt 0 ]; do
    case $1 in
    arm64) arch=$1 qemu=qemu-aarch64 plain=cortex-a53 missing=neon_dotprod; shift ;;
    armhf) arch=$1 qemu=qemu-arm plain=cortex-a9,neon=off missing=neon; shift ;;
    --all) all=1; shift ;;
    --filter) filter=$2; shift 2 ;;
    --no-install) install=0; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "cross.sh: unknown option '$1' (see --help)" >&2; exit 1 ;;
    esac
done
[ -n "$arch" ] || { echo "cross.sh: arm64 or armhf is expected (see --help)" >&2; exit 1; }

if [ $install = 1 ]; then
    deploy/packages.sh build test && deploy/cross/sysroot.sh "$arch" test || exit $?
fi
build=build/cross-$arch native=build/native
configure=(cmake -S . -G Ninja -DCMAKE_BUILD_TYPE=Release -DNILM_WERROR=ON -DNILM_WORKSHOP=OFF)
"${configure[@]}" -B "$build" --toolchain "deploy/cross/$arch.cmake" >/dev/null && cmake --build "$build" &&
    "${configure[@]}" -B $native -DNILM_TESTS=OFF >/dev/null && cmake --build $native ||
    { echo "cross.sh: the build failed" >&2; echo "0 passed, 1 failed"; exit 2; }

# Left out: what starts programs of the build folder or counts on this machine's speed, the other processors' kernel sets, and the
# best set under its second name.
without='^(e2e|checks|fault)/|^agent/test_(ctl|journal)$|^transport/test_faults$|/avx|inference/test_(engine|engine_quiet|shipped)$'
[ $all = 1 ] || without+='|^storage/test_(damage|kill|outbox_caps|power)$|^transport/test_(bundle|link|pki)$|^agent/test_(meter|publisher)$'
ctest --test-dir "$build" -R "$filter" -E "$without" --output-on-failure --no-tests=error -j "$(nproc)"
tally=$(/usr/bin/python3 tests/count.py "$build/Testing/Temporary/LastTest.log")
printf '%s\n' "$tally"
read -r passed _ failed _ < <(printf '%s\n' "$tally" | tail -n 1)

check() { # TEXT COMMAND...
    local text=$1
    shift
    if "$@"; then
        echo "ok    $text"
        passed=$((passed + 1))
    else
        echo "FAIL  $text"
        failed=$((failed + 1))
    fi
}
under_qemu=("$qemu" -L "build/sysroot-$arch")
lacks_set() { # the test's own word for it: exit code 77
    NILM_CPU=$missing "${under_qemu[@]}" -cpu "$plain" "$build/tests/inference_test_shipped" >/dev/null
    [ $? -eq 77 ]
}
check "no $missing on a processor without it ($plain)" lacks_set
check "a processor without $missing ($plain): the shipped models' bits" \
    "${under_qemu[@]}" -cpu "$plain" "$build/tests/inference_test_shipped"
check "nilmd: version, configuration, simulated days with the history that this machine's has" \
    /usr/bin/python3 tests/cross_agent.py $native "$build" "${under_qemu[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
