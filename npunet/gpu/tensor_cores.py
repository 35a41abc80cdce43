"""Convolutions and up-convolutions on the tensor cores, without a matrix of windows and without cuBLAS.

tensor_cores.cu has the products and explains them, tap_gradients.cu the weight gradients. Feature maps decide the
precision: those of float32 are multiplied in TF32, those in 16 bits (sixteen_bits.py) as they are.
"""

import functools
from typing import NamedTuple

from npunet.errors import InputError
from npunet.gpu import cublas, cuda, kernels, sixteen_bits
from npunet.machine.backend import Array, array_module
from npunet.machine.bands import ceil_div

PRODUCTS, GRADIENTS = cuda.CudaFile("tensor_cores"), cuda.CudaFile("tap_gradients")
BY_WARPGROUPS = cuda.CudaFile("wgmma", "sm_90a", [cuda.WARPGROUP])
# wgmma.cu for feature maps in 16 bits; not measured yet: `python -m benchmarks.gpu --parts layers` says what to set
WGMMA = False
WARPS = 4  # of a block: 4 with 64 x 64 results each, or 8 with half as many (expected.md has the model, no GPU yet)
SLABS = 3  # in shared memory at a time: one is multiplied, the others are on their way
WANTED_BLOCKS = 264  # two for each multiprocessor of a large GPU
SLAB = 16  # channels of a slab of float32
LEAST_PIXELS = 256  # that a block of a weight gradient adds up
NEAR = 1  # 1: the taps of 16 channels follow each other, and the cache is used; 0: the channels of a tap do


class Block(NamedTuple):
    """The pixels of a block of tensor_cores.cu, and how many blocks run side by side on an H100's 132 multiprocessors:
    two or three on each.
    """

    pixels: int
    at_once: int


BLOCKS = {  # (WARPS, outputs of a block)
    (8, 128): Block(128, 264),
    (8, 64): Block(128, 396),
    (4, 128): Block(128, 264),
    (4, 64): Block(256, 264),
    (16, 128): Block(256, 132),  # wgmma.cu
}


class Kind(NamedTuple):
    """One of the four products of tensor_cores.cu: its name there, its taps, which axis of weight its outputs are."""

    name: str
    taps: int
    outputs: int


CONVOLVE, FLIPPED = Kind("convolve", 9, 3), Kind("flipped", 9, 2)
UP, DOWN = Kind("up", 4, 3), Kind("down", 4, 2)


def fits(c, k, dtype="float32"):
    """True if the kernels can do C -> K channels, with feature maps of `dtype`."""
    slab = sixteen_bits.CHANNELS if dtype == cuda.MAP_16 else SLAB
    return c % slab == k % slab == 0


def at_work(x, weight):
    """True if an up-convolution of x by weight (2, 2, C, K) belongs here: rounding is asked for, and the shape fits."""
    if cuda.is_map(x):
        return True  # nobody else can
    return cublas.tf32() and cuda.on_gpu(x) and x.dtype == weight.dtype == "float32" and fits(*weight.shape[2:])


def by_warpgroups(dtype, channels, outputs):
    """True if wgmma.cu multiplies, not tensor_cores.cu. Its blocks have 16 warps."""
    fit = channels % 64 == outputs % 128 == 0
    return WGMMA and dtype == cuda.MAP_16 and fit and cuda.compute_capability() == 90


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
                f"multiples of {SLAB}, or feature maps in 16 bits and multiples of {sixteen_bits.CHANNELS}; "
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
    groups = by_warpgroups(x.dtype, x.shape[3], outputs)
    warps = 16 if groups else WARPS
    wide = block_outputs(pixels, outputs, warps)
    block = BLOCKS[warps, wide]
    down, across = ceil_div(pixels, block.pixels), ceil_div(outputs, wide)
    shares = 1
    if kind is not UP:
        shares = shares_of_taps(down * across, block.at_once, x.shape[3], kind.taps)
    bias_or_not, last = bias if bias is not None else xp.empty((1,), "float32"), (int(bias is not None), int(relu))
    partial = xp.empty((shares, *shape) if shares > 1 else (1,), dtype="float32")
    numbers = dict(NEAR=NEAR, WARPS=WARPS, SLABS=slabs())
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
        shared=shared_bytes(kind, wide, x.dtype, groups),
        **({} if groups else numbers),
    )
    if shares > 1:
        counts = y.size, outputs, shares
        PRODUCTS.launch("add_shares", y.size, partial, bias_or_not, y, *counts, *last, dtype=x.dtype, **numbers)
    return y


def slabs():
    """SLABS where a multiprocessor has shared memory for two blocks of them: 164 KB on compute capability 8.0, 228 KB
    on 9.0 and 10.0. Others, 8.6 and 8.9 among them, have 100 KB, enough for 2.
    """
    return SLABS if cuda.compute_capability() in (80, 90, 100, 103) else 2


