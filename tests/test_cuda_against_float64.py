"""Every convolution kernel against float64: forward and all gradients, ragged shapes, outputs poisoned, run twice.

On the emulation and, where there is one, on a GPU: there this is the check that the assembly instructions of
tensor_cores.cu do what the emulation takes them for. A lower limit of the error proves that TF32 is really on.
"""

import contextlib

import numpy as np
import pytest

from npunet import ops
from npunet.gpu import cublas, cuda, sixteen_bits, tensor_core_blocks
from npunet.machine.backend import to_cpu

FLOAT32, FLOAT64 = (0, 1e-5), (0, 1e-12)  # least and largest relative error
# 10 and 7 bits of mantissa: each operand is off by up to 2^-11 and 2^-8 of itself, a sum of products by about 3e-4 and
# 2.4e-3. Less would mean that the tensor cores are not at work. In bf16 x and dy are feature maps in 16 bits, so what
# is new in y is the rounding of the weights and of y itself, and dweight has none: its sums are float32.
ROUNDED = {"tf32": (3e-5, 1e-3), "bf16": (1e-3, 5e-3)}


def distance(mine, wanted):
    mine = to_cpu(mine).astype("float64")
    return np.linalg.norm(mine - wanted) / np.linalg.norm(wanted)


def placed(gpu, array, sixteen):
    """A float32 array on the device, as a feature map in 16 bits where asked for; and its numbers in float64."""
    there = gpu.asarray(array)
    there = sixteen_bits.rounded(there) if sixteen else there
    return there, to_cpu(sixteen_bits.as_floats(there)).astype("float64")


def check(gpu, rng, monkeypatch, algorithm, dtype, shape, limits, kernel=3):
    """(n, height, width, c, k, padding); returns the names of the kernels that ran."""
    n, height, width, c, k, padding = shape
    draw = lambda *size: rng.standard_normal(size).astype(dtype)
    weight, bias = draw(kernel, kernel, c, k), draw(k)
    sixteen = limits is ROUNDED["bf16"]
    x, x_exact = placed(gpu, draw(n, height, width, c), sixteen)
    options = dict(padding=padding, relu=True)
    exact, ctx = ops.conv2d(
        x_exact, *(a.astype("float64") for a in (weight, bias)), **options, algorithm="shifted_gemm"
    )
    dy, dy_exact = placed(gpu, draw(*exact.shape), sixteen)
    wanted = [exact, *ops.conv2d_backward(dy_exact, ctx)]
    mask = placed(gpu, exact.astype(dtype), sixteen)[0]  # rounding must not decide where the ReLU is open
    results = []
    with launches(monkeypatch) as launched:
        for _ in range(2):
            y, ctx = ops.conv2d(x, *map(gpu.asarray, (weight, bias)), **options, algorithm=algorithm)
            results.append([y, *ops.conv2d_backward(dy, ctx._replace(y=mask))])
    for name, first, second, expected in zip(("y", "dx", "dweight", "dbias"), *results, wanted, strict=True):
        np.testing.assert_array_equal(to_cpu(first), to_cpu(second), err_msg=f"{name} differs between two runs")
        least, most = bounds(name, limits)
        error = distance(sixteen_bits.as_floats(first), expected)
        assert least <= error <= most, f"{algorithm} {shape}: error of {name} is {error:.1e}"
    return launched


def bounds(name, limits):
    """What the error of one result must be."""
    if name == "dbias" or (name == "dweight" and limits is ROUNDED["bf16"]):
        return 0, 1e-5  # sums in float32 of numbers that are exact
    return limits


def sized(gpu, emulated, device):
    """A shape for the emulation, which is slow, or for a device, where large sizes meet other branches."""
    return device if gpu.__name__ == "cupy" else emulated


RAGGED = [
    ((1, 5, 4, 16, 256, 0), (1, 70, 73, 128, 256, 0)),
    ((2, 3, 4, 128, 128, 1), (2, 17, 9, 256, 128, 1)),
    ((1, 5, 6, 64, 64, 0), (1, 70, 70, 64, 64, 0)),
    ((1, 6, 7, 48, 80, 2), (1, 11, 13, 48, 80, 2)),
    ((3, 5, 4, 16, 144, 1), (3, 5, 4, 16, 144, 1)),
]


def for_maps(shape, precision):
    """The shape with channels in multiples of 32 where feature maps have 16 bits: 48 -> 96, 80 -> 160, 16 -> 32."""
    n, height, width, c, k, *padding = shape
    twice = lambda channels: 2 * channels if precision == "bf16" and channels % 32 else channels
    return n, height, width, twice(c), twice(k), *padding


def arranged(monkeypatch, blocks, warps=tensor_core_blocks.WARPS, slabs=tensor_core_blocks.SLABS):
    """Blocks of so many warps and slabs, of 128 outputs ("large") where these divide by 128, else of 64."""
    monkeypatch.setattr(tensor_core_blocks, "WARPS", warps)
    monkeypatch.setattr(tensor_core_blocks, "SLABS", slabs)
    large = lambda pixels, outputs, warps: 128 if outputs % 128 == 0 and blocks == "large" else 64
    monkeypatch.setattr(tensor_core_blocks, "block_outputs", large)


@pytest.mark.parametrize("emulated_shape, device_shape", RAGGED)
@pytest.mark.parametrize("blocks", ["large", "small"])
@pytest.mark.parametrize("precision", ROUNDED)
def test_tensor_cores(gpu, rng, monkeypatch, precision, blocks, emulated_shape, device_shape):
    monkeypatch.setattr(cublas, "_precision", precision)
    arranged(monkeypatch, blocks)
    shape = for_maps(sized(gpu, emulated_shape, device_shape), precision)
    launched = check(gpu, rng, monkeypatch, "tensor_cores", "float32", shape, ROUNDED[precision])
    large = shape[4] % 128 == 0 and blocks == "large"
    assert ("convolve_128" if large else "convolve_64") in launched


