"""Bands: every row once, sizes from the arrays that are touched, sums in a fixed order, scratch arrays in turns."""

import tracemalloc
import types

import numpy as np
import pytest

from npunet import ops
from npunet.machine import bands, memory, threads
from npunet.machine.backend import to_cpu
from npunet.ops import up_convolution
from npunet.ops.conv_algorithms import choose, scratch_bytes, winograd
from npunet.ops.convolution import conv2d, conv2d_backward


@pytest.fixture(params=[1, 2, 3])
def number(request):
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


def test_ceil_div_and_blocks():
    assert [bands.ceil_div(a, 4) for a in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert bands.blocks(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)] and bands.blocks(0, 3) == []


def test_each_row_of_each_image_once(number):
    x = np.zeros((2, 37, 50, 16), np.float32)
    seen = np.zeros((2, 37), int)

    def task(n, rows):
        seen[n, rows] += 1

    bands.each_band(task, touches=(x, x))
    assert (seen == 1).all()


def test_the_size_of_a_band_comes_from_what_it_touches(number, monkeypatch):
    y, x = np.zeros((1, 64, 10, 4), np.float32), np.zeros((1, 128, 20, 4), np.float32)  # 160 bytes a row; 2 x 320
    monkeypatch.setattr(bands, "BAND_BYTES", 160 * 5 * 3)
    heights = [rows.stop - rows.start for _, rows in bands.row_bands(touches=(y, x))]
    assert heights == [3] * 21 + [1]
    assert bands.row_bands(touches=(y, x), fewest=8)[0] == (0, slice(0, 8))
    assert bands.row_bands(touches=(y, x), most=160 * 5 * 2)[0] == (0, slice(0, 2))
    monkeypatch.setattr(bands, "BAND_BYTES", 1 << 20)
    assert len(bands.row_bands(touches=(y, x))) == number  # no thread goes without


def test_shares_cover_the_range_and_give_each_thread_one(number):
    found = bands.shares(10, np.zeros(1))
    assert len(found) == number and np.concatenate([np.arange(10)[one] for one in found]).tolist() == list(range(10))


def test_on_a_device_array_bands_are_large_and_follow_one_another(xp, number):
    x = xp.asarray(np.arange(2.0 * 37 * 50 * 8).reshape(2, 37, 50, 8))
    if xp is np:
        assert len(bands.row_bands(touches=(x,))) == 2 * number
    else:
        assert bands.row_bands(touches=(x,)) == [(0, slice(0, 37)), (1, slice(0, 37))] and len(bands.shares(9, x)) == 1
    (total,) = bands.sum_over_bands(lambda n, rows: [x[n, rows].sum(axis=(0, 1))], touches=(x,))
    np.testing.assert_allclose(to_cpu(total), to_cpu(x).sum(axis=(0, 1, 2)), rtol=1e-12)


def test_a_sum_has_the_same_bits_each_time_and_keeps_no_scratch(number):
    x = np.random.default_rng(0).standard_normal((1, 200, 60, 7), dtype=np.float32)

    def task(n, rows):
        part = memory.scratch("part", (7,), np.float32)  # the same memory for each band of a thread
        part[...] = x[n, rows].sum(axis=(0, 1))
        return part, np.array([float(rows.stop - rows.start)])

    runs = [bands.sum_over_bands(task, touches=(x, x), fewest=3) for _ in range(5)]
    for total, rows in runs:
        assert total.tobytes() == runs[0][0].tobytes() and rows == 200
    np.testing.assert_allclose(runs[0][0], x.astype(np.float64).sum(axis=(0, 1, 2)), rtol=1e-4, atol=1e-3)


def test_a_product_of_matrices_in_shares(number, rng):
    a, b = rng.standard_normal((13, 5)), rng.standard_normal((5, 4))
    out = np.empty((13, 4))
    bands.shared_matmul(a, b, out)
    np.testing.assert_allclose(out, a @ b, rtol=1e-13)


