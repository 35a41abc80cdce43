"""3x3 convolution with a quarter of the multiplications:
Winograd's F(4x4, 3x3) and its larger relatives, as matrix products.

One dimension first. m neighbouring results y of a 3-tap kernel g need t = m + 2 neighbouring inputs d. A convolution is
a product of polynomials: evaluate both at t points, multiply there, interpolate. That takes t multiplications instead
of 3 m:

    y = A^T [ (G g) * (B^T d) ]          B^T is t x t, G is t x 3, A^T is m x t; * multiplies element by element

In two dimensions each matrix acts on rows and on columns: for m = 4, 36 multiplications for 16 results instead of 144.
With C channels in, K channels out and T tiles of m x m results:

    U = G g G^T          (t t, C, K)     from the kernel
    V = B^T d B          (t t, T, C)     from the t x t input tiles, which overlap by two pixels
    M = V @ U            (t t, T, K)     t t matrix products, one a frequency: the sum over channels, nearly all the
                                         arithmetic
    Y = A^T M A          (m m, T, K)     the results, tile by tile

Gradients are the chain rule through these lines, each of which is linear. The transpose of Y = A^T M A is dM = A dY
A^T, and so

    dM = A dY A^T        dU = V^T @ dM        dg = G^T dU G

dx could go on the same way, dV = dM U^T, dd = B dV B^T, adding up tiles that overlap. As a convolution of the padded dy
with the flipped kernel (convolution.py) it costs the same products and has nothing to add up, so it is the forward pass
once more: turning the kernel by 180 degrees is turning G, exchanging its channels is U^T.

Bias: where d is constant, B^T d vanishes except at the point 1, where A^T has only ones. So adding the bias to the one
frequency M[1, 1] adds it to all m m results; and the transpose of that: dM[1, 1] is the sum of dy over a tile, and sums
to dbias.

Rounding: the points decide it. 0, 1, -1, 1/2, -2 and infinity lose less than half as much as the usual 0, 1, -1, 2, -2
and infinity. Larger tiles multiply less and lose more.

Sources: Winograd, "Arithmetic complexity of computations" (1980); Lavin, Gray, "Fast algorithms for convolutional
neural networks" (2016), arXiv 1509.09308; points: Barabasz et al., "Error analysis and improving the accuracy of
Winograd convolution" (2020), doi:10.1145/3412380.
"""

from typing import NamedTuple

import numpy as np

from npunet.machine import memory
from npunet.machine.backend import array_module
from npunet.machine.shapes import flipped
from npunet.machine.threads import get_num_threads, worker
from npunet.ops.conv_algorithms.common import bands, each

BAND_TILES = 100  # tiles of a band with a small kernel: its frequencies stay in a core's cache
BAND_PRODUCT = 1000000  # ... but tiles c k at most this: up to here OpenBLAS has a faster product
SMALL_KERNEL = 1 << 13  # c k up to which the kernel's frequencies stay in cache too
LARGE_BAND = 300  # tiles of a band with a larger kernel, which is read again for each band
FEW = 5  # tiles for each output channel below which it is better read only once:
BLOCK_KERNELS = 1 << 17  # then a thread takes a block of channels with at most so many kernels (c, k), not a band
PART = 1 << 13  # kernels (c, k) transformed at a time


def toom_cook(points, taps=3):
    """B^T (t, t), G (t, taps), A^T (m, t) that evaluate at ``points`` and infinity;
    t = len(points) + 1, m = t - taps + 1.
    """
    t = len(points) + 1
    bt, g, a = np.zeros((t, t)), np.zeros((t, taps)), np.zeros((t, t - taps + 1))
    for i, point in enumerate(points):
        others = points[:i] + points[i + 1 :]
        bt[i, :-1] = np.polynomial.polynomial.polyfromroots(others)  # Lagrange's polynomial of this point ...
        g[i] = point ** np.arange(taps) / np.prod(np.subtract(point, others))  # ... its denominator put into G
        a[i] = point ** np.arange(t - taps + 1)
    bt[-1] = np.polynomial.polynomial.polyfromroots(points)  # infinity: the highest coefficients
    g[-1, -1] = a[-1, -1] = 1
    return bt, g, a.T


