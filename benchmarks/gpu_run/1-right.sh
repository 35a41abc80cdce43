#!/usr/bin/env bash
# Is it right? Every CUDA test on the device, and one test under memcheck. Each file in a process of its own, all at the same time: an
# illegal address ends one process, not the rest. The sharpest first: each kernel against float64.
. benchmarks/gpu_run/common.sh
[ "$DRY" ] || { nvidia-smi | head -15; "$P" -m pip list 2>/dev/null | grep -iE '^(cupy|torch |numpy|nvidia-cu|pytest)'; }
[ "$DRY" ] || ("$P" -c "import torch; torch.zeros(1).cuda()" >/dev/null 2>&1 &)     # reads PyTorch from the disk for 2-bars.sh
files="against_float64 graph convolution kernels augmentation training ladder style"
for f in $files; do tests 130 tests/test_cuda_$f.py >"$OUT/1-$f.log" 2>&1 & done
if [ ! "$DRY" ] && command -v compute-sanitizer >/dev/null; then                    # without CuPy's pool, which hides what lies beyond an array
    NPUNET_NO_POOL=1 timeout 135 compute-sanitizer --target-processes all --tool memcheck --error-exitcode 9 "$P" -m pytest -q -m gpu -W default \
        -p no:cacheprovider tests/test_cuda_against_float64.py -k "tensor_cores and small and tf32 or up_conv and small and tf32" >"$OUT/1-memcheck.log" 2>&1 &
fi
wait
for f in $files memcheck; do [ -f "$OUT/1-$f.log" ] && echo "-- $f" && grep -E "^(FAILED|ERROR|E  )|passed|failed|tests? collected|ERROR SUMMARY" "$OUT/1-$f.log" | tail -12; done
exit 0