def block_outputs(pixels, outputs, warps):
    """How many outputs a block computes, 128 or 64. 128 reads less for each product. With eight warps it also gives
    half as many blocks: 56 for the bottleneck of a 572 tile, with a GPU of 132 multiprocessors.
    """
    blocks = ceil_div(pixels, BLOCKS[warps, 128].pixels) * (outputs // 128)
    return 128 if outputs % 128 == 0 and (warps != 8 or blocks >= WANTED_BLOCKS // 2) else 64


def shared_bytes(kind, wide, dtype, groups=False):
    """Bytes of the slabs of a block, whose rows tensor_cores.cu lays out: 64 bytes and 16 unused ones of each pixel;
    the same of each output, or `wide` outputs and 8 unused ones of each channel. With groups, of wgmma.cu: four slabs
    with rows of 128 bytes, and 1024 more, for the first one begins at a multiple of that.
    """
    if groups:
        return 4 * 128 * (BLOCKS[16, wide].pixels + wide) + 1024
    by_channel = kind.outputs == 2 or dtype == cuda.MAP_16
    return slabs() * (80 * BLOCKS[WARPS, wide].pixels + (80 * wide if by_channel else 4 * SLAB * (wide + 8)))


def _operands(kind, weight, dtype):
    """The weights as a kernel wants them for feature maps of `dtype`: as they are, or rounded to 16 bits, and turned
    where it sums over their third axis.
    """
    if dtype != cuda.MAP_16:
        return array_module(weight).ascontiguousarray(weight)
    return sixteen_bits.turned(weight) if kind.outputs == 3 else sixteen_bits.rounded(weight)


def shares_of_taps(blocks, at_once, channels, taps=9):
    """Over how many blocks the taps of one result are shared out: 1, 3 or 9 of nine, 1, 2 or 4 of four.

    A GPU runs `at_once` blocks side by side and takes as long for one as for all of them: 112 blocks, the forward
    pass of the bottleneck, leave more than half of it idle. To write a share and read it again takes about 16 /
    channels of the time of the whole product, with nine taps. Shares must promise to save 15 %. (A model; not measured
    on a GPU yet.)
    """

    def rounds(shares):
        more = 16 * 9 / taps * shares / channels
        return ceil_div(blocks * shares, at_once) / shares * (0.85 if shares == 1 else 1 + more)

    return min((1, 3, 9) if taps == 9 else (1, 2, 4), key=rounds)


class Tile(NamedTuple):
    """A kernel of tap_gradients.cu: its name, the results (C, K) of a block for each of its taps."""

    name: str
    c: int
    k: int
    taps: int


def gradient_tile(taps, c, k):
    """The kernel for the weight gradient of a convolution with nine taps, or an up-convolution with four."""
    if taps == 4:
        side = 128 if c % 128 == k % 128 == 0 else 64
        return Tile(f"up_gradient_{side}", side, side, 1)
    if WARPS == 8 and c % 128 == k % 128 == 0:
        return Tile("tap_gradient_128", 128, 128, 1)
    side = 128 if WARPS == 4 and k % 128 == 0 else 64
    return Tile(f"three_taps_{side}", 64, side, 3)


@functools.cache
def splits_of_pixels(blocks, pixels, results, least):
    """Over how many times as many blocks the pixels of a weight gradient are shared out, of at least `least` each.

    WANTED_BLOCKS run side by side. A block takes the time of its pixels and of about 32 more, to begin and to end. A
    share of the sums is written and read again, which takes as long as results / 21,600 pixels: memory against tensor
    cores of an H100. (A model; not measured on a GPU yet.)
    """

    def time(splits):
        rounds = ceil_div(blocks * splits, WANTED_BLOCKS)
        return rounds * (ceil_div(pixels, splits) + 32) + (splits > 1) * splits * results / 21600

    return min(range(1, max(1, pixels // least) + 1), key=time)


def weight_gradient(x, dz, shape, padding):
    """dweight of `shape` (3, 3, C, K) or, of an up-convolution, (2, 2, C, K): for each tap a product
    (C, pixels) @ (pixels, K), shared out over some blocks and added up in order.
    """
    xp = array_module(x)
    taps, (c, k) = shape[0] * shape[1], shape[2:]
    shifted, summed = (x, dz) if taps == 9 else (dz, x)  # what a tap shifts, and the pixels that are summed over
    pixels = summed.shape[0] * summed.shape[1] * summed.shape[2]
    tile = gradient_tile(taps, c, k)
    down, across = ceil_div(c, tile.c), ceil_div(k, tile.k)
    blocks = taps // tile.taps * down * across
    splits = splits_of_pixels(blocks, pixels, taps * c * k, LEAST_PIXELS)
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
        threads=32 * WARPS,
        shared=slabs()
        * 64
        * (tile.taps * (tile.c + 8) + tile.k + 8),  # rows of a tile and 8 unused numbers, 64 bytes deep
        WARPS=WARPS,
        SLABS=slabs(),
    )
    return partial[0] if splits == 1 else partial.sum(axis=0)