class Winograd:
    """The convolution algorithm F(m x m, 3x3); ``points``: m + 1 numbers, the second of which is 1 (see Bias above)."""

    def __init__(self, points):
        self.bt, self.g, self.at = toom_cook([float(point) for point in points])
        self.m, self.t = self.at.shape

    @staticmethod
    def supports(kh, kw):
        return kh == kw == 3

    def forward(self, x, weight, bias, padding, relu):
        """y (N, H', W', K) from x (N, H, W, C), weight (3, 3, C, K), bias (K,) or None."""
        xp, t = array_module(x), self.t
        bt, g, at = (xp.asarray(matrix, dtype=x.dtype) for matrix in (self.bt, self.g, self.at))
        c, k = weight.shape[2:]
        y = memory.empty((x.shape[0], x.shape[1] + 2 * padding - 2, x.shape[2] + 2 * padding - 2, k), x.dtype, xp)
        tiles = Tiles(y.shape, self.m)

        def product(v, u, bias, name):  # M
            m = memory.scratch(name, (*v.shape[:4], u.shape[3]), x.dtype, xp)
            xp.matmul(
                v.reshape(t * t, -1, c), u.reshape(t * t, c, -1), out=m.reshape(t * t, -1, u.shape[3])
            )  # (t t; T, C) @ (t t; C, K)
            if bias is not None:
                m[1, 1] += bias
            return m

        if tiles.few(c, k):  # V once for all; then each thread makes U, M, y for a block of outputs
            v = memory.empty((t, t, tiles.batch * tiles.down, tiles.across, c), x.dtype, xp)
            each(lambda band: tiles.read(bt, x, band, padding, v[:, :, band.slot]), tiles.bands(1), xp)

            def one_block(block):
                u = memory.scratch("u", (t, t, c, block.stop - block.start), x.dtype, xp)
                two_sided(g, weight[..., block], u)
                m = product(v, u, None if bias is None else bias[block], "m")
                for band in tiles.bands(tiles.down):
                    tiles.write(at, m[:, :, band.slot], y[..., block], band, relu)

            each(one_block, bands(k, block_size(k, c)), xp)
        else:  # U once for all; then each thread makes V, M, y for a band of tiles
            u = memory.empty((t, t, c, k), x.dtype, xp)
            each(lambda part: two_sided(g, weight[:, :, part], u[:, :, part]), bands(c, block_size(c, k)), xp)

            def one_band(band):
                v = memory.scratch("odd", (t, t, *band.shape, c), x.dtype, xp)
                tiles.read(bt, x, band, padding, v)
                tiles.write(at, product(v, u, bias, "even"), y, band, relu)

            each(one_band, tiles.bands(*tiles.band_shape(c, k)), xp)
        return y

    def backward(self, dy, x, y, weight, padding, relu, need_dx):
        """dx, dweight, dbias from dy (N, H', W', K) and what forward had;
        y is its output, asked for its sign if relu.
        """
        masked, dweight, dbias = self.weight_gradient(dy, x, y if relu else None, weight, padding)
        dx = self.forward(masked, flipped(weight), None, 2 - padding, False) if need_dx else None
        return dx, dweight, dbias

    def weight_gradient(self, dy, x, y, weight, padding):
        """dy where y > 0 (all of it if y is None), dweight, dbias."""
        xp, t = array_module(x), self.t
        bt, gt, a = (xp.asarray(matrix, dtype=x.dtype) for matrix in (self.bt, self.g.T, self.at.T))
        c, k = weight.shape[2:]
        masked = dy if y is None else memory.empty(dy.shape, dy.dtype, xp)
        dweight = memory.empty(weight.shape, x.dtype, xp)
        tiles = Tiles(dy.shape, self.m)

        def both(band, v, dm):
            tiles.read(bt, x, band, padding, v)
            if y is not None:
                xp.multiply(dy[band.pixels], y[band.pixels] > 0, out=masked[band.pixels])
            tiles.read(a, masked, band, 0, dm)

        def product(v, dm):  # dU
            du = memory.scratch("even", (t * t, v.shape[-1], k), x.dtype, xp)
            return xp.matmul(v.reshape(t * t, -1, v.shape[-1]).swapaxes(1, 2), dm.reshape(t * t, -1, k), out=du)

        if tiles.few(c, k):  # V and dM once for all; then each thread makes dU, dg for a block of inputs
            v = memory.empty((t, t, tiles.batch * tiles.down, tiles.across, c), x.dtype, xp)
            dm = memory.empty((*v.shape[:4], k), x.dtype, xp)
            each(lambda band: both(band, v[:, :, band.slot], dm[:, :, band.slot]), tiles.bands(1), xp)

            def one_block(block):  # dU and dg = G^T dU G
                du = product(v.reshape(t * t, -1, c)[:, :, block], dm)
                two_sided(gt, du.reshape(t, t, -1, k), dweight[:, :, block])

            each(one_block, bands(c, block_size(c, k)), xp)
            return masked, dweight, dm[1, 1].reshape(-1, k).sum(axis=0)

        totals = [None] * get_num_threads()  # dU and dbias of each thread, summed over the bands that it did

        def one_band(band):
            v = memory.scratch("v", (t, t, *band.shape, c), x.dtype, xp)
            dm = memory.scratch("dm", (t, t, *band.shape, k), x.dtype, xp)
            both(band, v, dm)
            parts = product(v, dm), dm[1, 1].reshape(-1, k).sum(axis=0)
            if totals[worker()] is None:
                totals[worker()] = [part.copy() for part in parts]
            else:
                for total, part in zip(totals[worker()], parts):
                    total += part

        each(one_band, tiles.bands(*tiles.band_shape(c, k)), xp, fixed=True)
        (du, dbias), *others = [total for total in totals if total is not None]
        for other in others:
            du += other[0]
            dbias += other[1]
        du = du.reshape(t, t, c, k)
        each(lambda part: two_sided(gt, du[:, :, part], dweight[:, :, part]), bands(c, block_size(c, k)), xp)
        return masked, dweight, dbias


