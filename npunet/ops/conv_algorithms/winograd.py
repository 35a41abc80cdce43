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

from npunet.machine import kernels
from npunet.machine.backend import array_module
from npunet.machine.bands import blocks, cached, ceil_div, each, sum_over
from npunet.machine.kernels import SMALL_PRODUCT
from npunet.machine.memory import Scratch, empty, scratch
from npunet.machine.products import matmul
from npunet.machine.shapes import flipped, output_shape
from npunet.machine.threads import get_num_threads
from npunet.ops.conv_algorithms.tiles import TileGrid
from npunet.ops.conv_algorithms.transforms import toom_cook, two_sided

SMALL_KERNEL = 1 << 14  # with c k up to this number, U is quick to read again for each band
BAND_TILES = 200  # tiles of a band with a small kernel, or fewer for SMALL_PRODUCT: V and M stay in a core's cache
LARGE_BAND = 300  # tiles of a band with a large kernel: each band reads the kernel again
BANDS_EACH = 3  # least number of bands for each thread: threads are rarely equally fast
FEW = 5  # with fewer tiles for each output channel, U should be read only once
BLOCK_KERNELS = 1 << 17  # kernels (c, k) in the block of channels that a thread takes in that case
SMALL_BLOCK = 32  # least channels of a block that is made smaller for SMALL_PRODUCT
COLUMNS = 64  # channels of U that are made and used at a time where that gives small products ...
FEW_TILES = 200  # ... and it gains only with so few tiles, where packing U costs as much as the product


