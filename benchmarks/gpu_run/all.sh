#!/usr/bin/env bash
# Everything in one call of less than ten minutes: is it right, the bars, layer by layer, a training. OUT: folder for the results.
# DRY=1 begins every command without a GPU, to see that it can be begun.
cd "$(dirname "$0")/../.." && . benchmarks/gpu_run/common.sh
for step in 1-right 2-bars 3-layers 4-training; do
    limit=$(limit_of $step)
    echo "== $step: at most $limit s, $SECONDS s are over"
    timeout $((limit + 5)) bash benchmarks/gpu_run/$step.sh 2>&1 | tee "$OUT/${step%%-*}.log" | tail -60
    echo "== $OUT/${step%%-*}.log"
done
