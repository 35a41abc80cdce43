#!/usr/bin/env bash
# Every layer by every algorithm beside cuDNN, and what WINOGRAD_WINS of npunet/gpu/convolution.py should be.
. benchmarks/gpu_run/common.sh
benchmark 88 --minutes 0 --out "$WORK/layers" --parts layers
