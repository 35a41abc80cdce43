"""Work in bands: the one scheduler of all operations.

A NumPy expression reads and writes whole arrays. If these are feature maps, each line of an operation goes through main
memory. So an operation writes down what it does with a band, a few rows that a core's cache can hold, and leaves the
rest to this file: how large a band is, which thread works on it, and how the parts of a sum are put together.

    each_band(task, touches=(x, y))                 task(n, rows) for each band of rows
    sum_over_bands(task, touches=(x, y))            the same for a task that returns arrays: their sums over all bands
    each(task, items, x), sum_over(task, items, x)  the same for other pieces: blocks of channels, rectangles of tiles

With NumPy, each thread takes whole bands. With CuPy the GPU is the parallel machine, so bands follow one another and
are as large as its memory allows. Only this file asks which of the two it is.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from npunet.machine.backend import array_module
from npunet.machine.products import matmul
from npunet.machine.threads import get_num_threads, parallel, worker

# Of all that a band touches. Some caches hold it, and it is enough for a NumPy call to take 100 us: after each call a
# thread needs Python's lock, and where another has it, waiting and waking up cost half of that.
BAND_BYTES = 1 << 22
GPU_BAND_BYTES = 1 << 28  # few large pieces, which still bound the memory for intermediate results


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def blocks(count: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover range(count)."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def shares(count: int, array) -> list[slice]:
    """range(count) cut into one slice for each thread; into one alone for a CuPy array."""
    return blocks(count, max(1, ceil_div(count, get_num_threads())) if _on_cpu(array) else count)


def cached(count: int, size: int, array) -> list[slice]:
    """range(count) in slices of at most `size`, as much as a core's cache can hold; in one alone for a CuPy array."""
    return blocks(count, size if _on_cpu(array) else count)


def row_bands(touches: Sequence, fewest: int = 1, most: int | None = None) -> list[tuple[int, slice]]:
    """(n, rows) of each band of the rows of `touches[0]` (N, H, ...).

    The bytes of all arrays in `touches`, divided by N H, are what a row touches; so an array that is twice as high
    counts with two rows. A band touches at most `most` bytes, BAND_BYTES unless given, but has `fewest` rows at least,
    and no thread goes without a band.
    """
    batch, rows = touches[0].shape[:2]
    row_bytes = max(1, sum(array.nbytes for array in touches) // max(1, batch * rows))
    height = band_height(rows, row_bytes, fewest, most) if _on_cpu(touches[0]) else max(1, GPU_BAND_BYTES // row_bytes)
    return [(n, band) for n in range(batch) for band in blocks(rows, height)]


def band_height(rows: int, row_bytes: int, fewest: int = 1, most: int | None = None) -> int:
    """Rows of a band on the CPU, of `rows` in all."""
    return max(1, min(max((most or BAND_BYTES) // row_bytes, fewest), ceil_div(rows, get_num_threads())))


def each_band(task: Callable, touches: Sequence, fewest: int = 1, most: int | None = None) -> None:
    """Calls task(n, rows) for each of `row_bands`, on all threads."""
    each(lambda band: task(*band), row_bands(touches, fewest, most), touches[0])


def sum_over_bands(task: Callable, touches: Sequence, fewest: int = 1) -> list:
    """The sums of the arrays that task(n, rows) returns for each of `row_bands`, see `sum_over`."""
    return sum_over(lambda band: task(*band), row_bands(touches, fewest), touches[0])


def each(task: Callable, items: Sequence, array) -> None:
    """Calls task(item) for each item: on all threads if `array` is NumPy's, else one after the other."""
    if _on_cpu(array):
        parallel(lambda index: task(items[index]), len(items))
    else:
        for item in items:
            task(item)


def sum_over(task: Callable[..., Iterable], items: Sequence, array) -> list:
    """[sum over all items of the first array that task(item) returns, sum of the second, ...].

    The order of additions is fixed, so the bits are the same each time: thread t of T adds up the items t, t + T,
    t + 2 T, ... in this order, and the sums of the threads are added in the order of t. A task may return scratch
    memory: nothing of it is kept.
    """
    sums = {}  # by thread

    def add(index):
        parts = task(items[index])
        if worker() in sums:
            for total, part in zip(sums[worker()], parts):
                total += part
        else:
            sums[worker()] = [part.copy() for part in parts]

    if _on_cpu(array):
        parallel(add, len(items), fixed=True)
    else:
        for index in range(len(items)):
            add(index)
    first, *others = (sums[thread] for thread in sorted(sums))
    for other in others:
        for total, part in zip(first, other):
            total += part
    return first


def shared_matmul(a, b, out) -> None:
    """out = a @ b for matrices, each thread computing its share of the rows of `out`."""
    each(lambda rows: matmul(a[rows], b, out=out[rows]), shares(len(a), out), out)


def _on_cpu(array) -> bool:
    return array_module(array) is np
