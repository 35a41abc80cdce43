#!/usr/bin/env bash
# If time is left: the hardware's counters for four shapes, 90 s. Not part of all.sh.
cd "$(dirname "$0")/../.." && . benchmarks/gpu_run/common.sh
limited 70 ncu --clock-control none --target-processes all -k 'regex:convolve|flipped|three_taps|tap_gradient|mask_and' -c 14 --set full -f -o "$WORK/ncu" \
    "$P" -m benchmarks.gpu_run.four_layers >"$WORK/5-ncu.log" 2>&1
tail -n 3 "$WORK/5-ncu.log"
ncu -i "$WORK/ncu.ncu-rep" --page details | grep -E '^ +(convolve|flipped|three_|tap_|mask_)|Duration|Throughput|Bank|Issue|Stall|Occupancy|Registers' |
    tee "$WORK/5.log"
pack
