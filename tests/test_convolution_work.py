"""How convolution shares out work and memory: numbers that change no result, worked out by hand."""

import types

import numpy as np
import pytest

from npunet import ops
from npunet.machine import bands
from npunet.ops.conv_algorithms import ALGORITHMS, im2col, tiles, transforms, winograd


@pytest.mark.parametrize(
    "name, x, weight, padding, numbers",
    [
        # each of two threads: cols of 4 of 7 rows, 8 pixels and 3 x 3 x 2 taps; a part of dweight, and its sum
        ("im2col", (1, 9, 10, 2), (3, 3, 2, 5), 0, 2 * (4 * 8 * 18 + 2 * 18 * 5)),
        ("im2col", (1, 9, 10, 2), (3, 3, 2, 5), 1, 2 * (5 * 10 * 18 + 2 * 18 * 5)),
        ("im2col", (1, 9, 10, 2), (1, 1, 2, 5), 0, 2 * (2 * 2 * 5)),  # no cols: they are x itself
        ("im2col", (1, 90, 130, 2), (3, 3, 2, 5), 0, 2 * (2 * 128 * 18 + 2 * 18 * 5)),  # bands of two rows, see below
        ("im2col", (3, 4, 5, 2), (3, 3, 2, 19), 0, 2 * 3 * 2 * 3 * 18),  # 18 pixels, 19 channels: cols, whole
        # taps, the row of ones, and dy where the ReLU passes it
        ("few_channels", (1, 9, 10, 5), (3, 3, 5, 1), 0, 2 * 4 * 8 * (45 + 1 + 1)),
        ("few_channels", (1, 90, 131, 5), (3, 3, 5, 1), 0, 2 * 34 * 129 * (45 + 1 + 1)),
        # im2col for dx needs more: 5 of 9 rows, 10 pixels and 3 x 3 x 5 taps
        ("few_channels", (1, 9, 10, 2), (3, 3, 2, 5), 0, 2 * (5 * 10 * 45 + 2 * 45 * 2)),
        # each thread: a band of 4 rows of 12 pixels twice, and dweight, with 4 of 7 channels; dy with its border
        ("shifted_gemm", (2, 9, 10, 3), (5, 5, 3, 7), 1, 2 * (2 * 4 * 12 * 4 + 3 * 4) + 2 * 7 * 12 * 7),
        # 6 x 6 frequencies; each thread: dU and its sum; of 3 x 3 tiles V, dM and two arrays like the wider of them
        ("winograd", (1, 14, 14, 2), (3, 3, 2, 3), 0, 36 * 2 * (2 * 6 + 9 * (2 + 3 + 2 * 3))),
        # the strategy by channels: V and dM of 2 x 3 x 3 tiles; each thread: U and M of 16 of 20 channels
        ("winograd", (2, 14, 14, 5), (3, 3, 5, 20), 0, 36 * (18 * (5 + 20) + 2 * (16 * 5 + 18 * 16))),
        # ... each thread: dU, which is larger here
        ("winograd", (1, 6, 6, 20), (3, 3, 20, 5), 0, 36 * (20 + 5 + 2 * (5 * 20 + 5))),
    ],
)
def test_the_memory_of_a_convolution_by_hand(name, x, weight, padding, numbers, two_threads, monkeypatch):
    monkeypatch.setattr(bands, "BAND_BYTES", 3 * 128 * (18 + 5) * 4 - 1)
    monkeypatch.setattr(winograd, "SMALL_KERNEL", 50)
    monkeypatch.setattr(winograd.kernels, "small_products", lambda: False)
    for itemsize in (4, 8):
        if itemsize == 8:
            monkeypatch.setattr(bands, "BAND_BYTES", 2 * bands.BAND_BYTES)
        assert ALGORITHMS[name].scratch_bytes(x, weight, padding, itemsize) == itemsize * numbers


@pytest.mark.parametrize(
    "channels, others, tiles, size",
    [
        (60, 100, 0, 32),  # half of the channels for each thread, in whole registers of 16 numbers
        (64, 100, 0, 32),
        (66, 100, 0, 48),
        (5, 100, 0, 5),
        (1024, 512, 0, 256),  # 2^17 kernels
        (1000, 512, 0, 256),  # four blocks of 250
        (1100, 512, 0, 192),  # six of 184
        (512, 1 << 18, 0, 16),
        (512, 100, 100, 96),  # products of up to a million multiplications: 100 channels, in six blocks
        (512, 100, 312, 32),  # 32 channels, in 16 blocks of 32 ...
        (512, 100, 313, 256),  # ... but with less than 32 a product would be too small
    ],
)
def test_how_many_channels_a_thread_takes_at_a_time(channels, others, tiles, size, two_threads):
    assert winograd.block_size(channels, others, tiles) == size


