#!/usr/bin/env bash
# Is it right? About six minutes. Run from the project's root on a machine with an NVIDIA GPU. OUT: folder for the results.
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
OUT=${OUT:-runs/gpu}; mkdir -p "$OUT"; P=${PYTHON:-python3}
pytest() { timeout "$1" "$P" -m pytest -q -m gpu -p no:benchmark -p no:cacheprovider -W default "${@:2}" | tail -40; }
{
nvidia-smi; "$P" -m pip list 2>/dev/null | grep -iE '^(cupy|torch |numpy|nvidia-cu)'
(timeout 150 "$P" -c "import torch; torch.zeros(1).cuda()" >/dev/null 2>&1 &)       # warms the disk for 2-bars.sh
# A file at a time: an illegal address ends a process, not the rest. The sharpest first.
for f in against_float64 convolution kernels training augmentation style; do echo "== $f"; pytest 100 tests/test_cuda_$f.py; done
echo "== everything else"; pytest 150 $(ls tests/test_*.py | grep -v test_cuda_)
for tool in memcheck racecheck synccheck; do                                        # without CuPy's pool, which hides what lies beyond an array
    NPUNET_NO_POOL=1 timeout 60 compute-sanitizer --target-processes all --tool $tool --error-exitcode 9 \
        "$P" -m pytest -q -m gpu -p no:cacheprovider -W default tests/test_cuda_against_float64.py -k "tensor_cores and small" 2>&1 | tail -8
    echo "$tool: ${PIPESTATUS[0]}"
done
} 2>&1 | tee "$OUT/1.log"