class Band(NamedTuple):
    """A rectangle of tiles of image n.

    ``pixels`` indexes it in the image, ``slot`` its rows among the rows of tiles of all images.
    """

    n: int
    row: int
    column: int
    shape: tuple  # rows of tiles, tiles in a row
    pixels: tuple
    slot: slice


class Tiles:
    """The m x m tiles of an image (N, H, W, K): ``down`` rows of ``across`` tiles for each of ``batch`` images."""

    def __init__(self, shape, m):
        self.m, (self.batch, self.height, self.width, _) = m, shape
        self.down, self.across = -(-self.height // m), -(-self.width // m)

    def few(self, c, k):
        """True if the transformed tiles are smaller than the transformed kernel, which should then pass the cache only
        once.
        """
        return self.batch * self.down * self.across < FEW * k and c * k > SMALL_KERNEL

    def band_shape(self, c, k):
        """Rows of tiles and tiles in a row of a band; see BAND_PRODUCT."""
        if c * k > SMALL_KERNEL:
            return max(1, min(LARGE_BAND // self.across, -(-self.down * self.batch // get_num_threads()))), self.across
        count = max(8, min(BAND_TILES, BAND_PRODUCT // (c * k)))
        rows = min(self.down, max(1, round(count**0.5 / 2)))
        pieces = -(-self.across // max(1, count // rows))
        return rows, -(-self.across // pieces)

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
            for r in bands(self.down, rows)
            for s in bands(self.across, columns or self.across)
        ]

    def read(self, matrix, x, band, padding, target):
        """target[a, b] = matrix tile matrix^T for the tiles of x in a band: (t, t, rows, columns, C).

        matrix (t, size) with size = m for tiles side by side, m + 2 for tiles that overlap. Zeros around x.

        The tiles are views: rows of tiles lie m rows of pixels apart, tiles of a row m pixels, whether they overlap or
        not.
        """
        xp, m, (t, size) = array_module(x), self.m, matrix.shape
        rows, columns = band.shape
        c = x.shape[3]
        strip, left, right = self.pixels(
            x, band, padding, size
        )  # (m (rows - 1) + size, W, C), columns of zeros missing beside it
        width = strip.shape[1]
        strided, (s0, _, item) = xp.lib.stride_tricks.as_strided, strip.strides
        half = memory.scratch("even", (rows, t, left + width + right, c), x.dtype, xp)
        half[:, :, :left] = half[:, :, left + width :] = 0
        xp.matmul(
            matrix,
            strided(strip, (rows, size, width * c), (m * s0, s0, item)),  # down: (t, size) @ (rows; size, W C)
            out=half[:, :, left : left + width].reshape(rows, t, width * c),
        )
        s0, s1 = half.strides[:2]
        tiles = strided(half, (rows, t, columns, size, c), (s0, s1, m * c * item, c * item, item))
        xp.matmul(matrix, tiles, out=target.transpose(2, 0, 3, 1, 4))  # across: (t, size) @ (rows, a, columns; size, C)

    def pixels(self, x, band, padding, size):
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
        strip = memory.scratch("strip", (bottom - top, *found.shape[1:]), x.dtype, array_module(x))
        first = max(-top, 0)
        strip[:first] = strip[first + len(found) :] = 0
        strip[first : first + len(found)] = found
        return strip, *beside

    def write(self, at, source, y, band, relu):
        """y = A^T source A for the tiles of a band; source (t, t, rows, columns, K)."""
        xp, (m, t) = array_module(y), at.shape
        rows, columns = band.shape
        k = source.shape[4]
        half = memory.scratch("odd", (rows, t, m, columns, k), y.dtype, xp)
        xp.matmul(
            at, source.reshape(t, t, rows, -1).transpose(2, 1, 0, 3), out=half.reshape(rows, t, m, -1)
        )  # (m, t) @ (rows, b; t, columns K)
        target = y[band.pixels]
        height, width, _ = target.shape
        whole = (height, width) == (m * rows, m * columns)  # no tile of the band reaches beyond y
        tiles = target if whole else memory.scratch("even", (m * rows, m * columns, k), y.dtype, xp)
        xp.matmul(
            at, half.transpose(0, 2, 3, 1, 4), out=tiles.reshape(rows, m, columns, m, k)
        )  # (m, t) @ (rows, i, columns; t, K)
        if relu:
            xp.maximum(tiles[:height, :width], 0, out=target)
        elif not whole:
            target[...] = tiles[:height, :width]


def two_sided(matrix, source, target):
    """target = matrix source matrix^T over the first two axes: source (r, r, C, K), target (a, a, C, K).

    Some C at a time, so that what is between the two products stays in cache.
    """
    xp = array_module(source)
    a, r = matrix.shape
    c, k = source.shape[2:]
    for part in bands(c, PART // k):
        block = source[:, :, part].reshape(r, r, -1)  # (r, r, columns)
        half = memory.scratch("half", (r, a, block.shape[2]), source.dtype, xp)
        xp.matmul(matrix, block.transpose(1, 0, 2), out=half)  # (a, r) @ (r; r, columns)
        xp.matmul(matrix, half.transpose(1, 0, 2), out=target[:, :, part].reshape(a, a, -1))


def block_size(channels, others):
    """Channels on one side that a thread takes at a time, with ``others`` on the other side, so that no thread goes
    without.
    """
    return max(1, min(BLOCK_KERNELS // others, -(-channels // get_num_threads())))


F4 = Winograd([0, 1, -1, 1 / 2, -2])  # largest error over largest value, 64 .. 1024 channels: 2 to 5 millionths
F5 = Winograd([0, 1, -3 / 4, -3 / 2, 1 / 2, 2])  # 13 % fewer multiplications than F4, twice its error
F6 = Winograd([0, 1, -1, 1 / 2, -1 / 2, 2, -2])  # 21 % fewer, four times
