"""Convolutions and up-convolutions on the tensor cores, without a matrix of windows and without cuBLAS.

tensor_cores.cu has the products and explains them, tap_gradients.cu the weight gradients. Feature maps decide the
precision: those of float32 are multiplied in TF32, those in 16 bits (sixteen_bits.py) as they are. wgmma.cu has the
products of the latter for compute capability 9.0. How work is cut into blocks stands in tensor_core_blocks.py.
"""

from typing import NamedTuple

from npunet.errors import InputError
from npunet.gpu import cublas, cuda, kernels, sixteen_bits
from npunet.gpu import tensor_core_blocks as blocks
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import ceil_div

PRODUCTS, GRADIENTS = cuda.CudaFile("tensor_cores"), cuda.CudaFile("tap_gradients")
BY_WARPGROUPS = cuda.CudaFile("wgmma", "sm_90a", [cuda.WARPGROUP])


class Kind(NamedTuple):
    """One of the four products of tensor_cores.cu: its name there, its taps, which axis of weight its outputs are."""

    name: str
    taps: int
    outputs: int


CONVOLVE, FLIPPED = Kind("convolve", 9, 3), Kind("flipped", 9, 2)
UP, DOWN = Kind("up", 4, 3), Kind("down", 4, 2)


def fits(c, k, dtype="float32"):
    """True if the kernels can do C -> K channels, with feature maps of `dtype`."""
    slab = sixteen_bits.CHANNELS if dtype == cuda.MAP_16 else blocks.SLAB
    return c % slab == k % slab == 0


def at_work(x, weight):
    """True if an up-convolution of x by weight (2, 2, C, K) belongs here: rounding is asked for, and the shape fits."""
    if cuda.is_map(x):
        return True  # nobody else can
    return cublas.tf32() and cuda.on_gpu(x) and x.dtype == weight.dtype == "float32" and fits(*weight.shape[2:])


class TensorCores:
    """The algorithm "tensor_cores": CuPy arrays of float32, channels in multiples of 16, or feature maps in 16 bits,
    channels in multiples of 32; a GPU of compute capability 8.0 or higher.
    """

    fits = staticmethod(fits)

    @staticmethod
    def supports(kh, kw):
        return kh == kw == 3

    def forward(self, x, weight, bias, padding, relu):
        """y (N, H', W', K) from x (N, H, W, C), weight (3, 3, C, K), bias (K,) or None."""
        if not cuda.is_map(x):
            cuda.check_on_gpu(x, "tensor_cores")
        if cuda.compute_capability() < 80:
            raise InputError(
                f"conv2d: algorithm 'tensor_cores' found a GPU of compute capability {cuda.compute_capability() / 10}; "
                "expected 8.0 or higher, older ones have no TF32; take algorithm='auto'"
            )
        c, k = weight.shape[2:]
        if not fits(c, k, x.dtype) or x.dtype == "float64":
            raise InputError(
                f"conv2d: algorithm 'tensor_cores' found {x.dtype} and {c} -> {k} channels; expected float32 and "
                f"multiples of {blocks.SLAB}, or feature maps in 16 bits and multiples of {sixteen_bits.CHANNELS}; "
                "take algorithm='auto'"
            )
        return multiply(CONVOLVE, x, weight, bias, _convolved(x, padding, k), padding, relu)

    def backward(self, dy, x, y, weight, padding, relu, need_dx):
        """dx, dweight, dbias from dy (N, H', W', K) and what forward had;
        y is its output, asked for its sign if relu.
        """
        dz, dbias = kernels.mask_and_sum(dy, y if relu else None)
        dweight = weight_gradient(x, dz, weight.shape, padding)
        dx = multiply(FLIPPED, dz, weight, None, x.shape, 2 - padding) if need_dx else None
        return dx, dweight, dbias


ALGORITHM = TensorCores()


def _convolved(x, padding, k):
    n, height, width, _ = x.shape
    return n, height + 2 * padding - 2, width + 2 * padding - 2, k


def up_conv2d(x: Array, weight: Array, bias: Array | None) -> Array:
    """y (N, 2H, 2W, K) from x (N, H, W, C), weight (2, 2, C, K), bias (K,) or None."""
    n, height, width, _ = x.shape
    return multiply(UP, x, weight, bias, (n, 2 * height, 2 * width, weight.shape[3]))


