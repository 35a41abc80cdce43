"""Two-dimensional convolution, 3x3 unpadded in the paper's blue arrows, 1x1 at the end (§2, Fig. 1).

The paper's network "only uses the valid part of each convolution" (§1): padding is 0 unless a variant asks for it.

Definition (stride 1; p = padding, x = 0 outside the image):

    y[n, i, j, k] = bias[k] + sum over u, v, c of x[n, i + u - p, j + v - p, c] weight[u, v, c, k]

Gradients. Let L be the loss and dy = dL/dy. Each y is a sum of products, so the chain rule collects, for one factor,
every product that it takes part in:

    dweight[u, v, c, k] = sum over n, i, j of x[n, i + u - p, j + v - p, c] dy[n, i, j, k]
    dbias[k]            = sum over n, i, j of dy[n, i, j, k]
    dx[n, a, b, c]      = sum over u, v, k of dy[n, a - u + p, b - v + p, k] weight[u, v, c, k]

The last line has minus signs where the definition has plus signs. Put u' = kh - 1 - u and v' = kw - 1 - v:

    dx[n, a, b, c] = sum over u', v', k of dy[n, a + u' - (kh - 1 - p), b + v' - (kw - 1 - p), k] flipped[u', v', k, c]

with flipped[u', v', k, c] = weight[kh - 1 - u', kw - 1 - v', c, k]. That is again the definition: the input gradient is
a convolution of dy with the flipped kernel and padding kh - 1 - p (a "full" convolution if p = 0). With ReLU, L sees y
= max(0, z), and dL/dz = dy where y > 0, else 0; that replaces dy above.

How the sums are computed is the choice of an algorithm in conv_algorithms/; all give the same numbers up to rounding.
"""

from typing import Any, NamedTuple

from npunet.errors import InputError
from npunet.gpu import by_device, cuda
from npunet.gpu import convolution as gpu_convolution
from npunet.machine.backend import Array, array_module
from npunet.machine.shapes import check_arrays, check_gradient, output_shape
from npunet.ops.conv_algorithms import ALGORITHMS, GPU_ALGORITHMS, choose

KNOWN: dict[str, Any] = ALGORITHMS | GPU_ALGORITHMS
best = by_device(
    lambda x, weight, padding: choose(x.shape, weight.shape, padding),
    lambda x, weight, padding: gpu_convolution.choose(x.shape, weight.shape, padding, x.dtype),
)


class ConvolutionContext(NamedTuple):
    """What conv2d_backward needs. `y` is kept only with ReLU, for its sign."""

    x: Array
    y: Array | None
    weight: Array
    padding: int
    relu: bool
    has_bias: bool
    output_shape: tuple
    output_dtype: Any
    algorithm: str


def conv2d_definition(x: Array, weight: Array, bias: Array, padding: int = 0) -> Array:
    """The definition as loops over every output number, tap and input channel."""
    _, height, width, _ = x.shape
    xp, y_shape = array_module(x), output_shape(x.shape, weight.shape, padding)
    y = xp.empty(y_shape, x.dtype)
    for image, i, j, k in xp.ndindex(y_shape):
        total = bias[k]
        for u, v, c in xp.ndindex(weight.shape[:3]):
            row, column = i + u - padding, j + v - padding
            if 0 <= row < height and 0 <= column < width:  # x is 0 outside
                total = total + x[image, row, column, c] * weight[u, v, c, k]
        y[image, i, j, k] = total
    return y


def conv2d(
    x: Array, weight: Array, bias: Array | None = None, *, padding: int = 0, relu: bool = False, algorithm: str = "auto"
) -> tuple[Array, ConvolutionContext]:
    """Convolution of x (N, H, W, C) with weight (kh, kw, C, K), kh and kw odd, stride 1, zeros beyond the border.

    bias is (K,) or None; with `relu` the result is max(0, convolution + bias). All arrays have one dtype, float32 or
    float64. Returns y (N, H + 2 padding - kh + 1, W + 2 padding - kw + 1, K) of the same dtype, and the context for
    conv2d_backward, which refers to x, weight and y: do not write into them until the backward pass is done. Raises
    InputError for what is no array, and for shapes, dtypes, padding or an algorithm that do not fit.
    """
    check(x, weight, bias, padding, algorithm)
    if algorithm == "auto":
        algorithm = best(x, weight, padding)
    y = KNOWN[algorithm].forward(x, weight, bias, padding, relu)
    kept = x, y if relu else None, weight, padding, relu, bias is not None
    return y, ConvolutionContext(*kept, y.shape, y.dtype, algorithm)


