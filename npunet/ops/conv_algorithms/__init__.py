"""One convolution, several ways to compute it: a ladder from the definition to the fastest.

    naive          the formula as loops                                  the oracle of the tests
    im2col         windows as rows of a matrix, one matrix product       best with few input channels
    shifted_gemm   one matrix product for each tap, on shifted views     no copy of windows; 1x1 kernels

Each module has forward(x, weight, bias, padding, relu) -> y and
backward(dy, x, y, weight, padding, relu, need_dx) -> dx or None, dweight, dbias, with
x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None, stride 1. They trust their arguments; convolution.py checks them.
"""

from npunet.ops.conv_algorithms import im2col, naive, shifted_gemm, winograd

ALGORITHMS = {"naive": naive, "im2col": im2col, "shifted_gemm": shifted_gemm,
              "winograd": winograd.F4, "winograd_6x6": winograd.F6}


def choose(x_shape, weight_shape, padding, device):
    """Name of the algorithm that ``algorithm="auto"`` takes; benchmarks/results/convolution.txt is the reason for the rule."""
    kh, kw, channels, _ = weight_shape
    return "im2col" if kh * kw > 1 and channels < 16 else "shifted_gemm"
