"""Four convolutions of the 572 network in TF32, forward and backward, for a profiler to look at (3-layers.sh)."""

import cupy

from npunet import ops
from npunet.gpu import cublas

if __name__ == "__main__":
    cublas.use_precision("tf32")
    for size, channels, outputs in ((570, 64, 64), (138, 256, 256), (56, 1024, 512), (30, 1024, 1024)):
        shapes = (1, size, size, channels), (3, 3, channels, outputs), (outputs,)
        x, weight, bias = (cupy.random.standard_normal(shape, dtype="float32") for shape in shapes)
        y, ctx = ops.conv2d(x, weight, bias, relu=True, algorithm="tensor_cores")
        ops.conv2d_backward(y, ctx)
