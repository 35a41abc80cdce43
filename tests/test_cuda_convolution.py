"""The CUDA convolutions, run on a CPU by cuda_on_cpu.py, against the definition and against the NumPy algorithms."""

import re

import cuda_on_cpu
import numpy as np
import pytest

from npunet import ops
from npunet.errors import InputError
from npunet.gpu import convolution as algorithms
from npunet.gpu import cuda, kernels, tensor_core_blocks
from npunet.gpu import few_channels as gpu_few_channels
from npunet.machine.backend import to_cpu
from npunet.ops.conv_algorithms import naive, winograd

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # of the largest value


def close(mine, expected, dtype):
    assert mine.dtype == dtype and mine.shape == expected.shape
    np.testing.assert_allclose(to_cpu(mine), expected, rtol=0, atol=TOLERANCE[dtype] * abs(expected).max())


def check(gpu, rng, algorithm, dtype, n, height, width, c, k, padding, relu=True, bias=True, kernel=3, need_dx=True):
    """Forward and all gradients of one convolution: `algorithm` on the device, im2col in NumPy as the other."""
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    x, weight, offset = draw(n, height, width, c), draw(kernel, kernel, c, k), draw(k) if bias else None
    options = dict(padding=padding, relu=relu)
    expected, expected_ctx = ops.conv2d(x, weight, offset, algorithm="im2col", **options)
    y, ctx = ops.conv2d(
        gpu.asarray(x), gpu.asarray(weight), gpu.asarray(offset) if bias else None, algorithm=algorithm, **options
    )
    close(y, expected, dtype)
    dy = draw(*expected.shape)
    ctx = ctx._replace(y=gpu.asarray(expected) if relu else None)  # rounding must not decide where the ReLU is open
    for mine, wanted in zip(
        ops.conv2d_backward(gpu.asarray(dy), ctx, need_dx), ops.conv2d_backward(dy, expected_ctx, need_dx), strict=True
    ):
        if wanted is None:
            assert mine is None
        else:
            close(mine, wanted, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "n, height, width, c, k, padding",
    [
        (1, 6, 6, 8, 4, 0),
        (1, 7, 12, 5, 3, 0),
        (2, 9, 8, 3, 6, 1),
        (1, 3, 3, 1, 1, 0),
        (1, 4, 5, 2, 2, 2),
        (2, 5, 4, 2, 3, 4),
    ],
)
def test_winograd(gpu, rng, dtype, n, height, width, c, k, padding):
    check(gpu, rng, "winograd_cuda", dtype, n, height, width, c, k, padding)
    check(gpu, rng, "winograd_cuda", dtype, n, height, width, c, k, padding, relu=False, bias=False)


def test_winograd_in_chunks_and_shared_out(gpu, rng, monkeypatch):
    monkeypatch.setattr(algorithms, "WORKSPACE", 7 * 36 * 5 * 8)  # seven tiles at a time
    monkeypatch.setattr(algorithms, "LEAST_TILES", 2)
    assert algorithms.products(7, 2, 3) == 3
    check(gpu, rng, "winograd_cuda", "float64", 2, 14, 18, 2, 3, 1)


@pytest.mark.parametrize(
    "count, c, k, splits",
    [(20164, 64, 64, 8), (20164, 128, 64, 8), (256, 1024, 1024, 1), (100, 64, 64, 1), (600, 64, 64, 2)],
)
def test_how_tiles_are_shared_out(count, c, k, splits):
    assert algorithms.products(count, c, k) == splits


def test_the_transforms_are_those_of_the_cpu(gpu, emulated):
    """Each one-dimensional transform, on unit vectors, is the matrix of winograd.py."""
    source = algorithms.KERNELS.source
    wanted = {
        "times_bt": winograd.F4.bt,
        "times_g": winograd.F4.g,
        "times_gt": winograd.F4.g.T,
        "times_at": winograd.F4.at,
        "times_a": winograd.F4.at.T,
    }
    assert set(wanted) == set(re.findall(r"void (times_\w+)\(", source))
    for name, matrix in wanted.items():
        rows, columns = matrix.shape
        call = "REAL out[6]; times_g<1>(in, out);" if name == "times_g" else f"REAL* out = in; {name}<1>(in);"
        probe = (
            source
            + f"""
extern "C" __global__ void probe(const REAL* x, REAL* y) {{
    REAL in[6];
    for (int i = 0; i < {columns}; ++i) in[i] = x[i];
    {call}
    for (int i = 0; i < {rows}; ++i) y[i] = out[i];
}}
"""
        )
        run = cuda_on_cpu.EmulatedModule(probe, ("-DREAL=double",)).get_function("probe")
        for unit in range(columns):
            x, y = gpu.asarray(np.eye(columns)[unit]), gpu.asarray(np.zeros(rows))
            run((1, 1, 1), (32, 1, 1), (x, y))
            np.testing.assert_allclose(to_cpu(y), matrix[:, unit], atol=1e-15)


