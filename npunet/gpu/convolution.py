"""3x3 convolution on a GPU: the same two ideas as on the CPU, with kernels where CuPy would make many small steps.

    winograd_cuda   F(4x4, 3x3) as in winograd.py: the transforms are kernels (winograd.cu), the 36 products one call of
                    cuBLAS
    tensor_cores    im2col without the matrix of windows, on the tensor cores in TF32 (tensor_cores.cu); after --tf32
                    only

With TF32 the second is the right one not only for speed: Winograd's transforms would enlarge the rounding of its 10
bits of mantissa.

Memory for V and M, each 36/16 of the feature map and more, is bounded: tiles go through in chunks of at most WORKSPACE
bytes. What a GPU needs besides is enough work at a time. For dU = V^T dM few results, (C, K), come from many tiles, so
the tiles are shared out over several products, which run side by side and are added up in a fixed order afterwards.
"""

from npunet.errors import InputError
from npunet.gpu import cublas, cuda, kernels
from npunet.gpu import few_channels as gpu_few_channels
from npunet.machine.backend import array_module
from npunet.machine.bands import blocks, ceil_div

KERNELS, TENSOR_CORES = (cuda.CudaFile(name) for name in ("winograd", "tensor_cores"))
WORKSPACE = 1 << 30  # bytes for V and M together
PRODUCT_TILE = 128  # rows and columns of a product that cuBLAS computes in one block, about
BLOCKS_AT_ONCE = {128: 264, 64: 396}  # of convolve_128 and convolve_64, on the 132 multiprocessors of an H100
WANTED_BLOCKS = 264  # two for each multiprocessor of a large GPU
LEAST_TILES = 256  # ... but no product gets fewer tiles than these
# of tensor_cores.cu: channels of a slab, pixels of a block; least pixels for a weight gradient
SLAB, PIXELS, LEAST_PIXELS = 16, 128, 2048


class WinogradCuda:
    """The algorithm "winograd_cuda": m = 4, for CuPy arrays."""

    @staticmethod
    def supports(kh, kw):
        return kh == kw == 3

    def forward(self, x, weight, bias, padding, relu):
        """y (N, H', W', K) from x (N, H, W, C), weight (3, 3, C, K), bias (K,) or None."""
        _on_gpu(x, "winograd_cuda")
        return _convolve(x, weight, bias, padding, relu, flip=False)

    def backward(self, dy, x, y, weight, padding, relu, need_dx):
        """dx, dweight, dbias from dy (N, H', W', K) and what forward had;
        y is its output, asked for its sign if relu.
        """
        _on_gpu(x, "winograd_cuda")
        dz, dbias = kernels.mask_and_sum(dy, y if relu else None)
        dweight = _weight_gradient(x, dz, weight.shape, padding)
        dx = _convolve(dz, weight, None, 2 - padding, False, flip=True) if need_dx else None
        return dx, dweight, dbias


class TensorCores:
    """The algorithm "tensor_cores":
    float32 CuPy arrays, channels in multiples of 16, a GPU of compute capability 8.0 or higher.
    """

    @staticmethod
    def supports(kh, kw):
        return kh == kw == 3

    @staticmethod
    def fits(c, k):
        return c % SLAB == k % SLAB == 0

    def forward(self, x, weight, bias, padding, relu):
        """y (N, H', W', K) from x (N, H, W, C), weight (3, 3, C, K), bias (K,) or None."""
        _on_gpu(x, "tensor_cores")
        if cuda.compute_capability() < 80:
            raise InputError(
                f"conv2d: algorithm 'tensor_cores' found a GPU of compute capability {cuda.compute_capability() / 10}; "
                "expected 8.0 or higher, older ones have no TF32; take algorithm='auto'"
            )
        c, k = weight.shape[2:]
        if not self.fits(c, k) or x.dtype != "float32":
            raise InputError(
                f"conv2d: algorithm 'tensor_cores' found {x.dtype} and {c} -> {k} channels; expected float32 and "
                f"multiples of {SLAB}; "
                "take algorithm='auto'"
            )
        return _multiply(x, weight, bias, padding, relu)

    def backward(self, dy, x, y, weight, padding, relu, need_dx):
        """dx, dweight, dbias from dy (N, H', W', K) and what forward had;
        y is its output, asked for its sign if relu.
        """
        dz, dbias = kernels.mask_and_sum(dy, y if relu else None)
        dweight = _tap_gradients(x, dz, weight.shape, padding)
        dx = _multiply(dz, weight, None, 2 - padding, False, flip=True) if need_dx else None
        return dx, dweight, dbias


