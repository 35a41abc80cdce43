#!/usr/bin/env bash
# A training on ISBI 2012 with the weight map. NPUNET_DATA: the folder that holds isbi2012/.
. benchmarks/gpu_run/common.sh
benchmark 108 --minutes 1 --out "$WORK/isbi" --parts isbi
