#!/usr/bin/env bash
# The bars. About seven minutes. PyTorch's numbers come first; each part is a process of its own. OUT as in 1-right.sh.
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
OUT=${OUT:-runs/gpu}; mkdir -p "$OUT"
{ timeout "${1:-450}" "${PYTHON:-python3}" -m benchmarks.gpu --seconds "$((${1:-450} - 20))" --minutes 0 --out "$OUT/bars" \
    --parts "PyTorch,npunet TF32,npunet float32,operations,training steps,machine,profile"; } 2>&1 | tee "$OUT/2.log"