def test_only_for_device_arrays(gpu, rng):
    x, weight = rng.standard_normal((1, 6, 6, 2)), rng.standard_normal((3, 3, 2, 2))
    with pytest.raises(InputError, match="works on CuPy arrays"):
        ops.conv2d(x, weight, algorithm="winograd_cuda")
    with pytest.raises(InputError, match="cannot do 1x1 kernels"):
        ops.conv2d(gpu.asarray(x), gpu.asarray(weight[:1, :1]), algorithm="winograd_cuda")


def test_auto_on_a_gpu(gpu, rng):
    for c, k, kernel, wanted in (
        (1, 16, 3, "few_channels_cuda"),
        (3, 8, 3, "few_channels_cuda"),
        (16, 2, 1, "few_channels_cuda"),
        (1, 8, 5, "im2col"),
        (16, 8, 3, "winograd_cuda"),
        (16, 8, 1, "im2col"),
        (16, 2, 5, "shifted_gemm"),
    ):
        _, ctx = ops.conv2d(
            gpu.asarray(rng.standard_normal((1, 8, 8, c))), gpu.asarray(rng.standard_normal((kernel, kernel, c, k)))
        )
        assert ctx.algorithm == wanted, (c, k, kernel)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "kernel, n, height, width, c, k, padding",
    [
        (3, 1, 21, 18, 1, 64, 0),
        (3, 2, 9, 8, 3, 40, 1),
        (3, 1, 3, 4, 7, 9, 2),
        (3, 2, 7, 6, 3, 33, 3),
        (1, 1, 5, 6, 2, 16, 0),  # few in
        (1, 2, 17, 9, 64, 2, 0),
        (1, 1, 4, 5, 70, 2, 1),
        (3, 1, 8, 9, 35, 3, 1),
        (3, 2, 5, 4, 8, 1, 0),
        (1, 1, 1, 1, 1, 1, 0),
    ],
)  # few out
def test_few_channels(gpu, rng, dtype, kernel, n, height, width, c, k, padding):
    check(gpu, rng, "few_channels_cuda", dtype, n, height, width, c, k, padding, kernel=kernel)
    check(
        gpu,
        rng,
        "few_channels_cuda",
        dtype,
        n,
        height,
        width,
        c,
        k,
        padding,
        relu=False,
        bias=False,
        kernel=kernel,
        need_dx=False,
    )


@pytest.mark.parametrize("c, k, kernel", [(3, 5, 3), (9, 2, 1), (8, 3, 3)])
def test_few_channels_against_the_definition_and_finite_differences(gpu, rng, c, k, kernel):
    x, weight, bias = (
        rng.standard_normal((2, 4, 5, c)),
        rng.standard_normal((kernel, kernel, c, k)),
        rng.standard_normal(k),
    )
    padding = kernel // 2
    y, ctx = ops.conv2d(*map(gpu.asarray, (x, weight, bias)), padding=padding, algorithm="few_channels_cuda")
    close(y, naive.forward(x, weight, bias, padding, False), "float64")
    dy = rng.standard_normal(y.shape)
    gradients = [to_cpu(gradient) for gradient in ops.conv2d_backward(gpu.asarray(dy), ctx)]
    directions = [rng.standard_normal(array.shape) for array in (x, weight, bias)]

    def along(step):
        moved = [gpu.asarray(array + step * direction) for array, direction in zip((x, weight, bias), directions)]
        return (dy * to_cpu(ops.conv2d(*moved, padding=padding, algorithm="few_channels_cuda")[0])).sum()

    expected = sum((gradient * direction).sum() for gradient, direction in zip(gradients, directions))
    np.testing.assert_allclose((along(1e-5) - along(-1e-5)) / 2e-5, expected, rtol=1e-6)