def up_conv2d_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """dx, dweight from dy (N, 2H, 2W, K); dx is the 2x2 convolution of dy in steps of two pixels."""
    dy = array_module(dy).ascontiguousarray(dy)
    return multiply(DOWN, dy, weight, None, x.shape), weight_gradient(x, dy, weight.shape, 0)


def multiply(kind, x, weight, bias, shape, padding=0, relu=False):
    """y of `shape` (N, rows, columns, outputs) by a kernel of tensor_cores.cu."""
    xp = array_module(x)
    x, operands = xp.ascontiguousarray(x), _operands(kind, weight, x.dtype)
    y = xp.empty(shape, dtype=x.dtype)
    outputs = shape[3]
    each_pixel = x.shape if kind is UP else shape  # every pixel of x gives four of y
    pixels = each_pixel[0] * each_pixel[1] * each_pixel[2]
    groups = blocks.by_warpgroups(x.dtype, x.shape[3], outputs)
    warps = 16 if groups else blocks.WARPS
    wide = blocks.block_outputs(pixels, outputs, warps)
    block = blocks.BLOCKS[warps, wide]
    down, across = ceil_div(pixels, block.pixels), ceil_div(outputs, wide)
    shares = 1
    if kind is not UP:
        shares = blocks.shares_of_taps(down * across, block.at_once, x.shape[3], kind.taps)
    bias_or_not, last = bias if bias is not None else xp.empty((1,), "float32"), (int(bias is not None), int(relu))
    partial = xp.empty((shares, *shape) if shares > 1 else (1,), dtype="float32")
    numbers = dict(NEAR=blocks.NEAR, WARPS=blocks.WARPS, SLABS=blocks.slabs())
    (BY_WARPGROUPS if groups else PRODUCTS).launch(
        f"{kind.name}_{wide}",
        0,
        x,
        operands,
        bias_or_not,
        y,
        partial,
        pixels,
        *x.shape[1:],
        *each_pixel[1:3],
        outputs,
        padding,
        *last,
        grid=(down, across, kind.taps if kind is UP else shares),
        threads=32 * warps,
        shared=blocks.shared_bytes(kind, wide, x.dtype, groups),
        **({} if groups else numbers),
    )
    if shares > 1:
        counts = y.size, outputs, shares
        PRODUCTS.launch("add_shares", y.size, partial, bias_or_not, y, *counts, *last, dtype=x.dtype, **numbers)
    return y


def _operands(kind, weight, dtype):
    """The weights as a kernel wants them for feature maps of `dtype`: as they are, or rounded to 16 bits, and turned
    where it sums over their third axis.
    """
    if dtype != cuda.MAP_16:
        return array_module(weight).ascontiguousarray(weight)
    return sixteen_bits.turned(weight) if kind.outputs == 3 else sixteen_bits.rounded(weight)


def weight_gradient(x, dz, shape, padding):
    """dweight of `shape` (3, 3, C, K) or, of an up-convolution, (2, 2, C, K): for each tap a product
    (C, pixels) @ (pixels, K), shared out over some blocks and added up in order.
    """
    xp = array_module(x)
    taps, (c, k) = shape[0] * shape[1], shape[2:]
    shifted, summed = (x, dz) if taps == 9 else (dz, x)  # what a tap shifts, and the pixels that are summed over
    pixels = summed.shape[0] * summed.shape[1] * summed.shape[2]
    tile = blocks.gradient_tile(taps, c, k)
    down, across = ceil_div(c, tile.c), ceil_div(k, tile.k)
    at_once = taps // tile.taps * down * across  # blocks for one share of the pixels
    splits = blocks.splits_of_pixels(at_once, pixels, taps * c * k, blocks.LEAST_PIXELS)
    partial = xp.empty((splits, *shape), dtype="float32")
    GRADIENTS.launch(
        tile.name,
        0,
        xp.ascontiguousarray(x),
        dz,
        partial,
        pixels,
        ceil_div(pixels, splits),
        *shifted.shape[1:3],
        c,
        *summed.shape[1:3],
        k,
        padding,
        grid=(down, across, taps // tile.taps * splits),
        threads=32 * blocks.WARPS,
        shared=blocks.gradient_bytes(tile),
        WARPS=blocks.WARPS,
        SLABS=blocks.slabs(),
    )
    return partial[0] if splits == 1 else partial.sum(axis=0)
