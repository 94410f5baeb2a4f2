#!/usr/bin/env bash
# run.sh [--no-install] - instructions that a result of the engine takes on a 64-bit ARM processor, counted by qemu-user: for both
# shipped models, each kernel set, whole windows and hops, features and softmax included. A stand-in for time where no
# such processor is at hand; exact, and the same in every run. Prints a table for tests/bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/../../.."
case ${1:-} in
'') deploy/packages.sh build; deploy/cross/sysroot.sh arm64 test ;;
--no-install) ;;
*) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 1 ;;
esac

build=build/cross-arm64 out=build/bench-arm64 root=build/sysroot-arm64
mkdir -p $out
cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release -DNILM_WORKSHOP=OFF --toolchain deploy/cross/arm64.cmake >/dev/null
cmake --build $build --target nilm_inference >/dev/null
cc -std=c17 -O2 -Wall -Wextra -shared -fPIC -o $out/count.so tests/bench/arm64/count_plugin.c
aarch64-linux-gnu-gcc --sysroot="$PWD/$root" -std=c17 -O2 -Wall -Wextra -I. -o $out/turns tests/bench/arm64/turns.c \
    $build/inference/libnilm_inference.a -lm

instructions() { # SET MODEL HOP COUNT
    NILM_CPU=$1 qemu-aarch64 -L $root -plugin $out/count.so -d plugin -D $out/count.txt $out/turns "$2" "$3" "$4" >$out/result.txt
    cat $out/count.txt
}
per_result() { # SET MODEL HOP
    local least most
    least=$(instructions "$1" "$2" "$3" 8)
    most=$(instructions "$1" "$2" "$3" 24)
    echo $(((most - least) / 16))
}

echo "$(qemu-aarch64 --version | head -n 1); $(aarch64-linux-gnu-gcc --version | head -n 1)"
echo
echo "| model | a result every | scalar | neon | neon_dotprod |"
echo "|---|---|---|---|---|"
for name in identify-int8 identify-pruned-int8; do
    for hop in 0 4 16 32 64; do
        line="| $name | $([ $hop = 0 ] && echo 'whole window' || echo "$hop samples") |"
        for set in scalar neon neon_dotprod; do
            line+=" $(per_result $set inference/models/$name.nilm $hop) |"
        done
        echo "$line"
    done
done