def test_scratch_arrays_take_turns():
    like = np.zeros(1, np.float32)
    turns = memory.Scratch("test", 2, like)
    first, second, third = (turns.next((300, 300)) for _ in range(3))
    assert first.dtype == np.float32 and np.shares_memory(first, third) and not np.shares_memory(first, second)
    again = memory.Scratch("test", 2, like).next((300, 300))  # a new chain begins with the first array
    assert np.shares_memory(again, first)


@pytest.mark.parametrize(
    "shape, outputs, kernel", [((1, 80, 80, 64), 64, 3), ((1, 40, 40, 128), 256, 3), ((1, 90, 90, 96), 128, 3),
                               ((1, 12, 12, 64), 512, 3), ((1, 200, 200, 1), 64, 3), ((1, 120, 1000, 8), 16, 5),
                               ((1, 300, 300, 7), 2, 3)]
)  # fmt: skip
def test_scratch_bytes_is_what_a_convolution_takes(shape, outputs, kernel, rng, monkeypatch):
    """The peak that tracemalloc sees, with the pool out of use, less the arrays that stay."""
    before = threads.get_num_threads()
    threads.set_num_threads(1)
    monkeypatch.setattr(memory, "SMALLEST", 1 << 60)
    memory._local.__dict__.clear()
    x, weight = (rng.random(s, dtype=np.float32) for s in (shape, (kernel, kernel, shape[3], outputs)))
    tracemalloc.start()
    try:
        y, ctx = conv2d(x, weight, relu=True)
        dx, dweight, _ = conv2d_backward(y, ctx, need_dx=shape[3] > 1)
        peak = tracemalloc.get_traced_memory()[1]
        predicted = scratch_bytes(shape, weight.shape, 0, 4)
    finally:
        tracemalloc.stop()
        threads.set_num_threads(before)
        memory._local.__dict__.clear()
    stays = y.nbytes + dweight.nbytes + (0 if dx is None else y.nbytes + dx.nbytes)  # also dy before the ReLU
    algorithm = choose(shape, weight.shape, 0)
    assert 0.8 * peak <= stays + predicted <= 1.25 * peak, (algorithm, stays, predicted, peak)


@pytest.mark.parametrize("down, across", [(100, 100), (20, 300), (3, 40), (64, 7)])
@pytest.mark.parametrize("c, k", [(8, 8), (64, 64)])
def test_small_bands_of_winograd_are_wider_than_high(down, across, c, k):
    """Rows of tiles lie side by side in memory, so a band is about four times as wide as high where there is room."""
    rows, columns = winograd.band_shape(types.SimpleNamespace(down=down, across=across, batch=1), c, k)
    assert 1 <= rows <= down and 1 <= columns <= across and rows * columns <= winograd.BAND_TILES
    assert columns >= min(2 * rows, across)


@pytest.mark.parametrize("shape, parts", [((3, 12, 14, 4), 3 * 4), ((1, 24, 24, 4), 2 * 4), ((1, 4, 150, 4), 2 * 4)])
def test_an_up_convolution_shares_rows_among_threads_where_there_are_many_pixels(shape, parts, monkeypatch):
    """Up to 512 pixels only the four taps are shared; above, the rows of each image too."""
    before, counted = threads.get_num_threads(), []
    threads.set_num_threads(2)
    monkeypatch.setattr(up_convolution, "each", lambda task, items, array: counted.append(len(items)))
    try:
        ops.up_conv2d(np.zeros(shape), np.zeros((2, 2, shape[3], 2)))
    finally:
        threads.set_num_threads(before)
    assert counted == [parts]


def test_a_band_has_one_row_where_one_is_all_that_fits_or_all_that_a_thread_gets():
    assert bands.band_height(6, row_bytes=10**9) == 1
    assert bands.band_height(threads.get_num_threads(), row_bytes=1) == 1
