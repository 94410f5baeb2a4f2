#!/usr/bin/env bash
# make.sh - makes the shipped models from the tracebase data set, with the exact commands that made those in this folder,
# and evaluates FP32, INT8, pruned FP32 and pruned INT8 on traces that training did not see, by day and by device.
#
# Usage: make.sh TRACEBASE OUT [NILM-MODEL]
#   TRACEBASE   the data set's folder (it holds complete/)
#   OUT         where models and reports (*.txt, *.json) go; models that are there already are not made again
#   NILM-MODEL  the program (default: nilm-model)
# Same data, seed, machine and build: same bytes. Half an hour on two idle cores, longer on busy ones.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '5,9s/^# \{0,1\}//p' "$0" >&2; exit 1; }
data=$1 out=$2 nilm_model=${3:-nilm-model}
network=$(dirname "$0")/identify.net
attribution="Contains information from the tracebase data set, which is made available at http://www.tracebase.org under the Open Database License (ODbL)."
mkdir -p "$out"

make_once() { # FILE COMMAND...: its report lies beside it
    local file=$1
    shift
    [ -f "$file" ] || "$nilm_model" "$@" --out "$file" | tee "${file%.nilm}.txt"
}

make_family() { # SPLIT PREFIX "TRAIN OPTIONS" "FINETUNE OPTIONS"
    local split=$1 name=$out/$2 kind
    # shellcheck disable=SC2086 # the options are words
    make_once "$name-fp32.nilm" train --data "$data" --net "$network" --split "$split" $3 --seed 1 --version 1 \
        --attribution "$attribution"
    # The same share of every layer: a global ranking leaves 16 of the dense layer's 256 units, and 24 epochs then end where
    # these widths are after four. The first convolution costs little and measures the level.
    make_once "$name-cut-fp32.nilm" prune --model "$name-fp32.nilm" --data "$data" --criterion taylor \
        --scope local --protect conv1 --target-params 56000 --align 4 --version 2
    # shellcheck disable=SC2086
    make_once "$name-pruned-fp32.nilm" finetune --model "$name-cut-fp32.nilm" --data "$data" --teacher "$name-fp32.nilm" \
        $4 --rate 0.005 --dropout 0.05 --seed 2
    make_once "$name-int8.nilm" quantize --model "$name-fp32.nilm" --data "$data" --rounding fit --calibration mse --seed 1
    make_once "$name-pruned-int8.nilm" quantize --model "$name-pruned-fp32.nilm" --data "$data" --rounding fit \
        --calibration mse --golden 3 --seed 1
    for kind in fp32 int8 pruned-fp32 pruned-int8; do
        "$nilm_model" eval --model "$name-$kind.nilm" --data "$data" --split "$split" --part test --json --quiet \
            --reference "$name-$([[ $kind == pruned* ]] && echo pruned-)fp32.nilm" >"$name-$kind.json"
    done
}

make_family day identify "--epochs 28" "--epochs 24"
# Devices of unknown make: power varied widely, shorter training.
device="--epoch-windows 50000 --gain 0.3"
make_family device device "--epochs 12 --dropout 0.4 $device" "--epochs 8 $device"
# The same for all classes: those with one device are judged on unseen days.
# shellcheck disable=SC2086
make_once "$out/mixed-fp32.nilm" train --data "$data" --net "$network" --split device-day --epochs 12 --dropout 0.4 $device --seed 1 \
    --attribution "$attribution"
"$nilm_model" eval --model "$out/mixed-fp32.nilm" --data "$data" --split device-day --part test --json --quiet >"$out/mixed-fp32.json"
# The threshold of unknown: what networks show that have not seen a fifth of the classes.
for fold in 1 2 3 4 5; do
    make_once "$out/without-$fold.nilm" train --data "$data" --net "$network" --split day --without "$fold/5" --epochs 6 \
        --epoch-windows 20000 --seed 1
done
for kind in int8 pruned-int8; do
    "$nilm_model" reject --data "$data" --model "$out/identify-$kind.nilm" --out "$out/shipped-$kind.nilm" --json --quiet \
        "$out"/without-?.nilm >"$out/reject-$kind.json"
    "$nilm_model" bench --model "$out/shipped-$kind.nilm" --json >"$out/bench-$kind.json"
done
