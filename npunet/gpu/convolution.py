"""3x3 convolution on a GPU: F(4x4, 3x3) as in winograd.py, and which algorithm is taken.

The transforms are kernels (winograd.cu), where CuPy would make many small steps; the 36 products are one call of
cuBLAS. With --precision tf32 or bf16 the tensor cores do it without transforms (tensor_cores.py): not only for speed,
for Winograd's transforms would enlarge the rounding of 10 bits of mantissa.

Memory for V and M, each 36/16 of the feature map and more, is bounded: tiles go through in chunks of at most WORKSPACE
bytes. What a GPU needs besides is enough work at a time. For dU = V^T dM few results, (C, K), come from many tiles, so
the tiles are shared out over several products, which run side by side and are added up in a fixed order afterwards.
"""

from npunet.errors import InputError
from npunet.gpu import cublas, cuda, kernels, tensor_cores
from npunet.gpu import few_channels as gpu_few_channels
from npunet.machine.backend import array_module
from npunet.machine.bands import blocks

KERNELS = cuda.CudaFile("winograd")
WORKSPACE = 1 << 30  # bytes for V and M together
PRODUCT_TILE = 128  # rows and columns of a product that cuBLAS computes in one block, about
WANTED_BLOCKS = 264  # two for each multiprocessor of a large GPU
LEAST_TILES = 256  # ... but no product gets fewer tiles than these
# {(C, K): most pixels of y} where Winograd in float32 is faster than the tensor cores in TF32. The model of
# benchmarks/results/gpu/expected.md says nowhere; `python -m benchmarks.gpu --parts layers` prints what it should be.
WINOGRAD_WINS = {}


class WinogradCuda:
    """The algorithm "winograd_cuda": m = 4, for CuPy arrays."""

    @staticmethod
    def supports(kh, kw):
        return kh == kw == 3

    def forward(self, x, weight, bias, padding, relu):
        """y (N, H', W', K) from x (N, H, W, C), weight (3, 3, C, K), bias (K,) or None."""
        cuda.check_on_gpu(x, "winograd_cuda")
        return _convolve(x, weight, bias, padding, relu, flip=False)

    def backward(self, dy, x, y, weight, padding, relu, need_dx):
        """dx, dweight, dbias from dy (N, H', W', K) and what forward had;
        y is its output, asked for its sign if relu.
        """
        cuda.check_on_gpu(x, "winograd_cuda")
        dz, dbias = kernels.mask_and_sum(dy, y if relu else None)
        dweight = _weight_gradient(x, dz, weight.shape, padding)
        dx = _convolve(dz, weight, None, 2 - padding, False, flip=True) if need_dx else None
        return dx, dweight, dbias


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
    if dtype == cuda.MAP_16:
        if (kh, kw) == (3, 3) and tensor_cores.fits(c, k, dtype):
            return "tensor_cores"
        raise InputError(
            f"conv2d: found a {kh}x{kw} kernel, {c} -> {k} channels, for feature maps in 16 bits; expected 3x3 and "
            "multiples of 32, or at most 7 channels on one side; give --precision tf32"
        )
    if c < 8 or kh * kw == 1:  # cols is small, or x itself
        return "im2col"
    if (kh, kw) != (3, 3):
        return "shifted_gemm"
    if not (cublas.tf32() and dtype == "float32" and tensor_cores.fits(c, k)):
        return "winograd_cuda"
    pixels = x_shape[0] * (x_shape[1] + 2 * padding - 2) * (x_shape[2] + 2 * padding - 2)
    wins = cublas.precision() == "tf32" and pixels <= WINOGRAD_WINS.get((c, k), 0)
    return "winograd_cuda" if wins else "tensor_cores"


WINOGRAD = WinogradCuda()