def test_few_channels_many_pixels_a_warp(gpu, rng, monkeypatch):
    """Few blocks, so that each warp walks over rows and into the next image."""
    monkeypatch.setattr(kernels, "BLOCKS", 2)
    monkeypatch.setattr(gpu_few_channels, "RUN", 50)
    check(gpu, rng, "few_channels_cuda", "float64", 3, 12, 15, 3, 40, 1)
    check(gpu, rng, "few_channels_cuda", "float64", 3, 12, 15, 40, 2, 0, kernel=1)


def test_few_channels_says_what_it_cannot_do(gpu, rng):
    x, weight = rng.standard_normal((1, 6, 6, 8)), rng.standard_normal((3, 3, 8, 9))
    with pytest.raises(InputError, match="found 8 -> 9 channels; expected at most 7 on one side"):
        ops.conv2d(gpu.asarray(x), gpu.asarray(weight), algorithm="few_channels_cuda")
    with pytest.raises(InputError, match="works on CuPy arrays"):
        ops.conv2d(x, weight, algorithm="few_channels_cuda")
    with pytest.raises(InputError, match="cannot do 5x5 kernels"):
        ops.conv2d(
            gpu.asarray(x[..., :1]), gpu.asarray(rng.standard_normal((5, 5, 1, 9))), algorithm="few_channels_cuda"
        )