def _on_gpu(x, name):
    if not cuda.on_gpu(x):
        raise InputError(f"conv2d: algorithm {name!r} works on CuPy arrays; take algorithm='auto'")


def _multiply(x, weight, bias, padding, relu, flip=False):
    """y = x * weight by the kernels convolve_128 or convolve_64, each block 128 pixels by so many channels.

    128 reads less for each product, but gives half as many blocks: 56 for the bottleneck of a 572 tile, with a GPU of
    132 multiprocessors. With flip the kernel is `weight` turned by 180 degrees: that of the input gradient.
    """
    xp = array_module(x)
    x, weight = xp.ascontiguousarray(x), xp.ascontiguousarray(weight)
    n, height, width, c = x.shape
    k = weight.shape[2 if flip else 3]
    y = xp.empty((n, height + 2 * padding - 2, width + 2 * padding - 2, k), dtype=x.dtype)
    pixels = y.size // k
    down = ceil_div(pixels, PIXELS)
    block = 128 if k % 128 == 0 and down * (k // 128) >= WANTED_BLOCKS // 2 else 64
    across = ceil_div(k, block)
    shares = shares_of_taps(down * across, BLOCKS_AT_ONCE[block], c)
    partial = y if shares == 1 else xp.empty((shares, *y.shape), dtype=x.dtype)
    has_bias, offset = int(bias is not None), weight if bias is None else bias
    last = (has_bias, int(relu))
    TENSOR_CORES.launch(
        f"{'flipped' if flip else 'convolve'}_{block}",
        0,
        x,
        weight,
        offset,
        partial,
        pixels,
        height,
        width,
        c,
        *y.shape[1:3],
        k,
        padding,
        *(last if shares == 1 else (0, 0)),
        grid=(down, across, shares),
    )
    if shares > 1:
        TENSOR_CORES.launch("add_shares", y.size, partial, offset, y, y.size, k, shares, *last)
    return y


def shares_of_taps(blocks, at_once, channels):
    """Over how many blocks the nine taps of one result are shared out: 1, 3 or 9.

    A GPU runs `at_once` blocks side by side and takes as long for one as for all of them: 112 blocks, the forward
    pass of the bottleneck, leave more than half of it idle. To write a share and read it again takes about 16 /
    channels of the time of the whole product. Shares must promise to save 15 %. (A model; not measured on a GPU yet.)
    """

    def rounds(shares):
        return ceil_div(blocks * shares, at_once) / shares * (0.85 if shares == 1 else 1 + 16 * shares / channels)

    return min((1, 3, 9), key=rounds)


def _tap_gradients(x, dz, shape, padding):
    """dweight (3, 3, C, K):
    nine products (C, pixels) @ (pixels, K), each shared out over some blocks and added up in order.
    """
    xp = array_module(x)
    c, k = shape[2:]
    pixels = dz.size // k
    block = 128 if c % 128 == k % 128 == 0 else 64
    down, across = -(-c // block), -(-k // block)
    splits = max(1, min(-(-2 * WANTED_BLOCKS // (9 * down * across)), pixels // LEAST_PIXELS))
    share = -(-pixels // splits)
    partial = xp.empty((splits, *shape), dtype=x.dtype)
    TENSOR_CORES.launch(
        f"tap_gradient_{block}",
        0,
        xp.ascontiguousarray(x),
        dz,
        partial,
        pixels,
        share,
        *x.shape[1:],
        *dz.shape[1:],
        padding,
        grid=(down, across, 9 * splits),
    )
    return partial[0] if splits == 1 else partial.sum(axis=0)


class _Tiles:
    """The 4x4 tiles of an image (N, H', W'): `down` rows of `across` for each of N images, numbered through."""

    def __init__(self, shape):
        self.batch, self.height, self.width = shape[:3]
        self.down, self.across = -(-self.height // 4), -(-self.width // 4)
        self.count = self.batch * self.down * self.across

    def chunks(self, channels, itemsize):
        """Slices of the tiles whose transforms, 36 numbers for each of so many channels, fit into WORKSPACE."""
        return blocks(self.count, max(1, WORKSPACE // (36 * channels * itemsize)))


def _convolve(x, weight, bias, padding, relu, flip):
    """The forward pass; with flip that of the input gradient, whose kernel is `weight` turned by 180 degrees."""
    xp = array_module(x)
    x, weight = xp.ascontiguousarray(x), xp.ascontiguousarray(weight)
    n, height, width, c = x.shape
    k = weight.shape[2 if flip else 3]
    u = xp.empty((36, c, k), dtype=x.dtype)
    KERNELS.launch("weight_transform", c * k, weight, u, weight.shape[2], weight.shape[3], int(flip))
    y = xp.empty((n, height + 2 * padding - 2, width + 2 * padding - 2, k), dtype=x.dtype)
    tiles = _Tiles(y.shape)
    for chunk in tiles.chunks(c + k, x.dtype.itemsize):
        first, count = chunk.start, chunk.stop - chunk.start
        v, m = xp.empty((36, count, c), dtype=x.dtype), xp.empty((36, count, k), dtype=x.dtype)
        KERNELS.launch(
            "input_transform", count * c, x, v, first, count, count, height, width, c, tiles.down, tiles.across, padding
        )
        cublas.batched_matmul(v, u, m)  # (36; tiles, C) @ (36; C, K)
        KERNELS.launch(
            "output_transform",
            count * k,
            m,
            m if bias is None else bias,
            y,
            first,
            count,
            count,
            tiles.height,
            tiles.width,
            k,
            tiles.down,
            tiles.across,
            int(bias is not None),
            int(relu),
        )
    return y


def _weight_gradient(x, dz, shape, padding):
    """dweight (3, 3, C, K) from x (N, H, W, C) and dz (N, H', W', K)."""
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    c, k = shape[2:]
    tiles = _Tiles(dz.shape)
    dweight = xp.empty(shape, dtype=x.dtype)
    for chunk in tiles.chunks(c + k, x.dtype.itemsize):
        first, count = chunk.start, chunk.stop - chunk.start
        splits = products(count, c, k)
        padded = -(-count // splits) * splits  # all products alike: the last one gets tiles of zeros
        v, dm = xp.empty((36, padded, c), dtype=x.dtype), xp.empty((36, padded, k), dtype=x.dtype)
        KERNELS.launch(
            "input_transform", padded * c, x, v, first, count, padded, *x.shape[1:], tiles.down, tiles.across, padding
        )
        KERNELS.launch(
            "gradient_transform", padded * k, dz, dm, first, count, padded, *dz.shape[1:], tiles.down, tiles.across
        )
        du = xp.empty((36 * splits, c, k), dtype=x.dtype)
        # (C, tiles) @ (tiles, K)
        cublas.batched_matmul(v.reshape(36 * splits, -1, c), dm.reshape(36 * splits, -1, k), du, transpose_a=True)
        KERNELS.launch("weight_gradient", c * k, du, dweight, c * k, splits, int(first > 0))
    return dweight


def products(count, c, k):
    """Over how many products `count` tiles are shared out, so that 36 times as many keep the GPU busy."""
    blocks = 36 * -(-c // PRODUCT_TILE) * -(-k // PRODUCT_TILE)
    return max(1, min(-(-WANTED_BLOCKS // blocks), count // LEAST_TILES))


def choose(x_shape, weight_shape, padding, dtype="float32"):
    """Name of the algorithm for CuPy arrays. Not measured yet:
    `python -m benchmarks.gpu` times all of them, layer by layer.
    """
    kh, kw, c, k = weight_shape
    if gpu_few_channels.supports(kh, kw) and gpu_few_channels.fits(c, k):
        return "few_channels_cuda"
    if c < 8 or kh * kw == 1:  # cols is small, or x itself
        return "im2col"
    if (kh, kw) != (3, 3):
        return "shifted_gemm"
    return "tensor_cores" if cublas.tf32() and dtype == "float32" and TensorCores.fits(c, k) else "winograd_cuda"


WINOGRAD, TENSOR_CORES_TF32 = WinogradCuda(), TensorCores()
