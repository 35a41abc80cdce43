"""The 2x2 up-convolution on a GPU: on the tensor cores if rounding is allowed, else by cuBLAS.

The derivation is in npunet/ops/up_convolution.py.
"""

import functools

from npunet.gpu import tensor_cores
from npunet.gpu.kernels import mask_and_sum
from npunet.machine.backend import array_module, is_array
from npunet.machine.shapes import check_gradient


def forward(everywhere, context):
    """`up_conv2d` for a GPU. everywhere: its array expressions, four products by cuBLAS. context(x, weight, has bias):
    what it returns beside y.
    """

    @functools.wraps(everywhere)
    def up_conv2d(x, weight, bias=None):
        fits = x.ndim == 4 and is_array(weight) and weight.shape[:3] == (2, 2, x.shape[3])
        if not fits or not tensor_cores.at_work(x, weight):
            return everywhere(x, weight, bias)
        return tensor_cores.up_conv2d(x, weight, bias), context(x, weight, bias is not None)

    return up_conv2d


def up_conv2d_backward(dy, ctx):
    """dy (N, 2H, 2W, K) -> dx (N, H, W, C), dweight (2, 2, C, K), dbias (K,) or None."""
    x, weight, has_bias = ctx
    xp = array_module(dy)
    n, height, width, channels = x.shape
    outputs = weight.shape[3]
    check_gradient("up_conv2d_backward", dy, (n, 2 * height, 2 * width, outputs), x.dtype)
    dbias = mask_and_sum(dy, None)[1] if has_bias else None  # CuPy would add up few columns with few threads
    if tensor_cores.at_work(x, weight):
        return *tensor_cores.up_conv2d_backward(dy, x, weight), dbias
    blocks = dy.reshape(n, height, 2, width, 2, outputs)
    columns = xp.ascontiguousarray(blocks.swapaxes(2, 3)).reshape(-1, 4 * outputs)  # (N*H*W, 2*2*K)
    matrix = weight.transpose(2, 0, 1, 3).reshape(channels, -1)  # (C, 2*2*K)
    dx = (columns @ matrix.T).reshape(x.shape)  # (N*H*W, 2*2*K) @ (2*2*K, C)
    dmatrix = x.reshape(-1, channels).T @ columns  # (C, N*H*W) @ (N*H*W, 2*2*K)
    dweight = xp.ascontiguousarray(dmatrix.reshape(channels, 2, 2, outputs).transpose(1, 2, 0, 3))
    return dx, dweight, dbias
