#!/usr/bin/env bash
# make-mains.sh - makes the shipped mains models from the tracebase data set, with the exact commands that made those in this folder,
# and evaluates FP32, INT8, pruned FP32 and pruned INT8 on mixed days of traces that training did not see.
#
# Usage: make-mains.sh TRACEBASE OUT [NILM-MODEL]
#   TRACEBASE   the data set's folder (it holds complete/)
#   OUT         where models and reports (*.txt, *.json) go; models that are there already are not made again
#   NILM-MODEL  the program (default: nilm-model)
# Same data, seed, machine and build: same bytes. An hour on two idle cores, longer on busy ones.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '5,9s/^# \{0,1\}//p' "$0" >&2; exit 1; }
data=$1 out=$2 nilm_model=${3:-nilm-model}
here=$(dirname "$0")
attribution="Contains information from the tracebase data set, which is made available at http://www.tracebase.org under the Open Database License (ODbL)."
mkdir -p "$out"

make_once() { # FILE COMMAND...: its report lies beside it
    local file=$1
    shift
    [ -f "$file" ] || "$nilm_model" "$@" --out "$file" | tee "${file%.nilm}.txt"
}

make_once "$out/mains-fp32.nilm" train --data "$data" --aggregates "$here/mains.rules" --net "$here/mains.net" --split day --family mains --epochs 8 \
    --epoch-windows 350000 --batch 128 --dropout 0.1 --seed 1 --version 3 --attribution "$attribution"
make_once "$out/mains-cut-fp32.nilm" prune --model "$out/mains-fp32.nilm" --data "$data" --criterion taylor --scope local --protect conv1 \
    --target-params 180000 --align 4 --version 4
make_once "$out/mains-pruned-fp32.nilm" finetune --model "$out/mains-cut-fp32.nilm" --data "$data" --teacher "$out/mains-fp32.nilm" --epochs 8 \
    --epoch-windows 250000 --batch 128 --rate 0.006 --dropout 0.05 --seed 2
for kind in "" pruned-; do
    make_once "$out/mains-${kind}int8.nilm" quantize --model "$out/mains-${kind}fp32.nilm" --data "$data" --rounding fit --calibration mse \
        --golden 3 --seed 1
    for type in fp32 int8; do
        "$nilm_model" eval --model "$out/mains-$kind$type.nilm" --data "$data" --split day --part test --stride 32 --json --quiet \
            >"$out/mains-$kind$type.json"
    done
done
# Labelled mains of unseen days with one to eight loads, for `nilm-model separate` and `nilm-model score`.
for loads in 1 2 3 4 5 6 7 8; do
    "$nilm_model" mix --model "$out/mains-fp32.nilm" --data "$data" --out "$out/loads-$loads.csv" --truth "$out/loads-$loads-truth.csv" --split day \
        --part test --homes 12 --days 2 --loads "$loads" --seed "$loads" --json --quiet >"$out/loads-$loads.json"
done
