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
attribution="Contains information from the tracebase data set, which is made available at http://www.tracebase.org under the Open Database License (ODbL)."
mkdir -p "$out"

make_family() { # SPLIT PREFIX "TRAIN OPTIONS" "FINETUNE OPTIONS" "SECOND FINETUNE OPTIONS"
    local split=$1 name=$out/$2
    # shellcheck disable=SC2086 # the options are words
    [ -f "$name-fp32.nilm" ] || "$nilm_model" train --data "$data" --out "$name-fp32.nilm" --split "$split" $3 \
        --seed 1 --version 1 --attribution "$attribution" | tee "$name-fp32.txt"
    [ -f "$name-int8.nilm" ] || "$nilm_model" quantize --model "$name-fp32.nilm" --data "$data" \
        --out "$name-int8.nilm" --rounding fit --calibration mse --seed 1 | tee "$name-int8.txt"
    # --least 16 keeps the whole first layer: it costs next to nothing, and it is what measures the level
    [ -f "$name-cut-fp32.nilm" ] || "$nilm_model" prune --model "$name-fp32.nilm" --out "$name-cut-fp32.nilm" \
        --target-params 60000 --least 16 --version 2 | tee "$name-cut-fp32.txt"
    # shellcheck disable=SC2086
    [ -f "$name-tuned-fp32.nilm" ] || "$nilm_model" finetune --model "$name-cut-fp32.nilm" --data "$data" \
        --out "$name-tuned-fp32.nilm" $4 --rate 0.004 --seed 2 | tee "$name-tuned-fp32.txt"
    # shellcheck disable=SC2086
    [ -f "$name-pruned-fp32.nilm" ] || "$nilm_model" finetune --model "$name-tuned-fp32.nilm" --data "$data" \
        --out "$name-pruned-fp32.nilm" $5 --rate 0.0015 --seed 3 | tee "$name-pruned-fp32.txt"
    [ -f "$name-pruned-int8.nilm" ] || "$nilm_model" quantize --model "$name-pruned-fp32.nilm" --data "$data" \
        --out "$name-pruned-int8.nilm" --rounding fit --calibration mse --golden 4 --seed 1 | tee "$name-pruned-int8.txt"
    for kind in fp32 int8 pruned-fp32 pruned-int8; do
        "$nilm_model" eval --model "$name-$kind.nilm" --data "$data" --split "$split" --part test --json --quiet \
            >"$name-$kind.json"
    done
}

make_family day identify "--epochs 32" "--epochs 32" "--epochs 14"
# Devices of unknown make: a wider variation of power, and shorter training.
device="--epoch-windows 50000 --gain 0.25 --dropout 0.2"
make_family device device "--epochs 12 $device" "--epochs 8 $device" "--epochs 4 $device"
for kind in int8 pruned-int8; do
    "$nilm_model" bench --model "$out/identify-$kind.nilm" --json >"$out/bench-$kind.json"
done
