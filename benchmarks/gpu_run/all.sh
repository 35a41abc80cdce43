#!/usr/bin/env bash
# Everything in one call of less than ten minutes: does it run, is it right, the bars, layer by layer, a training. OUT: folder for the
# results. DRY=1 begins every command without a GPU, to see that it can be begun.
cd "$(dirname "$0")/../.." && . benchmarks/gpu_run/common.sh
rm -rf "$WORK" && mkdir -p "$WORK"
for step in 0-machine 1-right 2-bars 3-layers 4-training; do
    limit=$(limit_of $step) log=$WORK/${step%%-*}.log
    echo "== $step: at most $limit s, $SECONDS s are over"
    timeout -k 5 $((limit + 2)) bash benchmarks/gpu_run/$step.sh >"$log" 2>&1 </dev/null      # a file: a pipe would wait for whoever holds it
    status=$?
    [ $status = 0 ] || echo "== $step ended with status $status" | tee -a "$log"
    tail -n 45 "$log" | cut -c -300
    pack
    [ $status = 9 ] && echo "== nothing runs: see above. The rest is left for a second call" && exit 9
done
echo "== $SECONDS s; all logs, tables and pictures are in $OUT/all.tgz"
