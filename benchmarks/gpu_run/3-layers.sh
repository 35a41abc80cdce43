#!/usr/bin/env bash
# Layer by layer with time enough, then the hardware's counters for four shapes. About six minutes. OUT as in 1-right.sh.
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
OUT=${OUT:-runs/gpu}; mkdir -p "$OUT"; P=${PYTHON:-python3}
{ timeout 330 "$P" -m benchmarks.gpu --parts layers --seconds 310 --minutes 0 --out "$OUT/layers" | tail -40
timeout 110 ncu --clock-control none --target-processes all -k 'regex:convolve|tap_gradient|mask_and' -c 12 --set full -f -o "$OUT/ncu" \
    "$P" -m benchmarks.gpu_run.four_layers | tail -3
ncu -i "$OUT/ncu.ncu-rep" --page details |
    grep -E '^ +(convolve|tap_|mask_)|Duration|Throughput|Bank|Issue|Stall|Occupancy|Registers'; } 2>&1 | tee "$OUT/3.log"
