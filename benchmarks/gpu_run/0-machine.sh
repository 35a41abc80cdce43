#!/usr/bin/env bash
# Does it run at all? What is installed, and a training step in each precision, all at once: it compiles every kernel of the step into
# CuPy's cache, so that the later parts need not.
. benchmarks/gpu_run/common.sh
if [ ! "$DRY" ]; then
    nvidia-smi | head -15
    ("$P" -m pip list 2>/dev/null | grep -iE '^(cupy|torch |numpy|scipy|nvidia-cu|pytest|tqdm|tifffile|matplotlib)' >"$WORK/0-packages.log" &)
    ("$P" -c "import torch; torch.zeros(1).cuda()" >/dev/null 2>&1 &)               # reads PyTorch from the disk for 2-bars.sh
fi
for how in tf32 bf16 float32 "tf32 graph"; do
    limited 36 "$P" -X faulthandler -m benchmarks.gpu_run.first_step $how ${DRY:+dry} >"$WORK/0-${how/ /-}.log" 2>&1 &
done
wait
for how in tf32 bf16 float32 tf32-graph; do echo "-- $how"; tail -n 7 "$WORK/0-$how.log"; done
cat "$WORK/0-packages.log" 2>/dev/null
# 9: no step was made in any precision, and not for want of time. Then all.sh stops, and the device's time is left for a second call.
[ "$DRY" ] || grep -qE "step 1: loss|KeyboardInterrupt" "$WORK"/0-{tf32,bf16,float32,tf32-graph}.log || exit 9
exit 0