@pytest.mark.parametrize(
    "emulated_shape, device_shape",
    [
        ((1, 5, 4, 32, 16), (1, 28, 28, 1024, 512)),
        ((2, 3, 5, 128, 128), (2, 17, 9, 256, 128)),
        ((1, 12, 13, 48, 80), (1, 60, 61, 48, 80)),
    ],
)
@pytest.mark.parametrize("warps, slabs, blocks", [(4, 3, "large"), (4, 3, "small"), (8, 2, "large")])
@pytest.mark.parametrize("precision", ROUNDED)
def test_up_convolutions(gpu, rng, monkeypatch, precision, warps, slabs, blocks, emulated_shape, device_shape):
    """x (n, height, width, c) -> k channels; the definition is one product for each tap."""
    monkeypatch.setattr(cublas, "_precision", precision)
    arranged(monkeypatch, blocks, warps, slabs)
    monkeypatch.setattr(tensor_core_blocks, "LEAST_PIXELS", 20)
    n, height, width, c, k = for_maps(sized(gpu, emulated_shape, device_shape), precision)
    draw = lambda *size: rng.standard_normal(size).astype("float32")
    weight, bias = draw(2, 2, c, k), draw(k)
    x_there, x = placed(gpu, draw(n, height, width, c), precision == "bf16")
    dy_there, dy = placed(gpu, draw(n, 2 * height, 2 * width, k), precision == "bf16")
    y = np.einsum("nijc,abck->niajbk", x, weight, dtype="float64").reshape(dy.shape) + bias
    taps = dy.reshape(n, height, 2, width, 2, k)
    wanted = [
        y,
        np.einsum("niajbk,abck->nijc", taps, weight.astype("float64")),
        np.einsum("niajbk,nijc->abck", taps, x),
        dy.sum(axis=(0, 1, 2), dtype="float64"),
    ]
    with launches(monkeypatch) as launched:
        mine, ctx = ops.up_conv2d(x_there, *map(gpu.asarray, (weight, bias)))
        results = [sixteen_bits.as_floats(a) for a in (mine, *ops.up_conv2d_backward(dy_there, ctx))]
    for name, found, expected in zip(("y", "dx", "dweight", "dbias"), results, wanted, strict=True):
        least, most = bounds(name, ROUNDED[precision])
        assert least <= distance(found, expected) <= most, name
    large = "128" if blocks == "large" else "64"
    assert f"up_{large if k % 128 == 0 else 64}" in launched and f"down_{large if c % 128 == 0 else 64}" in launched


def test_up_convolutions_of_other_shapes_are_left_to_cublas(gpu, rng, monkeypatch):
    monkeypatch.setattr(cublas, "_precision", "tf32")
    x, weight = (gpu.asarray(rng.standard_normal(s).astype("float32")) for s in ((1, 3, 3, 12), (2, 2, 12, 6)))
    with launches(monkeypatch) as launched:
        ops.up_conv2d(x, weight)
        ops.up_conv2d(x.astype("float64"), weight.astype("float64"))
    assert not launched


@contextlib.contextmanager
def launches(monkeypatch):
    """The names of the kernels that are launched within."""
    names, launch = set(), cuda.CudaFile.launch
    with monkeypatch.context() as during:
        during.setattr(cuda.CudaFile, "launch", lambda *a, **how: names.add(a[1]) or launch(*a, **how))
        yield names


def test_tensor_cores_with_many_shares_of_the_pixels(gpu, rng, monkeypatch):
    monkeypatch.setattr(tensor_core_blocks, "LEAST_PIXELS", 16)
    check(
        gpu,
        rng,
        monkeypatch,
        "tensor_cores",
        "float32",
        sized(gpu, (1, 12, 9, 16, 32, 0), (1, 70, 70, 128, 128, 0)),
        ROUNDED["tf32"],
    )


@pytest.mark.parametrize("dtype, limits", [("float32", FLOAT32), ("float64", FLOAT64)])
@pytest.mark.parametrize(
    "emulated_shape, device_shape",
    [
        ((1, 9, 10, 12, 9, 0), (1, 70, 73, 64, 48, 0)),
        ((2, 7, 6, 8, 16, 1), (2, 17, 9, 128, 256, 1)),
        ((1, 6, 7, 9, 10, 2), (1, 11, 13, 9, 10, 2)),
    ],
)
def test_winograd(gpu, rng, monkeypatch, dtype, limits, emulated_shape, device_shape):
    check(gpu, rng, monkeypatch, "winograd_cuda", dtype, sized(gpu, emulated_shape, device_shape), limits)


@pytest.mark.parametrize("dtype, limits", [("float32", FLOAT32), ("float64", FLOAT64)])
@pytest.mark.parametrize(
    "kernel, emulated_shape, device_shape",
    [
        (3, (1, 9, 10, 1, 64, 0), (1, 70, 70, 1, 64, 0)),
        (3, (2, 7, 5, 3, 40, 1), (2, 17, 9, 3, 40, 1)),
        (1, (1, 9, 10, 64, 2, 0), (1, 70, 70, 64, 2, 0)),
        (3, (1, 5, 6, 7, 33, 2), (1, 9, 8, 7, 33, 2)),
    ],
)
def test_few_channels(gpu, rng, monkeypatch, dtype, limits, kernel, emulated_shape, device_shape):
    shape = sized(gpu, emulated_shape, device_shape)
    check(gpu, rng, monkeypatch, "few_channels_cuda", dtype, shape, limits, kernel)
