"""Every convolution kernel against float64: forward and all gradients, ragged shapes, outputs poisoned, run twice.

On the emulation and, where there is one, on a GPU: there this is the check that the assembly instructions of
tensor_cores.cu do what the emulation takes them for. A lower limit of the error proves that TF32 is really on.
"""

import numpy as np
import pytest

from npunet import ops
from npunet.gpu import convolution, cuda
from npunet.machine.backend import to_cpu

TF32, FLOAT32, FLOAT64 = (3e-5, 1e-3), (0, 1e-5), (0, 1e-12)  # least and largest relative error


def distance(mine, wanted):
    mine = to_cpu(mine).astype("float64")
    return np.linalg.norm(mine - wanted) / np.linalg.norm(wanted)


def check(gpu, rng, monkeypatch, algorithm, dtype, shape, limits, kernel=3):
    """(n, height, width, c, k, padding); returns the names of the kernels that ran."""
    n, height, width, c, k, padding = shape
    draw = lambda *size: rng.standard_normal(size).astype(dtype)
    x, weight, bias = draw(n, height, width, c), draw(kernel, kernel, c, k), draw(k)
    options = dict(padding=padding, relu=True)
    exact, ctx = ops.conv2d(*(a.astype("float64") for a in (x, weight, bias)), **options, algorithm="shifted_gemm")
    dy = draw(*exact.shape)
    wanted = [exact, *ops.conv2d_backward(dy.astype("float64"), ctx)]
    launched, launch, results = set(), cuda.CudaFile.launch, []
    with monkeypatch.context() as during:
        during.setattr(cuda.CudaFile, "launch", lambda *a, **how: launched.add(a[1]) or launch(*a, **how))
        for _ in range(2):
            y, ctx = ops.conv2d(*map(gpu.asarray, (x, weight, bias)), **options, algorithm=algorithm)
            ctx = ctx._replace(y=gpu.asarray(exact.astype(dtype)))  # rounding must not decide where the ReLU is open
            results.append([y, *ops.conv2d_backward(gpu.asarray(dy), ctx)])
    for name, first, second, expected in zip(("y", "dx", "dweight", "dbias"), *results, wanted, strict=True):
        np.testing.assert_array_equal(to_cpu(first), to_cpu(second), err_msg=f"{name} differs between two runs")
        least, most = limits if name != "dbias" else (0, limits[1])  # a sum, which no tensor core touches
        error = distance(first, expected)
        assert least <= error <= most, f"{algorithm} {shape}: error of {name} is {error:.1e}"
    return launched


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


@pytest.mark.parametrize("emulated_shape, device_shape", RAGGED)
@pytest.mark.parametrize("blocks", ["large", "small"])
def test_tensor_cores(gpu, rng, monkeypatch, blocks, emulated_shape, device_shape):
    monkeypatch.setattr(convolution, "WANTED_BLOCKS", 1 if blocks == "large" else 10**6)
    shape = sized(gpu, emulated_shape, device_shape)
    launched = check(gpu, rng, monkeypatch, "tensor_cores", "float32", shape, TF32)
    large = shape[4] % 128 == 0 and blocks == "large"
    assert ("convolve_128" if large else "convolve_64") in launched


def test_tensor_cores_with_many_shares_of_the_pixels(gpu, rng, monkeypatch):
    monkeypatch.setattr(convolution, "LEAST_PIXELS", 16)
    check(
        gpu,
        rng,
        monkeypatch,
        "tensor_cores",
        "float32",
        sized(gpu, (1, 12, 9, 16, 32, 0), (1, 70, 70, 128, 128, 0)),
        TF32,
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
