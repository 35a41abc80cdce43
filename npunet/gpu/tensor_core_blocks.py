"""How the products of tensor_cores.py are cut into blocks of threads, and in what order a block goes through its work.

Only the time depends on it, and the last bits of sums. WARPS, SLABS, NEAR and WGMMA are for a GPU to decide. None was
at hand yet, so they follow the model of benchmarks/results/gpu/expected.md; `python -m benchmarks.gpu --parts layers`
times the others beside them and says what they should be.
"""

import functools
from typing import NamedTuple

from npunet.gpu import cuda
from npunet.machine.bands import ceil_div

WARPS = 4  # of a block: 4 with 64 x 64 results each, or 8 with half as many
SLABS = 3  # in shared memory at a time: one is multiplied, the others are on their way
NEAR = 1  # 1: the taps of 16 channels follow each other, and the cache is used; 0: the channels of a tap do
WGMMA = False  # True: wgmma.cu for feature maps in 16 bits, where it fits
WANTED_BLOCKS = 264  # two for each multiprocessor of a large GPU
SLAB = 16  # channels of a slab of float32
LEAST_PIXELS = 256  # that a block of a weight gradient adds up


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


def by_warpgroups(dtype, channels, outputs):
    """True if wgmma.cu multiplies, not tensor_cores.cu. Its blocks have 16 warps."""
    fit = channels % 64 == outputs % 128 == 0
    return WGMMA and dtype == cuda.MAP_16 and fit and cuda.compute_capability() == 90


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


def gradient_bytes(tile):
    """Bytes of the slabs of a weight gradient's block: rows of a tile and 8 unused numbers, 64 bytes deep."""
    return slabs() * 64 * (tile.taps * (tile.c + 8) + tile.k + 8)
