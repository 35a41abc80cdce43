#!/usr/bin/env bash
# Is it right? Every CUDA test on the device, the other tests of operations on CuPy's arrays, and one test under memcheck. Each file in a
# process of its own, all at the same time: an illegal address ends one process, not the rest. The sharpest first: each kernel against float64.
. benchmarks/gpu_run/common.sh
files=$(cd tests && grep -lE "def test_.*[( ]gpu[,)]" test_cuda_*.py | sed "s/^test_cuda_//; s/[.]py$//" | grep -vx against_float64)       # those that have a device test
files="against_float64 $files"
limit_of_file() { case $1 in wgmma) echo 60 ;; *) echo 115 ;; esac; }              # no device has run wgmma yet: should it hang, the others have the rest alone
for f in $files; do tests $(limit_of_file $f) tests/test_cuda_$f.py >"$WORK/1-$f.log" 2>&1 & done
tests 115 tests/test_{ops_contract,loss,dropout,max_pooling,up_convolution,crop_concat,relu,upsampling,batch_norm,optimizers,unet}.py \
    >"$WORK/1-operations.log" 2>&1 &
if [ ! "$DRY" ] && command -v compute-sanitizer >/dev/null; then                    # without CuPy's pool, which hides what lies beyond an array
    NPUNET_NO_POOL=1 limited 120 compute-sanitizer --target-processes all --tool memcheck --error-exitcode 9 "$P" -m pytest -v -m gpu -W default \
        -p no:cacheprovider tests/test_cuda_against_float64.py -k "tensor_cores and small and tf32 or up_conv and small and tf32" >"$WORK/1-memcheck.log" 2>&1 &
fi
wait
for f in $files operations memcheck; do
    log=$WORK/1-$f.log
    [ -f "$log" ] || continue
    echo "-- $f"
    grep -E "^(E  )" "$log" | sort | uniq -c | sort -rn | head -4
    grep -E "passed|failed|tests? collected|ERROR SUMMARY|^ERROR" "$log" | tail -3 || true
    grep -qE "passed|failed|collected" "$log" || { echo "did not come to its end; its last lines:"; tail -n 6 "$log"; }
done
exit 0