def conv2d_backward(
    dy: Array, ctx: ConvolutionContext, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """dx (N, H, W, C), dweight (kh, kw, C, K), dbias (K,) from dy (N, H', W', K);
    the derivation is at the top of this file.

    dx is None if not `need_dx` (the first layer of a network), dbias is None if there was no bias.
    Raises InputError if dy has not the shape and dtype of y.
    """
    check_gradient("conv2d_backward", dy, ctx.output_shape, ctx.output_dtype)
    algorithm = KNOWN[ctx.algorithm]
    dx, dweight, dbias = algorithm.backward(dy, ctx.x, ctx.y, ctx.weight, ctx.padding, ctx.relu, need_dx)
    return dx, dweight, dbias if ctx.has_bias else None


def check(x: Array, weight: Array, bias: Array | None, padding: int, algorithm: str) -> None:
    """Raises InputError, with one line, if these are not arguments of conv2d."""
    check_arrays("conv2d", x=x, weight=weight, bias=bias)
    if x.ndim != 4 or weight.ndim != 4:
        raise InputError(
            f"conv2d: x has shape {x.shape} and weight {weight.shape}; expected (N, H, W, C) and (kh, kw, C, K)"
        )
    kh, kw, channels, outputs = weight.shape
    if kh % 2 == 0 or kw % 2 == 0:
        raise InputError(f"conv2d: the kernel is {kh}x{kw}; expected odd sizes, such as 3x3 or 1x1")
    if x.shape[3] != channels:
        raise InputError(
            f"conv2d: x has {x.shape[3]} channels but weight expects {channels}; channels are the last axis of x"
        )
    if bias is not None and bias.shape != (outputs,):
        raise InputError(
            f"conv2d: bias has shape {bias.shape}; expected ({outputs},), one number for each output channel"
        )
    in_16_bits = cuda.is_map(x)
    if x.dtype.name not in ("float32", "float64") and not in_16_bits:
        raise InputError(f"conv2d: x is {x.dtype}; expected float32 or float64, convert with x.astype('float32')")
    dtype = "float32" if in_16_bits else x.dtype
    if weight.dtype != dtype or (bias is not None and bias.dtype != dtype):
        found = f"weight {weight.dtype}" + ("" if bias is None else f", bias {bias.dtype}")
        raise InputError(f"conv2d: x is {x.dtype} but {found}; all must have one dtype, convert with astype")
    if array_module(weight) is not array_module(x) or (bias is not None and array_module(bias) is not array_module(x)):
        raise InputError(
            "conv2d: x, weight and bias are on different devices; move them with npunet.machine.backend.to_device"
        )
    if not isinstance(padding, int) or padding < 0:
        raise InputError(f"conv2d: padding is {padding!r}; expected an integer, 0 or more")
    if x.shape[0] < 1 or x.shape[1] + 2 * padding < kh or x.shape[2] + 2 * padding < kw:
        raise InputError(
            f"conv2d: x {x.shape} with padding {padding} is smaller than the {kh}x{kw} kernel; give a larger image"
        )
    if algorithm != "auto" and algorithm not in KNOWN:
        raise InputError(f"conv2d: algorithm {algorithm!r} is not known; expected auto, {', '.join(KNOWN)}")
    supports = getattr(KNOWN.get(algorithm), "supports", None)
    if supports is not None and not supports(kh, kw):
        raise InputError(f"conv2d: algorithm {algorithm!r} cannot do {kh}x{kw} kernels; take algorithm='auto'")
