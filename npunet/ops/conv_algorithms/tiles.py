"""The tiles of an image for Winograd's convolution: how they are read and transformed, transformed back and written.

An image (N, H, W, C) is covered by m x m tiles of results. Tiles are never copied one by one: rows of tiles lie m rows
of pixels apart and the tiles of a row m pixels, whether they overlap or not, so all tiles of a band are one strided
view, which a matrix product reads itself.

Reading and writing are chains of stages. Each stage takes its array from `turns`, a `memory.Scratch`, and reads only
what the stage before wrote; so a band touches two arrays in turns, however many stages there are.
"""

from typing import NamedTuple

from npunet.machine.backend import array_module
from npunet.machine.bands import blocks, cached, ceil_div
from npunet.machine.kernels import SMALL_PRODUCT
from npunet.machine.memory import scratch


class Band(NamedTuple):
    """A rectangle of tiles of image n."""

    n: int
    row: int  # the first row of tiles
    column: int  # the first tile in it
    shape: tuple  # rows of tiles, tiles in a row
    pixels: tuple  # index of its results in an image
    slot: slice  # its rows among the rows of tiles of all images


class TileGrid:
    """The m x m tiles of results (N, H, W, K): `down` rows of `across` tiles for each of `batch` images."""

    def __init__(self, shape, m):
        self.m, (self.batch, self.height, self.width, _) = m, shape
        self.down, self.across = ceil_div(self.height, m), ceil_div(self.width, m)
        self.count = self.batch * self.down * self.across

    def bands(self, rows, columns=None):
        """All tiles in rectangles of rows x columns (all columns unless given), none across two images."""
        m = self.m
        return [
            Band(
                n,
                r.start,
                s.start,
                (r.stop - r.start, s.stop - s.start),
                (n, slice(r.start * m, r.stop * m), slice(s.start * m, s.stop * m)),
                slice(n * self.down + r.start, n * self.down + r.stop),
            )
            for n in range(self.batch)
            for r in blocks(self.down, rows)
            for s in blocks(self.across, columns or self.across)
        ]

    def read(self, matrix, x, band, padding, turns, target=None):
        """target[a, b] = matrix tile matrix^T for the tiles of x in a band: (t, t, rows, columns, C).

        matrix (t, size) with size = m for tiles side by side, m + 2 for tiles that overlap. Zeros around x.
        `target` is the next array of `turns` unless given.
        """
        xp, m, (t, size) = array_module(x), self.m, matrix.shape
        rows, columns = band.shape
        c = x.shape[3]
        strip, left, right = self._strip(x, band, padding, size)  # (m (rows - 1) + size, W, C), columns of zeros
        width = strip.shape[1]
        strided, (s0, _, item) = xp.lib.stride_tricks.as_strided, strip.strides
        half = turns.next((rows, t, left + width + right, c))
        half[:, :, :left] = half[:, :, left + width :] = 0
        below = strided(strip, (rows, size, width * c), (m * s0, s0, item))
        target_half = half[:, :, left : left + width].reshape(rows, t, width * c)
        for part in cached(width * c, SMALL_PRODUCT // (t * size), x):
            xp.matmul(matrix, below[..., part], out=target_half[..., part])  # down: (t, size) @ (rows; size, W C)
        s0, s1 = half.strides[:2]
        tiles = strided(half, (rows, t, columns, size, c), (s0, s1, m * c * item, c * item, item))
        target = turns.next((t, t, rows, columns, c)) if target is None else target
        xp.matmul(matrix, tiles, out=target.transpose(2, 0, 3, 1, 4))  # across: (t, size) @ (rows, a, columns; size, C)
        return target

    def _strip(self, x, band, padding, size):
        """The pixels of x (N, H, W, C) that a band reads, and how many columns of zeros belong left and right of them.

        A view, or a copy where rows of zeros must be put above or below.
        """
        rows, columns = band.shape
        height, width, c = x.shape[1:]
        top, left = self.m * band.row - padding, self.m * band.column - padding
        bottom, right = top + self.m * (rows - 1) + size, left + self.m * (columns - 1) + size
        found = x[band.n, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        beside = max(-left, 0), max(right - width, 0)
        if len(found) == bottom - top and x.strides[2:] == (c * x.itemsize, x.itemsize):
            return found, *beside
        strip = scratch("strip", (bottom - top, *found.shape[1:]), x.dtype, array_module(x))
        first = max(-top, 0)
        strip[:first] = strip[first + len(found) :] = 0
        strip[first : first + len(found)] = found
        return strip, *beside

    def write(self, at, source, y, band, relu, turns):
        """y = A^T source A for the tiles of a band; source (t, t, rows, columns, K)."""
        xp, (m, t) = array_module(y), at.shape
        rows, columns = band.shape
        k = source.shape[4]
        half = turns.next((rows, t, m, columns, k))
        # (m, t) @ (rows, b; t, columns K)
        xp.matmul(at, source.reshape(t, t, rows, -1).transpose(2, 1, 0, 3), out=half.reshape(rows, t, m, -1))
        target = y[band.pixels]
        height, width, _ = target.shape
        whole = (height, width) == (m * rows, m * columns)  # no tile of the band reaches beyond y
        results = target if whole else turns.next((m * rows, m * columns, k))
        # (m, t) @ (rows, i, columns; t, K)
        xp.matmul(at, half.transpose(0, 2, 3, 1, 4), out=results.reshape(rows, m, columns, m, k))
        if relu:
            xp.maximum(results[:height, :width], 0, out=target)
        elif not whole:
            target[...] = results[:height, :width]