@pytest.mark.parametrize(
    "small, tiles, c, columns, groups",
    [
        (False, 200, 512, winograd.BLOCK_KERNELS, 1),
        (True, 201, 512, winograd.BLOCK_KERNELS, 1),
        (True, 200, 512, 64, 7),  # 30 tiles x 512 x 64 are not quite a million multiplications
        (True, 30, 512, 64, 1),
        (True, 31, 512, 64, 2),
        (True, 3, 20000, 64, 3),
    ],
)
def test_small_products_of_few_tiles(small, tiles, c, columns, groups, monkeypatch):
    monkeypatch.setattr(winograd.kernels, "small_products", lambda: small)
    assert winograd.small_products(tiles, c) == (columns, groups)


@pytest.mark.parametrize(
    "down, across, batch, c, k, each, shape",
    [
        (50, 100, 1, 128, 128, 1, (4, 15)),  # 2^14 kernels: 61 tiles are not quite a million multiplications
        (50, 100, 1, 128, 129, 1, (3, 100)),  # one more: whole rows, up to 300 tiles
        (50, 10, 1, 128, 129, 1, (25, 10)),  # a half of the rows for each of two threads
        (50, 10, 1, 128, 129, 3, (9, 10)),  # three bands for each
        (50, 10, 3, 128, 129, 3, (25, 10)),
        (50, 400, 1, 128, 129, 3, (1, 400)),
        (50, 100, 1, 8, 8, 1, (7, 25)),  # up to 200 tiles, in four equal pieces of a row
        (50, 100, 1, 1, 8, 3, (7, 25)),
        (2, 100, 1, 8, 8, 1, (2, 100)),
        (3, 1, 1, 128, 128, 1, (3, 1)),
    ],
)
def test_the_bands_of_winograd(down, across, batch, c, k, each, shape, two_threads):
    grid = types.SimpleNamespace(down=down, across=across, batch=batch)
    assert winograd.band_shape(grid, c, k, each) == shape


@pytest.mark.parametrize("count, c, k, answer", [(99, 1000, 20, True), (100, 1000, 20, False), (9, 128, 128, False)])
def test_when_the_transformed_kernel_is_the_largest_array(count, c, k, answer):
    assert winograd.by_channels(types.SimpleNamespace(count=count), c, k) == answer
    assert not answer or not winograd.by_channels(types.SimpleNamespace(count=1), 1 << 7, 1 << 7)
    assert winograd.by_channels(types.SimpleNamespace(count=1), 1 << 7, (1 << 7) + 1)


def test_pieces_of_a_product_are_as_large_as_they_may_be(monkeypatch):
    """A transform of tiles multiplies at most a million times in one call, that of kernels takes 2^13 at a time."""
    asked = []
    monkeypatch.setattr(tiles, "cached", lambda count, size, array: asked.append((count, size)) or [slice(0, count)])
    x = np.zeros((1, 9, 12, 3))
    ops.conv2d(x, np.zeros((3, 3, 3, 2)), algorithm="winograd")
    assert asked and set(asked) == {(12 * 3, 1_000_000 // 36)}

    shapes, scratch = [], transforms.scratch
    monkeypatch.setattr(
        transforms, "scratch", lambda name, shape, *rest: shapes.append(shape) or scratch(name, shape, *rest)
    )
    for c, k, columns in (
        (5, 1 << 12, [1 << 13, 1 << 13, 1 << 12]),
        (2, (1 << 12) + 1, [(1 << 12) + 1] * 2),
        (1, 9000, [9000]),
    ):
        transforms.two_sided(np.zeros((6, 3)), np.zeros((3, 3, c, k)), np.zeros((6, 6, c, k)))
        assert shapes == [(3, 6, number) for number in columns]
        shapes.clear()


def test_im2col_shares_out_the_larger_matrix():
    assert im2col.kernel_is_larger((2, 3, 4, 25))
    assert not im2col.kernel_is_larger((2, 3, 4, 24))


def test_every_thread_has_three_bands_of_tiles_at_least(two_threads, monkeypatch):
    each, numbers = winograd.each, []
    monkeypatch.setattr(winograd, "SMALL_KERNEL", 1)
    monkeypatch.setattr(winograd, "each", lambda task, items, x: numbers.append(len(items)) or each(task, items, x))
    ops.conv2d(np.zeros((1, 50, 50, 3)), np.zeros((3, 3, 3, 2)), algorithm="winograd")  # 12 x 12 tiles
    assert numbers == [1, 6]  # U in one block of channels, then the bands
