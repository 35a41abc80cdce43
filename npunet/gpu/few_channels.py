"""Convolution with few channels on one side on a GPU:
the first layer, 1 or 3 -> K, and the last, C -> 2, without a matrix product.

Three kernels do all of it, see few_channels.cu. A pixel of y costs its own bytes and no more; counted in bytes that go
to or come from memory, for the first layer of a 572 tile, float32 (y is 83 MB):

    im2col, product, bias + ReLU  forward 83 written by the product, 166 for bias + ReLU, 23 for the windows     272 MB
    widen                         forward 83                                                                     83 MB
    im2col, product               backward 250 for dz = dy where y > 0, 83 to sum up dz, 83 + 23 in the product   440 MB
    tap_sums                      backward dy and y, once each                                                   166 MB

At 3.3 TB/s that is about 0.14 ms less of a training step. What weighs more: as a product dweight has 9 x 64 results
from 324,900 pixels, and the last layer's 64 x 2 from 150,544, which leave most of a GPU idle unless cuBLAS shares the
pixels out. Not measured on a GPU yet.
"""

from npunet.errors import InputError
from npunet.gpu import kernels
from npunet.gpu.cuda import CudaFile, is_map, on_gpu, real
from npunet.gpu.sixteen_bits import map_dtype
from npunet.machine.backend import array_module
from npunet.machine.shapes import flipped, output_shape

KERNELS = CudaFile("few_channels")
MOST = 7  # channels of the narrow side: 3 x 3 x 7 sums still fit into a thread's registers
WARPS, LANES = 8, 32  # as in few_channels.cu
RUN = 32  # pixels of a warp in `widen`, for which it reads its kernel once


def supports(kh, kw):
    return kh == kw and kh in (1, 3)


def fits(c, k):
    return min(c, k) <= MOST


def forward(x, weight, bias, padding, relu):
    """y (N, H', W', K) from x (N, H, W, C), weight (kh, kw, C, K), bias (K,) or None."""
    c, k = weight.shape[2:]
    if not (on_gpu(x) or is_map(x)):
        raise InputError("conv2d: algorithm 'few_channels_cuda' works on CuPy arrays; take algorithm='auto'")
    if not fits(c, k):
        raise InputError(
            f"conv2d: algorithm 'few_channels_cuda' found {c} -> {k} channels; expected at most {MOST} on one side; "
            f"take algorithm='auto'"
        )
    return _convolve(x, weight, bias, padding, relu, map_dtype(x.dtype, k) if c <= MOST else real(x.dtype))


def backward(dy, x, y, weight, padding, relu, need_dx):
    """dx, dweight, dbias from dy (N, H', W', K) and what forward had; y is its output, asked for its sign if relu."""
    kh, _, c, k = weight.shape
    dx = None
    if c <= MOST:
        sums = _tap_sums(dy, y if relu else None, x, kh, padding, backwards=False)
        if need_dx:
            dz = kernels.mask_and_sum(dy, y)[0] if relu else dy
            dx = _convolve(dz, flipped(weight), None, kh - 1 - padding, False, x.dtype)
        return dx, sums[:-1].reshape(weight.shape), sums[-1]
    dz, dbias = kernels.mask_and_sum(dy, y if relu else None)
    sums = _tap_sums(x, None, dz, kh, padding, backwards=True)[:-1].reshape(kh, kh, k, c)
    if need_dx:
        dx = _convolve(dz, flipped(weight), None, kh - 1 - padding, False, x.dtype)
    return dx, array_module(x).ascontiguousarray(sums.swapaxes(2, 3)), dbias


def _convolve(x, weight, bias, padding, relu, dtype):
    """y of `dtype`, by `widen` where x is the narrow side, otherwise by `narrow`."""
    xp = array_module(x)
    x, weight = xp.ascontiguousarray(x), xp.ascontiguousarray(weight)
    _, height, width, c = x.shape
    y = xp.empty(output_shape(x.shape, weight.shape, padding), dtype=dtype)
    k, pixels = y.shape[3], y.size // y.shape[3]
    if c <= MOST:
        name, few, many, run, grid = "widen", c, k, (RUN,), (-(-pixels // (WARPS * RUN)), -(-k // LANES))
    else:
        name, few, many, run, grid = "narrow", k, c, (), (-(-pixels // WARPS),)
    KERNELS.launch(
        name,
        0,
        x,
        weight,
        weight if bias is None else bias,
        y,
        pixels,
        height,
        width,
        *y.shape[1:3],
        many,
        padding,
        *run,
        int(bias is not None),
        int(relu),
        dtype=y.dtype if name == "widen" else x.dtype,  # of the wide side
        grid=grid,
        FEW=few,
        SIDE=len(weight),
    )
    return y


def _tap_sums(wide, gate, narrow, side, padding, backwards):
    """(side * side * few + 1, M):
    for each tap and narrow channel the sums of few_channels.cu, and last that of wide (N, H, W, M) itself.
    """
    xp = array_module(wide)
    wide, narrow = xp.ascontiguousarray(wide), xp.ascontiguousarray(narrow)
    *_, few = narrow.shape
    channels = wide.shape[3]
    pixels, across = wide.size // channels, -(-channels // LANES)
    run = -(-pixels // (WARPS * max(1, kernels.BLOCKS // across)))
    blocks, sums = -(-pixels // (WARPS * run)), side * side * few + 1
    shapes, dtype = ((blocks, sums, channels), (sums, channels)), real(wide.dtype)
    partial, total = (xp.empty(shape, dtype=dtype) for shape in shapes)
    KERNELS.launch(
        "tap_sums",
        0,
        wide,
        wide if gate is None else gate,
        narrow,
        partial,
        pixels,
        *wide.shape[1:],
        *narrow.shape[1:3],
        padding,
        run,
        int(gate is not None),
        int(backwards),
        grid=(blocks, across),
        FEW=few,
        SIDE=side,
    )
    kernels.add_up(partial.reshape(blocks, -1), total.reshape(-1))
    return total
