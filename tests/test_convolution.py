"""Convolution: every algorithm against the loops, its gradients against finite differences, and its contract."""

import numpy as np
import pytest
from scipy import signal

from npunet import ops
from npunet.errors import InputError
from npunet.ops import conv_algorithms
from npunet.ops.conv_algorithms import ALGORITHMS, choose, winograd
from npunet.ops.convolution import conv2d, conv2d_backward, conv2d_definition

FAST = [name for name in ALGORITHMS if name != "naive"]

# (x shape, kernel height, kernel width, outputs, padding)
CASES = [
    ((1, 7, 9, 3), 3, 3, 4, 0),
    ((2, 6, 5, 2), 3, 3, 3, 1),
    ((2, 5, 8, 3), 1, 1, 4, 0),
    ((1, 4, 4, 2), 1, 1, 2, 1),
    ((1, 8, 6, 1), 5, 3, 2, 2),
    ((1, 3, 3, 2), 3, 3, 2, 0),
    ((1, 3, 4, 2), 3, 3, 2, 3),
    ((2, 13, 18, 2), 3, 3, 3, 0),
    ((1, 12, 11, 2), 3, 3, 2, 2),
]


def arrays(shape, kh, kw, outputs, padding, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(dtype)
    weight = rng.normal(size=(kh, kw, shape[3], outputs)).astype(dtype)
    bias = rng.normal(size=outputs).astype(dtype)
    dy = rng.normal(size=(shape[0], shape[1] + 2 * padding - kh + 1, shape[2] + 2 * padding - kw + 1, outputs)).astype(
        dtype
    )
    return x, weight, bias, dy


def algorithms_for(kh, kw):
    return [name for name in FAST if getattr(ALGORITHMS[name], "supports", lambda *_: True)(kh, kw)]


def algorithm_cases():
    return [(name, case) for case in CASES for name in algorithms_for(case[1], case[2])]


def relative(a, b):
    return np.abs(a - b).max() / max(np.abs(b).max(), 1e-300)


def test_naive_is_the_definition(rng):
    x, weight, bias = (rng.standard_normal(shape) for shape in ((2, 4, 5, 3), (3, 1, 3, 2), 2))
    for padding in (0, 1, 2):
        y, _ = conv2d(x, weight, bias, padding=padding, algorithm="naive")
        np.testing.assert_allclose(y, conv2d_definition(x, weight, bias, padding), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_naive_is_scipys_correlation(case):
    shape, kh, kw, outputs, padding = case
    x, weight, bias, _ = arrays(*case)
    y, _ = conv2d(x, weight, bias, padding=padding, algorithm="naive")
    for n in range(shape[0]):
        for k in range(outputs):
            image = np.pad(x[n], ((padding, padding), (padding, padding), (0, 0)))
            expected = (
                sum(signal.correlate2d(image[:, :, c], weight[:, :, c, k], mode="valid") for c in range(shape[3]))
                + bias[k]
            )
            np.testing.assert_allclose(y[n, :, :, k], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("small", [False, True])
def test_winograd_by_channels_multiplies_alike_in_small_products_and_in_large(small, monkeypatch):
    """11 x 11 tiles of 256 channels in two groups, of 61 and 60 tiles; a thread's columns in parts of 64 and less.
    What was in memory behind the last tile has no effect.
    """
    monkeypatch.setattr(winograd.kernels, "small_products", lambda: small)
    monkeypatch.setattr(winograd, "empty", lambda shape, dtype, xp: xp.full(shape, np.nan, dtype))
    assert winograd.small_products(121, 256) == ((64, 2) if small else (winograd.BLOCK_KERNELS, 1))
    x, weight, bias, _ = arrays((1, 46, 46, 256), 3, 3, 160, 0, np.float32)
    y, _ = conv2d(x, weight, bias, relu=True, algorithm="winograd")
    exact, _ = conv2d(x.astype(float), weight.astype(float), bias.astype(float), relu=True, algorithm="im2col")
    assert relative(y, exact) < 1e-5


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize(
    "case, by_channels",
    [(((2, 6, 5, 20), 3, 3, 40, 1), True), (((1, 3, 4, 33), 3, 3, 2, 2), True), (((1, 14, 20, 20), 3, 3, 1, 0), False)],
)
@pytest.mark.parametrize("name", [name for name in FAST if name.startswith("winograd")])
def test_both_strategies_of_winograd_for_large_kernels(name, case, by_channels, small, monkeypatch):
    """Forward and backward, with several blocks of channels; memory that nothing was written to holds NaN."""
    monkeypatch.setattr(winograd, "SMALL_KERNEL", 19)
    monkeypatch.setattr(winograd, "BLOCK_KERNELS", 256)
    monkeypatch.setattr(winograd.kernels, "small_products", lambda: small)
    monkeypatch.setattr(winograd, "empty", lambda shape, dtype, xp: xp.full(shape, np.nan, dtype))
    x, weight, bias, dy = arrays(*case)
    y, ctx = conv2d(x, weight, bias, padding=case[-1], relu=True, algorithm="im2col")
    expected = (y, *conv2d_backward(dy, ctx))
    grid = winograd.TileGrid(y.shape, ALGORITHMS[name].m)
    assert winograd.by_channels(grid, *weight.shape[2:]) == by_channels
    y, ctx = conv2d(x, weight, bias, padding=case[-1], relu=True, algorithm=name)
    for found, wanted in zip((y, *conv2d_backward(dy, ctx)), expected, strict=True):
        assert relative(found, wanted) < 1e-11


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("name, case", algorithm_cases())
def test_every_algorithm_agrees_with_the_loops(name, case, relu):
    x, weight, bias, dy = arrays(*case)
    y, ctx = conv2d(x, weight, bias, padding=case[-1], relu=relu, algorithm="naive")
    expected = (y, *conv2d_backward(dy, ctx))
    y, ctx = conv2d(x, weight, bias, padding=case[-1], relu=relu, algorithm=name)
    for found, wanted in zip((y, *conv2d_backward(dy, ctx)), expected):
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        assert relative(found, wanted) < 1e-11


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("case", [CASES[1], ((1, 6, 6, 2), 3, 3, 2, 0)])
def test_gradients_by_finite_differences(name, case):
    """Central differences of <y, dy>, element by element, in float64."""
    x, weight, bias, dy = arrays(*case, seed=1)
    padding = case[-1]
    _, ctx = conv2d(x, weight, bias, padding=padding, algorithm=name)
    for array, gradient in zip((x, weight, bias), conv2d_backward(dy, ctx)):
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            values = []
            for step in (1e-5, -1e-5):
                array[index] = kept + step
                values.append((conv2d(x, weight, bias, padding=padding, algorithm=name)[0] * dy).sum())
            array[index] = kept
            numeric[index] = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_relu_gradient_by_finite_differences(name):
    """One random direction through conv + ReLU, kept away from the kink by resampling x."""
    for seed in range(100):
        x, weight, bias, dy = arrays((1, 6, 7, 2), 3, 3, 3, 1, seed=seed)
        z = conv2d(x, weight, bias, padding=1, algorithm="naive")[0]
        if np.abs(z).min() > 1e-3:
            break
    else:
        raise AssertionError("no sample without values near zero")
    assert (z < 0).any() and (z > 0).any()
    _, ctx = conv2d(x, weight, bias, padding=1, relu=True, algorithm=name)
    gradients = conv2d_backward(dy, ctx)
    rng = np.random.default_rng(7)
    directions = [rng.normal(size=a.shape) for a in (x, weight, bias)]

    def value(t):
        moved = [a + t * d for a, d in zip((x, weight, bias), directions)]
        return (conv2d(*moved, padding=1, relu=True, algorithm=name)[0] * dy).sum()

    numeric = (value(1e-5) - value(-1e-5)) / 2e-5
    assert sum((g * d).sum() for g, d in zip(gradients, directions)) == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("name, case", algorithm_cases())
def test_adjoint_identity(name, case):
    """<conv(x), dy> = <x, dx> for the linear map x -> conv(x), and likewise for the weights."""
    x, weight, _, dy = arrays(*case, seed=2)
    y, ctx = conv2d(x, weight, padding=case[-1], algorithm=name)
    dx, dweight, dbias = conv2d_backward(dy, ctx)
    assert dbias is None
    scale = np.linalg.norm(y) * np.linalg.norm(dy)
    assert abs((y * dy).sum() - (x * dx).sum()) < 1e-12 * scale
    assert abs((y * dy).sum() - (weight * dweight).sum()) < 1e-12 * scale


@pytest.mark.parametrize("name", [name for name in FAST if name.startswith("winograd")])
def test_winograd_reads_views_with_gaps_where_its_bands_need_no_zeros(name):
    """60 x 60 outputs are whole tiles of every size, so that each band is read where it lies in x."""
    x, weight, bias, _ = arrays((1, 62, 62, 3), 3, 3, 4, 0)
    gappy = np.repeat(x, 2, axis=-1)[..., ::2]
    expected, _ = conv2d(x, weight, bias, algorithm="im2col")
    assert relative(conv2d(gappy, weight, bias, algorithm=name)[0], expected) < 1e-10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_contract(name, dtype):
    """dtype kept, arguments untouched, views accepted, relu=True is ReLU afterwards, need_dx=False skips only dx."""
    x, weight, bias, dy = arrays((2, 9, 8, 3), 3, 3, 4, 1, dtype)
    strided = [np.repeat(a, 2, axis=-1)[..., ::2] for a in (x, weight, bias, dy)]
    assert not strided[0].flags.c_contiguous
    copies = [a.copy() for a in (x, weight, bias, dy)]
    plain, _ = conv2d(x, weight, bias, padding=1, algorithm=name)
    y, ctx = conv2d(*strided[:3], padding=1, relu=True, algorithm=name)
    gradients = conv2d_backward(strided[3], ctx)
    np.testing.assert_array_equal(y, np.maximum(plain, 0))
    assert all(a.dtype == dtype for a in (y, *gradients))
    none, dweight, dbias = conv2d_backward(
        dy, conv2d(x, weight, bias, padding=1, relu=True, algorithm=name)[1], need_dx=False
    )
    assert none is None
    np.testing.assert_array_equal(dweight, gradients[1])
    np.testing.assert_array_equal(dbias, gradients[2])
    for array, copy in zip((x, weight, bias, dy, *strided), copies * 2):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", FAST)
def test_results_are_the_same_bits_each_time(name):
    x, weight, bias, dy = arrays((1, 40, 37, 8), 3, 3, 8, 0, np.float32)
    runs = []
    for _ in range(2):
        y, ctx = conv2d(x, weight, bias, relu=True, algorithm=name)
        runs.append((y, *conv2d_backward(dy, ctx)))
    for first, second in zip(*runs):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape, outputs", [((1, 70, 300, 8), 40), ((2, 12, 13, 120), 150)])
def test_many_bands_and_many_channels_in_float32(shape, outputs):
    """Sizes at which every algorithm works in several bands, or several blocks of channels. Reference:
    im2col in float64. No ReLU: a value that rounds to the other side of zero would send its whole gradient another way.
    """
    x, weight, bias, dy = arrays(shape, 3, 3, outputs, 1)
    y, ctx = conv2d(x, weight, bias, padding=1, algorithm="im2col")
    expected = (y, *conv2d_backward(dy, ctx))
    for name in FAST:
        y, ctx = conv2d(*(a.astype(np.float32) for a in (x, weight, bias)), padding=1, algorithm=name)
        for found, wanted in zip((y, *conv2d_backward(dy.astype(np.float32), ctx)), expected):
            assert found.dtype == np.float32
            assert relative(found, wanted) < ({"winograd_6x6": 2e-5, "winograd_5x5": 1e-5}.get(name, 5e-6))


@pytest.mark.parametrize(
    "shape, kh, outputs", [((1, 572, 572, 1), 3, 64), ((1, 66, 66, 512), 3, 512), ((1, 388, 388, 64), 1, 2)]
)
def test_auto_chooses_a_known_algorithm(shape, kh, outputs):
    assert choose(shape, (kh, kh, shape[3], outputs), 0) in FAST


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(x=np.zeros((5, 5, 2))), "expected (N, H, W, C)"),
        (dict(weight=np.zeros((3, 3, 3, 4))), "x has 2 channels but weight expects 3"),
        (dict(weight=np.zeros((2, 2, 2, 4))), "expected odd sizes"),
        (dict(bias=np.zeros(3)), "expected (4,)"),
        (dict(x=np.zeros((1, 5, 5, 2), np.float32)), "one dtype"),
        (dict(x=np.zeros((1, 5, 5, 2), np.uint8)), "float32 or float64"),
        (dict(x=np.zeros((1, 2, 5, 2))), "smaller than the 3x3 kernel"),
        (dict(x=np.zeros((1, 2, 5, 2)), weight=np.zeros((5, 5, 2, 4)), padding=1), "smaller than the 5x5 kernel"),
        (dict(x=np.zeros((1, 5, 2, 2)), weight=np.zeros((5, 5, 2, 4)), padding=1), "smaller than the 5x5 kernel"),
        (dict(padding=-1), "0 or more"),
        (dict(algorithm="fft"), "not known"),
        (dict(weight=np.zeros((1, 1, 2, 4)), algorithm="winograd"), "cannot do 1x1 kernels"),
    ],
)
def test_bad_input_is_refused_with_one_line(change, words):
    arguments = (
        dict(x=np.zeros((1, 5, 5, 2)), weight=np.zeros((3, 3, 2, 4)), bias=np.zeros(4), padding=0, algorithm="auto")
        | change
    )
    with pytest.raises(InputError) as error:
        conv2d(arguments.pop("x"), arguments.pop("weight"), arguments.pop("bias"), **arguments)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_backward_refuses_another_shape():
    _, ctx = conv2d(np.zeros((1, 5, 5, 2)), np.zeros((3, 3, 2, 4)))
    with pytest.raises(InputError, match="as y was"):
        conv2d_backward(np.zeros((1, 5, 5, 4)), ctx)


