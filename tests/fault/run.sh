#!/usr/bin/env bash
# run.sh - every fault suite, one after the other, and a table of what they did. Ends with "N passed, N failed".
#
#   --quick          bounded forms, about two minutes (.ci/run); else whole: about two hours
#   --build DIR      build folder (default build/test), made when it is missing
#   --only REGEX     suites whose name matches
#   --seed N         for the suites that throw dice; each prints its own otherwise
#   --no-install     do not install packages
# NILM_DATA names a folder of real measurements: the crash suite replays them, else simulated circuits.
# Needs root for the network's namespaces and for disks that can be filled; without, these are left out, and said.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

build=build/test quick= only=. seed= install=1
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=--quick; shift ;;
    --build) build=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    --no-install) install=0; shift ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "run.sh: unknown option '$1' (see --help)" >&2; exit 1 ;;
    esac
done
[ $install = 0 ] || deploy/packages.sh build test || exit $?
[ -z "${NILM_DATA:-}" ] || NILM_DATA=$(realpath "$NILM_DATA") || exit 2
if [ ! -x "$build/agent/nilmd" ]; then
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNILM_WERROR=ON >/dev/null &&
        cmake --build "$build" || { echo "run.sh: the build failed" >&2; echo "0 passed, 1 failed"; exit 2; }
fi
NILM_BUILD=$(realpath "$build")
export NILM_BUILD NILM_DATA="${NILM_DATA:-}" PYTHONDONTWRITEBYTECODE=1
[ -n "$quick" ] || export NILM_FAULT_ROUNDS=${NILM_FAULT_ROUNDS:-500}
[ -z "$seed" ] || export NILM_SEED=$seed

passed=0 failed=0 rows=()
out=$(mktemp) errors=$(mktemp)
trap 'rm -f "$out" "$errors"' EXIT

field() { # NAME: of the suite's line of result
    sed -n "s/^RESULT .*\"$1\": *\([0-9]*\).*/\1/p" "$out" | tail -n 1
}

quietly() { # COMMAND...: what it logs of thousands of failures is shown when it fails itself
    "$@" 2>"$errors" && return
    local code=$?
    tail -n 60 "$errors"
    return $code
}

suite() { # NAME COMMAND...
    local name=$1 began=$SECONDS code count seed result
    shift
    [[ $name =~ $only ]] || return 0
    echo "=== $name: ${*#quietly}"
    "$@" 2>&1 | tee "$out"
    code=$?
    count=$(field count) seed=$(field seed)
    # Programs of cmocka tell in words what they counted.
    [ -n "$count" ] || count=$(grep -oE '[0-9]+ (cut points|failure points|operations|calls failed|rounds)' "$out" |
        awk '{ n = /cut/ ? $1 : n + $1; $1 = ""; unit = $0 } END { if (NR) print n unit }') # cut points are counted through
    [ -n "$count" ] || count=$(sed -n 's/^\[=*\] \([0-9]*\) test(s) run.*/\1 tests/p' "$out")
    [ -n "$count" ] || count=$(grep -c '^ok  ' "$out")" checks"
    [ -n "$seed" ] || seed=$(sed -n 's/^seed \([0-9]*\).*/\1/p' "$out" | head -n 1)
    case $code in
    0) result=passed passed=$((passed + 1)) ;;
    77) result=skipped ;;
    *) result="FAILED ($code)" failed=$((failed + 1)) ;;
    esac
    rows+=("$(printf '%-26s %20s %12s %12s %8s s' "$name" "$count" "${seed:--}" "$result" $((SECONDS - began)))")
}

for name in crash overload soak net; do
    [ ! -f "tests/fault/$name.py" ] || suite "$name" /usr/bin/python3 "tests/fault/$name.py" $quick
done
# Power cut at each operation, and the i-th allocation or system call fails, for i = 1, 2, ...
programs=(storage_test_power storage_test_fail agent_test_journal_fail transport_test_io)
[ -n "$quick" ] || programs+=(storage_test_full storage_test_salvage storage_test_kill fault_backoff)
for program in "${programs[@]}"; do
    # Those that replace malloc are not built for 32 bits. Another one that is not there has failed (exit code 127).
    [ -x "$build/tests/$program" ] || [ "$(getconf LONG_BIT)" = 64 ] || continue
    suite "${program/_test_//}" quietly "$build/tests/$program"
done

echo
printf '%-26s %20s %12s %12s %10s\n' suite count seed result time
printf '%s\n' "${rows[@]}"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