def tf32(values):
    """Rounded to 10 bits of mantissa as the tensor cores' operands are: a little is added, and the rest cut off."""
    more = values.astype("float32") * np.float32(1 + 0.72 / 2048)
    return (more.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def test_how_operands_are_rounded(rng):
    """As well as to nearest (cvt.rna), without bias; what 10 bits hold, NaN and infinity stay."""
    values = (rng.standard_normal(200000) * 10.0 ** rng.integers(-20, 20, 200000)).astype("float32")
    nearest = ((values.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    errors = [(rounded / values.astype("float64") - 1) for rounded in (tf32(values), nearest)]
    mine, best = (np.sqrt((error**2).mean()) for error in errors)
    assert best < mine < 1.1 * best < 3.3e-4 and abs(errors[0].mean()) < 2e-5
    np.testing.assert_array_equal(tf32(nearest), nearest)
    np.testing.assert_array_equal(tf32(np.array([np.nan, np.inf, -np.inf, 0.0])), [np.nan, np.inf, -np.inf, 0])


@pytest.mark.parametrize(
    "blocks, at_once, channels, shares",
    [(112, 264, 1024, 9), (158, 264, 256, 3), (622, 264, 64, 1), (2521, 264, 64, 1), (200, 264, 16, 1)],
)
def test_over_how_many_blocks_taps_are_shared_out(blocks, at_once, channels, shares):
    assert tensor_core_blocks.shares_of_taps(blocks, at_once, channels) == shares


@pytest.mark.parametrize(
    "blocks, pixels, channels, outputs, splits",
    [
        (3, 568**2, 64, 64, 88),  # 264 blocks: one round
        (24, 100**2, 256, 256, 11),
        (384, 28**2, 1024, 1024, 1),  # blocks enough
        (3, 700, 16, 16, 2),  # at least 256 pixels each
        (3, 100, 16, 16, 1),
    ],
)
def test_over_how_many_blocks_pixels_are_shared_out(blocks, pixels, channels, outputs, splits):
    assert tensor_core_blocks.splits_of_pixels(blocks, pixels, 9 * channels * outputs, 256) == splits


@pytest.mark.parametrize("shares", [1, 3, 9])
def test_tensor_cores_add_up_shares_of_the_taps(gpu, rng, monkeypatch, shares):
    monkeypatch.setattr(tensor_core_blocks, "shares_of_taps", lambda *_: shares)
    exact = lambda *shape: tf32(rng.standard_normal(shape))
    x, weight, bias = exact(2, 5, 4, 32), exact(3, 3, 32, 48), exact(48)
    y, _ = ops.conv2d(*map(gpu.asarray, (x, weight, bias)), padding=1, relu=True, algorithm="tensor_cores")
    close(y, ops.conv2d(x, weight, bias, padding=1, relu=True, algorithm="im2col")[0], "float32")


def test_a_gpu_without_tf32_gets_an_answer(gpu, rng, monkeypatch):
    monkeypatch.setattr(cuda, "compute_capability", lambda: 75)
    x, weight = (gpu.asarray(rng.standard_normal(s).astype("float32")) for s in ((1, 5, 5, 16), (3, 3, 16, 16)))
    with pytest.raises(InputError, match="found a GPU of compute capability 7.5; expected 8.0 or higher"):
        ops.conv2d(x, weight, algorithm="tensor_cores")
    with pytest.raises(InputError, match="TF32 needs a GPU of compute capability 8.0 or higher; this one has 7.5"):
        algorithms.cublas.use_precision("tf32")


@pytest.mark.parametrize(
    "n, height, width, c, k, padding",
    [(1, 14, 15, 16, 16, 0), (2, 9, 8, 32, 128, 1), (1, 3, 3, 16, 80, 0), (1, 5, 4, 48, 16, 2), (3, 4, 6, 128, 128, 1)],
)
def test_tensor_cores(gpu, rng, monkeypatch, n, height, width, c, k, padding):
    """With operands that TF32 holds exactly only the order of the sums differs, so the usual tolerance holds."""
    monkeypatch.setattr(tensor_core_blocks, "LEAST_PIXELS", 30)  # several shares of the pixels
    launched, launch = [], cuda.CudaFile.launch
    monkeypatch.setattr(
        cuda.CudaFile,
        "launch",
        lambda self, name, *rest, **how: launched.append(name) or launch(self, name, *rest, **how),
    )
    normal = rng.standard_normal

    class Exact:
        standard_normal = staticmethod(lambda shape: tf32(normal(shape)))

    check(gpu, Exact, "tensor_cores", "float32", n, height, width, c, k, padding)
    check(gpu, Exact, "tensor_cores", "float32", n, height, width, c, k, padding, relu=False, bias=False)
    names = "convolve", "flipped"
    wide = [128 if channels % 128 == 0 else 64 for channels in (k, c)]
    gradient = f"three_taps_{wide[0]}"
    assert set(launched) >= {f"{name}_{outputs}" for name, outputs in zip(names, wide)} | {gradient}


def test_tensor_cores_round_to_ten_bits(gpu, rng):
    x, weight = (
        rng.standard_normal((1, 6, 6, 16)).astype("float32"),
        rng.standard_normal((3, 3, 16, 16)).astype("float32"),
    )
    y, _ = ops.conv2d(gpu.asarray(x), gpu.asarray(weight), algorithm="tensor_cores")
    exact, _ = ops.conv2d(tf32(x).astype("float64"), tf32(weight).astype("float64"))
    close(y, exact.astype("float32"), "float32")
    unrounded, _ = ops.conv2d(x.astype("float64"), weight.astype("float64"))
    assert 1e-5 < abs(to_cpu(y) - unrounded).max() / abs(unrounded).max() < 2e-3


def test_tensor_cores_are_taken_with_tf32_only(gpu, rng, monkeypatch):
    x, weight = (gpu.asarray(rng.standard_normal(shape).astype("float32")) for shape in ((1, 6, 6, 16), (3, 3, 16, 32)))
    assert ops.conv2d(x, weight)[1].algorithm == "winograd_cuda"
    monkeypatch.setattr(algorithms.cublas, "_precision", "tf32")
    assert ops.conv2d(x, weight)[1].algorithm == "tensor_cores"
    assert ops.conv2d(x, weight[..., :10])[1].algorithm == "winograd_cuda"
    for pixels, taken in ((16, "winograd_cuda"), (15, "tensor_cores")):  # y has 4 x 4 pixels
        monkeypatch.setattr(algorithms, "WINOGRAD_WINS", {(16, 32): pixels})
        assert algorithms.choose(x.shape, weight.shape, 0) == taken
    monkeypatch.setattr(algorithms.cublas, "_precision", "bf16")  # which asked for more rounding than Winograd's
    assert algorithms.choose(x.shape, weight.shape, 0) == "tensor_cores"
    assert ops.conv2d(x.astype("float64"), weight.astype("float64"))[1].algorithm == "winograd_cuda"
    with pytest.raises(InputError, match="16 -> 10 channels; expected float32 and multiples of 16"):
        ops.conv2d(x, weight[..., :10], algorithm="tensor_cores")