class Winograd:
    """The convolution algorithm F(m x m, 3x3); `points`: m + 1 numbers, the second of which is 1 (see Bias above).

    Two strategies. *By tiles*: U is made once, then each thread takes bands of tiles through all stages. *By channels*,
    for few tiles and many channels, where U is the largest array: V is made once, then each thread takes blocks of
    channels, and U is made, used and forgotten block by block.
    """

    def __init__(self, points):
        self.bt, self.g, self.at = toom_cook([float(point) for point in points])
        self.m, self.t = self.at.shape

    @staticmethod
    def supports(kh, kw):
        return kh == kw == 3

    def forward(self, x, weight, bias, padding, relu):
        """y (N, H', W', K) from x (N, H, W, C), weight (3, 3, C, K), bias (K,) or None."""
        y = empty(output_shape(x.shape, weight.shape, padding), x.dtype, array_module(x))
        grid = TileGrid(y.shape, self.m)
        weight = array_module(weight).ascontiguousarray(weight)  # NumPy before 2.3: strided matrices without BLAS
        forward = self._forward_by_channels if by_channels(grid, *weight.shape[2:]) else self._forward_by_tiles
        forward(x, weight, bias, padding, relu, grid, y)
        return y

    def backward(self, dy, x, y, weight, padding, relu, need_dx):
        """dx, dweight, dbias from dy (N, H', W', K) and what forward had;
        y is its output, asked for its sign if relu.
        """
        xp, grid = array_module(x), TileGrid(dy.shape, self.m)
        masked = empty(dy.shape, dy.dtype, xp) if relu else dy  # dy where y > 0
        dweight = empty(weight.shape, x.dtype, xp)
        gradient = self._gradient_by_channels if by_channels(grid, *weight.shape[2:]) else self._gradient_by_tiles
        dbias = gradient(dy, x, y if relu else None, padding, grid, masked, dweight)
        dx = self.forward(masked, flipped(weight), None, 2 - padding, False) if need_dx else None
        return dx, dweight, dbias

    def _forward_by_tiles(self, x, weight, bias, padding, relu, grid, y):
        bt, g, at = self._matrices(x)
        c, k = weight.shape[2:]
        u = empty((self.t, self.t, c, k), x.dtype, array_module(x))
        each(lambda block: two_sided(g, weight[:, :, block], u[:, :, block]), blocks(c, block_size(c, k)), x)

        def one_band(band):
            turns = Scratch("tiles", 2, x)
            v = grid.read(bt, x, band, padding, turns)  # V = B^T d B
            products = multiply(v, u, bias, turns.next((*v.shape[:4], k)))  # M = V @ U
            grid.write(at, products, y, band, relu, turns)  # Y = A^T M A

        each(one_band, grid.bands(*band_shape(grid, c, k, BANDS_EACH)), x)

    def _forward_by_channels(self, x, weight, bias, padding, relu, grid, y):
        bt, g, at = self._matrices(x)
        (c, k), t, xp = weight.shape[2:], self.t, array_module(x)
        columns, groups = small_products(grid.count, c)
        grouped = empty((t * t, groups, ceil_div(grid.count, groups), c), x.dtype, xp)
        v = by_tile_rows(grouped, grid)  # (t, t, rows of tiles, tiles in a row, C), the same memory
        grouped.reshape(t * t, -1, c)[:, grid.count :] = 0  # the last group may be smaller

        def one_block(block):
            products = scratch("M", (*grouped.shape[:3], block.stop - block.start), x.dtype, xp)
            for part in cached(products.shape[3], columns, x):
                u = scratch("kernels", (t, t, c, part.stop - part.start), x.dtype, xp)
                two_sided(g, weight[..., block][..., part], u)
                matmul(grouped, u.reshape(t * t, 1, c, -1), out=products[..., part])  # (T, C) @ (C, some of K)
            m = by_tile_rows(products, grid)
            if bias is not None:
                m[1, 1] += bias[block]
            for band in grid.bands(1):
                grid.write(at, m[:, :, band.slot], y[..., block], band, relu, Scratch("tiles", 2, x))

        each(lambda band: grid.read(bt, x, band, padding, Scratch("tiles", 2, x), v[:, :, band.slot]), grid.bands(1), x)
        each(one_block, blocks(k, block_size(k, c)), x)

    def _gradient_by_tiles(self, dy, x, y, padding, grid, masked, dweight):
        bt, gt, a = self._transposed(x)
        (c, k), t, xp = dweight.shape[2:], self.t, array_module(x)

        def one_band(band):
            v = scratch("V", (t, t, *band.shape, c), x.dtype, xp)
            dm = scratch("dM", (t, t, *band.shape, k), x.dtype, xp)
            turns = Scratch("tiles", 1, x)
            grid.read(bt, x, band, padding, turns, v)
            mask(dy, y, band.pixels, masked)
            grid.read(a, masked, band, 0, turns, dm)  # dM = A dY A^T
            du = multiply_transposed(v, dm, turns.next((t * t, c, k)))  # dU = V^T @ dM
            return du, bias_gradient(dm)

        du, dbias = sum_over(one_band, grid.bands(*band_shape(grid, c, k)), x)
        du = du.reshape(t, t, c, k)
        each(lambda block: two_sided(gt, du[:, :, block], dweight[:, :, block]), blocks(c, block_size(c, k)), x)
        return dbias

    def _gradient_by_channels(self, dy, x, y, padding, grid, masked, dweight):
        bt, gt, a = self._transposed(x)
        (c, k), t, xp = dweight.shape[2:], self.t, array_module(x)
        v = empty((t, t, grid.batch * grid.down, grid.across, c), x.dtype, xp)
        dm = empty((*v.shape[:4], k), x.dtype, xp)

        def one_band(band):
            grid.read(bt, x, band, padding, Scratch("tiles", 1, x), v[:, :, band.slot])
            mask(dy, y, band.pixels, masked)
            grid.read(a, masked, band, 0, Scratch("tiles", 1, x), dm[:, :, band.slot])

        def one_block(block):
            du = scratch("kernels", (t * t, block.stop - block.start, k), x.dtype, xp)
            multiply_transposed(v.reshape(t, t, -1, c)[..., block], dm, du)
            two_sided(gt, du.reshape(t, t, -1, k), dweight[:, :, block])  # dg = G^T dU G

        each(one_band, grid.bands(1), x)
        each(one_block, blocks(c, block_size(c, k, grid.count)), x)
        return bias_gradient(dm)

    def _matrices(self, x):
        """B^T, G, A^T like x."""
        return (array_module(x).asarray(matrix, dtype=x.dtype) for matrix in (self.bt, self.g, self.at))

    def _transposed(self, x):
        """B^T, G^T, A like x, for the gradients."""
        return (array_module(x).asarray(matrix, dtype=x.dtype) for matrix in (self.bt, self.g.T, self.at.T))

    def scratch_bytes(self, x_shape, weight_shape, padding, itemsize):
        """Most bytes that forward or backward need for a moment besides x, y, weight and their gradients."""
        (c, k), threads = weight_shape[2:], get_num_threads()
        grid = TileGrid(output_shape(x_shape, weight_shape, padding), self.m)
        if by_channels(grid, c, k):  # V, dM; of each thread U and M, or dU
            columns, groups = small_products(grid.count, c)
            tiles, block = groups * ceil_div(grid.count, groups), block_size(k, c)
            forward = min(columns, block) * c + tiles * block
            numbers = tiles * (c + k) + threads * max(forward, block_size(c, k, grid.count) * k)
        else:  # of each thread dU and its sum, V, dM, and their like in turns
            rows, columns = band_shape(grid, c, k)
            numbers = threads * (2 * c * k + rows * columns * (c + k + 2 * max(c, k)))
        return numbers * self.t**2 * itemsize