@pytest.mark.parametrize(
    "x, weight, with_threads, without",
    [
        ((1, 30, 30, 64), (1, 1, 64, 2), "im2col", "im2col"),
        ((1, 30, 30, 7), (3, 3, 7, 64), "few_channels", "few_channels"),
        ((1, 30, 30, 8), (5, 5, 8, 64), "shifted_gemm", "shifted_gemm"),
        ((1, 16, 16, 64), (3, 3, 64, 64), "im2col", "im2col"),  # 196 pixels
        ((1, 12, 22, 64), (3, 3, 64, 128), "winograd_5x5", "winograd"),  # 200
        ((1, 30, 30, 64), (3, 3, 64, 129), "winograd", "winograd"),
        ((2, 12, 12, 8), (3, 3, 8, 127), "winograd_5x5", "im2col"),  # 2 x 100
        ((2, 12, 12, 8), (3, 3, 8, 128), "winograd_5x5", "winograd"),
    ],
)
def test_which_algorithm_is_taken(x, weight, with_threads, without, monkeypatch):
    for answer, expected in ((True, with_threads), (False, without)):
        monkeypatch.setattr(conv_algorithms, "can_start_threads", lambda answer=answer: answer)
        assert conv_algorithms.choose(x, weight, 0) == expected


@pytest.mark.parametrize(
    "algorithm, points",
    [
        (winograd.F4, [0, 1, -1, 1 / 2, -2]),
        (winograd.F5, [0, 1, -3 / 4, -3 / 2, 1 / 2, 2]),
        (winograd.F6, [0, 1, -1, 1 / 2, -1 / 2, 2, -2]),
    ],
)
def test_the_points_that_the_measured_errors_belong_to(algorithm, points):
    """G has a row (1, p, p^2) / N for each point p, and (0, 0, 1) for infinity."""
    np.testing.assert_allclose(algorithm.g[:-1, 1] / algorithm.g[:-1, 0], points, rtol=1e-14)
    assert algorithm.g[-1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("sides", [(2, 2), (3, 2), (2, 3)])
def test_a_kernel_with_an_even_side_is_refused(sides):
    with pytest.raises(InputError, match="the kernel is {}x{}; expected odd sizes".format(*sides)):
        ops.conv2d(np.zeros((1, 8, 8, 1)), np.zeros((*sides, 1, 1)))
