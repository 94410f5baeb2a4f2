#!/usr/bin/env bash
# fuzz.sh - feeds damaged and made-up input to what reads files and the network (libFuzzer under AddressSanitizer and
# UndefinedBehaviorSanitizer), ends with "N passed, N failed".
#
#   fuzz.sh [OPTION]... [TARGET]...   targets: model onnx trace bundle frame config command topic (default: all)
#   --seconds N      for each target (default 60)
#   --build DIR      build folder (default build/fuzz)
#   --no-install     do not install packages
# Inputs that reach something new are kept in DIR/corpus/TARGET for the next run. What fails is kept in
# DIR/crashes/TARGET; DIR/tests/fuzz/fuzz_TARGET FILE runs it again. Once mended, the input goes to tests/fuzz/found/TARGET,
# and is run first ever after.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

export OPENBLAS_NUM_THREADS=1
build=build/fuzz seconds=60 install=1 targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=$2; shift 2 ;;
    --build) build=$2; shift 2 ;;
    --no-install) install=0; shift ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "fuzz.sh: unknown option '$1' (see --help)" >&2; exit 1 ;;
    *) targets+=("$1"); shift ;;
    esac
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "fuzz.sh: --seconds '$seconds': expected a number from 1" >&2; exit 1; }
[ ${#targets[@]} -gt 0 ] || targets=(model onnx trace bundle frame config command topic)
for target in "${targets[@]}"; do
    [ -f "tests/fuzz/fuzz_$target.c" ] || { echo "fuzz.sh: unknown target '$target' (see --help)" >&2; exit 1; }
done

[ $install = 0 ] || deploy/packages.sh build test ci || exit $?
CC=clang cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DNILM_FUZZ=ON -DNILM_TESTS=OFF \
    -DNILM_SANITIZE=fuzzer-no-link,address,undefined >/dev/null &&
    cmake --build "$build" --target fuzz | tail -n 3 || {
    echo "fuzz.sh: the build failed" >&2
    echo "0 passed, 1 failed"
    exit 2
}
rm -rf "$build/seeds"
mkdir -p "$build/seeds"
"$build/tests/fuzz/fuzz_seeds" "$build/seeds" || { echo "fuzz.sh: no seeds" >&2; echo "0 passed, 1 failed"; exit 2; }

largest() { # TARGET: no input is longer, in bytes
    case $1 in
    model) echo 12288 ;;
    onnx | trace | bundle | config) echo 8192 ;;
    *) echo 4200 ;;
    esac
}
passed=0 failed=0
printf '%-8s %12s %10s %9s %7s  %s\n' target executions 'a second' coverage corpus result
for target in "${targets[@]}"; do
    program=$build/tests/fuzz/fuzz_$target corpus=$build/corpus/$target crashes=$build/crashes/$target
    mkdir -p "$corpus" "$crashes"
    options=()
    [ ! -f "$build/seeds/$target.dict" ] || options+=("-dict=$build/seeds/$target.dict")
    found=(tests/fuzz/found/"$target"/*)
    code=0
    if [ -e "${found[0]}" ]; then
        "$program" "${found[@]}" >"$crashes/log" 2>&1 || code=$?
    fi
    if [ $code -eq 0 ]; then
        "$program" -max_total_time="$seconds" -max_len="$(largest "$target")" -timeout=25 -rss_limit_mb=2048 \
            -print_final_stats=1 -artifact_prefix="$crashes/" "${options[@]}" "$corpus" "$build/seeds/$target" \
            >"$crashes/log" 2>&1 || code=$?
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$crashes/log")
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$crashes/log")
    # "#N event cov: EDGES ft: FEATURES corp: INPUTS/BYTES ...": edges of the whole program, its libraries included
    coverage=$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$crashes/log" | tail -n 1)
    inputs=$(sed -n 's/^#.* corp: \([0-9]*\).*/\1/p' "$crashes/log" | tail -n 1)
    if [ $code -eq 0 ] && [ "${runs:-0}" -gt 0 ]; then
        result=ok passed=$((passed + 1))
    else
        result="FAILED (exit code $code)" failed=$((failed + 1))
    fi
    printf '%-8s %12s %10s %9s %7s  %s\n' "$target" "${runs:--}" "${rate:--}" "${coverage:--}" "${inputs:--}" "$result"
    [ "$result" = ok ] || { tail -n 60 "$crashes/log"; echo "kept in $crashes"; }
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
