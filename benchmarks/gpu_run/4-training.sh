#!/usr/bin/env bash
# A real training on ISBI 2012, with the weight map and without it. About seven minutes; drop the second line first if time is short.
# NPUNET_DATA: the folder that holds isbi2012/. OUT as in 1-right.sh.
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
OUT=${OUT:-runs/gpu}; mkdir -p "$OUT"; P=${PYTHON:-python3}
{ timeout 360 "$P" -m benchmarks.gpu --parts isbi --minutes 4 --seconds 330 --out "$OUT/isbi" | tail -25
timeout 100 "$P" -m benchmarks.gpu --parts isbi --no-weight-map --minutes 0.7 --seconds 90 --out "$OUT/no_map" | tail -25; } 2>&1 | tee "$OUT/4.log"
