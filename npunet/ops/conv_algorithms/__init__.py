"""One convolution, several ways to compute it: a ladder from the definition to the fastest.

    naive          the formula as loops                                  the oracle of the tests
    im2col         windows as rows of a matrix, one matrix product       few input channels; 1x1 kernels
    shifted_gemm   one matrix product for each tap, on shifted views     no copy of windows; the GPU
    winograd       F(4x4, 3x3): 36 multiplications for 16 results        3x3 kernels
    winograd_6x6   F(6x6, 3x3): 64 multiplications for 36 results        3x3 kernels, the largest images

Each has forward(x, weight, bias, padding, relu) -> y and
backward(dy, x, y, weight, padding, relu, need_dx) -> dx or None, dweight, dbias, with
x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None, stride 1. They trust their arguments; convolution.py checks them.
supports(kh, kw), where there is one, says which kernels it can do.
"""

from npunet.ops.conv_algorithms import im2col, naive, shifted_gemm, winograd

ALGORITHMS = {"naive": naive, "im2col": im2col, "shifted_gemm": shifted_gemm,
              "winograd": winograd.F4, "winograd_6x6": winograd.F6}


def choose(x_shape, weight_shape, padding, device):
    """Name of the algorithm that ``algorithm="auto"`` takes; benchmarks/results/convolution.txt is the reason for the rule."""
    kh, kw, c, k = weight_shape
    if device == "gpu":
        return "shifted_gemm" if c >= 16 else "im2col"
    if (kh, kw) != (3, 3) or c < 8:
        return "im2col"
    return "winograd_6x6" if max(c, k) <= 128 else "winograd"
