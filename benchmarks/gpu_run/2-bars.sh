#!/usr/bin/env bash
# The bars. PyTorch's numbers come first; each part is a process of its own, and what is late is skipped and said.
. benchmarks/gpu_run/common.sh
benchmark 183 --minutes 0 --part-seconds 2 --out "$WORK/bars" \
    --parts "PyTorch,npunet TF32,npunet bf16,npunet float32,npunet TF32 graph,npunet bf16 graph,tiles,profile,machine,npunet bf16 wgmma,PyTorch otherwise,training steps"
