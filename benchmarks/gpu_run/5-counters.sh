#!/usr/bin/env bash
# If time is left: the hardware's counters for four shapes, 90 s. Not part of all.sh.
cd "$(dirname "$0")/../.." && . benchmarks/gpu_run/common.sh
timeout 70 ncu --clock-control none --target-processes all -k 'regex:convolve|flipped|three_taps|tap_gradient|mask_and' -c 14 --set full -f -o "$OUT/ncu" \
    "$P" -m benchmarks.gpu_run.four_layers | tail -3
ncu -i "$OUT/ncu.ncu-rep" --page details | grep -E '^ +(convolve|flipped|three_|tap_|mask_)|Duration|Throughput|Bank|Issue|Stall|Occupancy|Registers' |
    tee "$OUT/5.log"