def multiply(v, u, bias, products):
    """M = V @ U, and bias for all results of a tile: v (t, t, ..., C), u (t, t, C, K) -> products (t, t, ..., K)."""
    t, _, c, k = u.shape
    matmul(v.reshape(t * t, -1, c), u.reshape(t * t, c, k), out=products.reshape(t * t, -1, k))  # (T, C) @ (C, K)
    if bias is not None:
        products[1, 1] += bias
    return products


def multiply_transposed(v, dm, du):
    """dU = V^T @ dM, the sum over tiles: v (t, t, ..., C), dm (t, t, ..., K) -> du (t t, C, K)."""
    frequencies, c, k = du.shape
    v, dm = v.reshape(frequencies, -1, c), dm.reshape(frequencies, -1, k)
    return matmul(v.swapaxes(1, 2), dm, out=du)  # (C, T) @ (T, K)


def bias_gradient(dm):
    """dbias (K,) from dM (t, t, ..., K): in frequency (1, 1) each tile has the sum of its dY."""
    return dm[1, 1].reshape(-1, dm.shape[-1]).sum(axis=0)


def mask(dy, y, pixels, masked):
    """masked = dy where y > 0, for the pixels of a band; nothing to do without y, where masked is dy."""
    if y is not None:
        array_module(dy).multiply(dy[pixels], y[pixels] > 0, out=masked[pixels])


def small_products(tiles, c):
    """How the strategy by channels multiplies: columns of U at a time, and into how many groups it cuts the tiles, so
    that with few tiles each product is a small one, where BLAS has a quicker way for those.
    """
    if tiles > FEW_TILES or not kernels.small_products():
        return BLOCK_KERNELS, 1  # a whole block of channels
    return COLUMNS, ceil_div(tiles, max(1, SMALL_PRODUCT // (c * COLUMNS)))


def by_tile_rows(grouped, grid):
    """An array (t t, groups, tiles of a group, C) as (t, t, rows of tiles, tiles in a row, C): the same memory, without
    what makes up the last group.
    """
    t = grid.m + 2
    frequencies, c = grouped.shape[0], grouped.shape[3]
    flat = grouped.reshape(frequencies, -1, c)[:, : grid.count]
    return flat.reshape(t, t, grid.batch * grid.down, grid.across, c)


def by_channels(grid, c, k):
    """True if V is smaller than U, which should then pass the cache once only."""
    return grid.count < FEW * k and c * k > SMALL_KERNEL


def band_shape(grid, c, k, each=1):
    """Rows of tiles and tiles in a row of a band, in the strategy by tiles; at least `each` bands for a thread."""
    if c * k > SMALL_KERNEL:
        share = ceil_div(grid.down * grid.batch, each * get_num_threads())
        return max(1, min(LARGE_BAND // grid.across, share)), grid.across
    count = min(BAND_TILES, SMALL_PRODUCT // (c * k))  # 61 at least
    rows = min(grid.down, round(count**0.5 / 2))
    pieces = ceil_div(grid.across, count // rows)
    return rows, ceil_div(grid.across, pieces)


def block_size(channels, others, tiles=0):
    """Channels on one side that a thread takes at a time, with `others` on the other side and `tiles` in a product;
    every thread has as many blocks.
    """
    threads = get_num_threads()
    size = max(1, min(BLOCK_KERNELS // others, ceil_div(channels, threads)))
    small = SMALL_PRODUCT // (others * max(1, tiles))
    if small >= SMALL_BLOCK:
        size = min(size, small)
    size = ceil_div(channels, threads * ceil_div(channels, threads * size))
    return min(channels, ceil_div(size, 16) * 16)  # 16 numbers are a register


F4 = Winograd([0, 1, -1, 1 / 2, -2])  # largest error over largest value, 64 .. 1024 channels: 2 to 5 millionths
F5 = Winograd([0, 1, -3 / 4, -3 / 2, 1 / 2, 2])  # 13 % fewer multiplications than F4, twice its error
F6 = Winograd([0, 1, -1, 1 / 2, -1 / 2, 2, -2])  # 21 % fewer, four times
