"""One convolution, several ways to compute it: a ladder from the definition to the fastest.

    naive          the formula as loops                               the oracle of the tests
    im2col         windows as rows of a matrix, one matrix product    small images; 1x1 kernels
    few_channels   the same lying on its side, bias included          the first layer
    shifted_gemm   one matrix product for each tap, on shifted views  no copy of windows; the GPU
    winograd       F(4x4, 3x3): 36 multiplications for 16 results     3x3 kernels
    winograd_5x5   F(5x5, 3x3): 49 multiplications for 25 results     the widest images, with few channels
    winograd_6x6   F(6x6, 3x3): 64 multiplications for 36 results     fastest there; error above 1e-5: never automatic
    winograd_cuda  F(4x4, 3x3) with CUDA kernels                      for CuPy arrays only, see npunet/gpu
    tensor_cores   one matrix product, windows gathered as it goes    ... in TF32 or bfloat16
    few_channels_cuda    the definition, each number read once        first and last layer

Each has forward(x, weight, bias, padding, relu) -> y and
backward(dy, x, y, weight, padding, relu, need_dx) -> dx or None, dweight, dbias, with
x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None, stride 1. They trust their arguments; convolution.py checks
them. supports(kh, kw), where there is one, says which kernels it can do. scratch_bytes(x_shape, weight_shape, padding,
itemsize) says how much memory it needs for a moment on the CPU, besides x, y, weight and their gradients.
"""

from npunet.gpu import convolution as gpu_convolution
from npunet.gpu import few_channels as gpu_few_channels
from npunet.gpu import tensor_cores
from npunet.machine.shapes import output_shape
from npunet.machine.threads import can_start_threads
from npunet.ops.conv_algorithms import few_channels, im2col, naive, shifted_gemm, winograd

ALGORITHMS = {
    "naive": naive,
    "im2col": im2col,
    "few_channels": few_channels,
    "shifted_gemm": shifted_gemm,
    "winograd": winograd.F4,
    "winograd_5x5": winograd.F5,
    "winograd_6x6": winograd.F6,
}
GPU_ALGORITHMS = {
    "winograd_cuda": gpu_convolution.WINOGRAD,
    "tensor_cores": tensor_cores.ALGORITHM,  # for CuPy arrays only
    "few_channels_cuda": gpu_few_channels,
}
FEW_PIXELS = 200
FEW_KERNELS = 1 << 13  # up to so many the error of F(5x5) stays well below 1e-5
FEW_CHANNELS = 1 << 10  # c k below which a Python without threads takes im2col


def choose(x_shape, weight_shape, padding):
    """Name of the algorithm that `algorithm="auto"` takes;
    benchmarks/results/convolution.txt is the reason for the rule. (A GPU has a rule of its own, in npunet/gpu.)

    A Python without threads is one in a browser (WebAssembly). A call of NumPy costs ten times as much there, and
    Winograd's small bands need many: lesson 1's step takes 0.21 s with this rule and 0.26 s without.
    """
    kh, kw, c, k = weight_shape
    batch, height, width, _ = output_shape(x_shape, weight_shape, padding)
    if kh * kw == 1:  # cols is x itself
        return "im2col"
    if c < 8:
        return "few_channels"
    if (kh, kw) != (3, 3):
        return "shifted_gemm"
    if batch * height * width < FEW_PIXELS:  # Winograd's kernels, four times as large, cost more than they save
        return "im2col"
    if not can_start_threads():
        return "im2col" if c * k < FEW_CHANNELS else "winograd"
    return "winograd_5x5" if c * k <= FEW_KERNELS else "winograd"


def scratch_bytes(x_shape, weight_shape, padding, itemsize):
    """Most bytes that a convolution needs for a moment on the CPU, forward or backward, on all threads, besides x
    (N, H, W, C), y, weight (kh, kw, C, K) and their gradients; for the algorithm that `choose` takes.
    """
    algorithm = ALGORITHMS[choose(x_shape, weight_shape, padding)]
    return algorithm.scratch_bytes(x_shape, weight_shape, padding, itemsize)
