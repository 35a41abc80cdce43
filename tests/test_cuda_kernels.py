"""The CUDA kernels, run on a CPU by cuda_on_cpu.py, compute what the array expressions compute.

Says nothing about any GPU's speed.
"""

import numpy as np
import pytest

from npunet import loss, ops, optimizers
from npunet.errors import InputError
from npunet.gpu import batch_norm as gpu_batch_norm
from npunet.gpu import cuda, kernels
from npunet.gpu import optimizers as gpu_optimizers
from npunet.layers import Parameter
from npunet.machine.backend import to_cpu

TOLERANCE = {"float32": dict(rtol=2e-6, atol=2e-6), "float64": dict(rtol=1e-12, atol=1e-13)}
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def same(mine, expected, dtype):
    assert mine.dtype == dtype and mine.shape == expected.shape
    np.testing.assert_allclose(to_cpu(mine), expected, **TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize("channels, pixels", [(1, 700), (2, 5), (5, 2000), (64, 1100), (300, 9), (600, 3)])
def test_bias_relu_and_their_gradient(gpu, rng, dtype, channels, pixels):
    z, bias, dy = (
        rng.standard_normal(shape).astype(dtype) for shape in ((pixels, channels), channels, (pixels, channels))
    )
    for relu in (False, True):
        y = gpu.asarray(z)
        kernels.bias_relu(y, gpu.asarray(bias), relu)
        expected = np.maximum(z + bias, 0) if relu else z + bias
        same(y, expected, dtype)
        dz, dbias = kernels.mask_and_sum(gpu.asarray(dy), y if relu else None)
        masked = dy * (expected > 0) if relu else dy
        same(dz, masked, dtype)
        np.testing.assert_allclose(
            to_cpu(dbias),
            masked.sum(axis=0, dtype="float64"),
            rtol=1e-5 if dtype == "float32" else 1e-11,
            atol=1e-4 if dtype == "float32" else 1e-12,
        )
    y = gpu.asarray(z)
    kernels.bias_relu(y, None, True)
    same(y, np.maximum(z, 0), dtype)


def test_relu_keeps_nan(gpu):
    y = gpu.asarray(np.array([[np.nan, -1.0]]))
    kernels.bias_relu(y, gpu.asarray(np.zeros(2)), True)
    np.testing.assert_array_equal(to_cpu(y), [[np.nan, 0]])


@each_dtype
def test_up_convolution(gpu, rng, dtype):
    """Its products are CuPy's;
    the gradient of its bias is the kernel's, because CuPy adds up the first axis of few columns with few threads.
    """
    x, weight, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 3, 5, 6), (2, 2, 6, 4), (4,)))
    for offset in (bias, None):
        y, ctx = ops.up_conv2d(gpu.asarray(x), gpu.asarray(weight), None if offset is None else gpu.asarray(offset))
        expected, expected_ctx = ops.up_conv2d(x, weight, offset)
        dy = rng.standard_normal(expected.shape).astype(dtype)
        pairs = [
            (y, expected),
            *zip(ops.up_conv2d_backward(gpu.asarray(dy), ctx), ops.up_conv2d_backward(dy, expected_ctx)),
        ]
        assert len(pairs) == 4 and (pairs[-1][0] is None) == (offset is None)
        for mine, wanted in pairs[: 3 if offset is None else 4]:
            np.testing.assert_allclose(
                to_cpu(mine), wanted, rtol=0, atol=(1e-5 if dtype == "float32" else 1e-12) * abs(wanted).max()
            )


@each_dtype
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("n, height, width, channels", [(2, 9, 40, 5), (1, 3, 3, 300), (1, 30, 25, 64), (1, 1, 2, 1)])
def test_batch_norm(gpu, rng, dtype, relu, n, height, width, channels):
    x = (3 + rng.standard_normal((n, height, width, channels))).astype(dtype)
    scale, shift = rng.uniform(0.5, 2, channels).astype(dtype), rng.standard_normal(channels).astype(dtype)
    y, ctx = ops.batch_norm(*map(gpu.asarray, (x, scale, shift)), relu=relu)
    expected, expected_ctx = ops.batch_norm(*(array.astype("float64") for array in (x, scale, shift)), relu=relu)
    dy = rng.standard_normal(expected.shape).astype(dtype)
    # rounding must not decide where the ReLU is open
    ctx = ctx._replace(y=gpu.asarray(expected.astype(dtype)) if relu else None)
    found = [y, ctx.mean, ctx.variance, *ops.batch_norm_backward(gpu.asarray(dy), ctx)]
    wanted = [
        expected,
        expected_ctx.mean,
        expected_ctx.variance,
        *ops.batch_norm_backward(dy.astype("float64"), expected_ctx),
    ]
    for mine, other in zip(found, wanted, strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(
            to_cpu(mine), other, rtol=0, atol=(5e-6 if dtype == "float32" else 1e-12) * max(1, abs(other).max())
        )
    assert [array.dtype for array in found] == [dtype, "float64", "float64", dtype, dtype, dtype]
    again, _ = ops.batch_norm(*map(gpu.asarray, (x, scale, shift)), ctx.mean, ctx.variance, relu=relu)
    np.testing.assert_array_equal(to_cpu(again), to_cpu(y))  # what `Layer.forward_again` relies on


def test_batch_norm_of_a_large_mean(gpu, rng):
    x = 1e6 + rng.standard_normal((1, 40, 30, 3))
    mean, variance = gpu_batch_norm.moments(gpu.asarray(x))
    np.testing.assert_allclose(to_cpu(mean), x.mean(axis=(0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(to_cpu(variance), x.var(axis=(0, 1, 2)), rtol=1e-9)


def test_what_a_kernel_cannot_count_is_refused(gpu, monkeypatch):
    """Indices are 32-bit integers: a map that is larger by one would be read at negative places."""
    monkeypatch.setattr(cuda, "LARGEST", 11)
    y = gpu.asarray(np.ones((3, 4)))
    for launch in (lambda: kernels.bias_relu(y, None, True), lambda: kernels.BIAS_RELU.launch("relu_only", 1, y, 1)):
        with pytest.raises(
            InputError,
            match="^a feature map or sum of 12 numbers is more than a CUDA kernel counts, 11; give a smaller tile or "
            "batch$",
        ):
            launch()
    with pytest.raises(ValueError, match="not C-contiguous"):
        kernels.BIAS_RELU.launch("relu_only", 1, y[:, ::2], 1)


@each_dtype
@pytest.mark.parametrize("shape", [(1, 2, 2, 1), (2, 6, 8, 5), (1, 5, 7, 3), (1, 3, 1, 2)])
def test_max_pooling_with_many_ties(gpu, rng, dtype, shape):
    x = rng.integers(-1, 2, shape).astype(dtype)
    y, ctx = ops.max_pool2d(gpu.asarray(x))
    expected, expected_ctx = ops.max_pool2d(x)
    assert isinstance(ctx, kernels.Winners)
    same(y, expected, dtype)
    dy = rng.standard_normal(expected.shape).astype(dtype)
    np.testing.assert_array_equal(
        to_cpu(ops.max_pool2d_backward(gpu.asarray(dy), ctx)), ops.max_pool2d_backward(dy, expected_ctx)
    )
    dskip = rng.standard_normal(shape).astype(dtype)
    mine = ops.max_pool2d_backward(gpu.asarray(dy), ctx, gpu.asarray(dskip))
    np.testing.assert_array_equal(to_cpu(mine), ops.max_pool2d_backward(dy, expected_ctx, dskip))


@each_dtype
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_energy_and_its_gradient(gpu, rng, dtype, classes, weighted):
    logits = (5 * rng.standard_normal((2, 17, 19, classes))).astype(dtype)
    logits[0, 0, 0] = [1000, *[-1000] * (classes - 1)]  # nothing overflows
    labels = rng.integers(0, classes, (2, 17, 19))
    weights = rng.random(labels.shape, dtype="float32") if weighted else None
    energy, dlogits = loss.weighted_cross_entropy(
        gpu.asarray(logits), gpu.asarray(labels), gpu.asarray(weights) if weighted else None
    )
    expected, expected_dlogits = loss.weighted_cross_entropy(logits, labels, weights)
    assert energy.shape == ()
    np.testing.assert_allclose(float(energy), float(expected), rtol=1e-5 if dtype == "float32" else 1e-12)
    same(dlogits, expected_dlogits, dtype)


def test_a_label_that_is_no_class_makes_the_energy_nan(gpu):
    labels = np.zeros((1, 4, 4), int)
    labels[0, 1, 2] = 2
    energy, _ = loss.weighted_cross_entropy(gpu.asarray(np.zeros((1, 4, 4, 2))), gpu.asarray(labels))
    assert np.isnan(float(energy))
    with pytest.raises(ValueError, match="expected the same shape"):
        loss.weighted_cross_entropy(
            gpu.asarray(np.zeros((1, 4, 4, 2))), gpu.asarray(labels), gpu.asarray(np.ones((1, 4, 3)))
        )


@each_dtype
@pytest.mark.parametrize(
    "energy, classes", [(loss.weighted_cross_entropy, 2), (loss.binary_cross_entropy, 1), (loss.dice_loss, 2)]
)
def test_a_weight_that_is_negative_or_not_finite_makes_every_energy_nan(gpu, dtype, energy, classes):
    logits, labels = gpu.asarray(np.zeros((1, 4, 4, classes), dtype)), gpu.asarray(np.zeros((1, 4, 4), int))
    weights = np.ones((1, 4, 4), dtype)
    for value in (-1e-6, -np.inf, np.nan, np.inf):
        weights[0, 3, 1] = value
        with np.errstate(invalid="ignore"):
            assert np.isnan(float(energy(logits, labels, gpu.asarray(weights))[0])), value
    weights[0, 3, 1] = 0
    assert np.isfinite(float(energy(logits, labels, gpu.asarray(weights))[0]))


@each_dtype
@pytest.mark.parametrize("energy, classes", [(loss.binary_cross_entropy, 1), (loss.dice_loss, 1), (loss.dice_loss, 3)])
def test_the_other_energies_do_not_wait(gpu, emulated, rng, monkeypatch, dtype, energy, classes):
    """As on the CPU, and the host asks for nothing on the way; so a label that is no class gives NaN."""
    logits, labels = rng.standard_normal((1, 9, 8, classes)).astype(dtype), rng.integers(0, 2, (1, 9, 8))
    weights = (rng.random(labels.shape) > 0.3).astype("float32")
    expected, dexpected = energy(logits, labels, weights)
    with monkeypatch.context() as during:
        for name in ("get", "__float__", "__int__", "__bool__"):
            during.setattr(gpu.ndarray, name, lambda self: pytest.fail("the host waited"))
        mine, dmine = energy(gpu.asarray(logits), gpu.asarray(labels), gpu.asarray(weights))
        wrong, _ = energy(gpu.asarray(logits), gpu.asarray(labels + 2), gpu.asarray(weights))
    assert mine.shape == wrong.shape == () and mine.dtype == dtype and np.isnan(float(wrong))
    assert float(mine) == pytest.approx(float(expected), rel=1e-6 if dtype == "float32" else 1e-12)
    same(dmine, dexpected, dtype)


OPTIMIZERS = {
    "sgd": lambda p: optimizers.SGD(p, 0.1, weight_decay=0.01),
    "adam": lambda p: optimizers.Adam(p, 0.1, weight_decay=0.01),
    "rmsprop": lambda p: optimizers.RMSprop(p, 0.1),
    "rmsprop momentum": lambda p: optimizers.RMSprop(p, 0.1, momentum=0.9),
}


def parameters(xp, rng, dtype):
    made = {}
    for name, shape in (("weight", (3, 3, 5, 40)), ("bias", (7,))):
        made[name] = Parameter(xp.asarray(rng.standard_normal(shape).astype(dtype)))
        made[name].grad = xp.asarray(rng.standard_normal(shape).astype(dtype))
    return made


@each_dtype
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers(gpu, make, dtype):
    mine, other = (parameters(xp, np.random.default_rng(1), dtype) for xp in (gpu, np))
    mine_optimizer, other_optimizer = make(mine), make(other)
    for _ in range(3):
        mine_optimizer.step()
        other_optimizer.step()
    for name in mine:
        same(mine[name].value, other[name].value, dtype)
    state, expected = mine_optimizer.state()[0], other_optimizer.state()[0]
    assert state.keys() == expected.keys()
    for name in state:
        np.testing.assert_allclose(state[name], expected[name], **TOLERANCE[dtype])


@pytest.fixture
def launched(monkeypatch):
    """The names of all kernels that are launched."""
    names, launch = [], cuda.CudaFile.launch
    monkeypatch.setattr(cuda.CudaFile, "launch", lambda *a, **how: names.append(a[1]) or launch(*a, **how))
    return names


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_many_parameters_in_one_launch(gpu, make, launched, monkeypatch):
    """Five parameters, two in a launch, in pieces of 100 elements: large ones in several pieces, small ones in one."""
    monkeypatch.setattr(gpu_optimizers, "MOST", 2)
    monkeypatch.setattr(gpu_optimizers, "PIECE", 100)
    rng = np.random.default_rng(1)
    values = {str(size): rng.standard_normal((size,)) for size in (1, 100, 1801, 3, 250)}
    both, reports = [], []
    for xp in (gpu, np):
        both.append({name: Parameter(xp.asarray(value.copy())) for name, value in values.items()})
        for name, parameter in both[-1].items():
            parameter.grad = xp.asarray(np.cos(values[name]))
        optimizer = make(both[-1])
        reports.append(to_cpu(optimizer.step(xp.asarray(0.25), 1.0)))
    kernel = optimizer.kernel()[0]
    assert launched == ["sum_of_squares"] * 3 + ["gradient_scale"] + [kernel] * 3
    np.testing.assert_allclose(*reports, rtol=1e-13)
    for name in values:
        same(both[0][name].value, both[1][name].value, "float64")


def test_clipping_on_the_device(gpu, rng):
    mine = parameters(gpu, rng, "float64")
    before = {name: to_cpu(parameter.value) for name, parameter in mine.items()}
    gradients = {name: to_cpu(parameter.grad) for name, parameter in mine.items()}
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    optimizer = optimizers.SGD(mine, 1.0, momentum=0.0)
    for clip, factor in ((norm / 2, 0.5), (0, 1), (2 * norm, 1)):
        energy, found = to_cpu(optimizer.step(gpu.asarray(0.25), clip))
        assert energy == 0.25 and found == pytest.approx(norm, rel=1e-13)
        for name, parameter in mine.items():
            np.testing.assert_allclose(
                to_cpu(parameter.value), before[name] - factor * gradients[name], rtol=1e-12, atol=1e-14
            )
            parameter.value = gpu.asarray(before[name])


@pytest.mark.parametrize("bad_energy, bad_gradient", [(np.nan, 1.0), (1.0, np.inf), (1.0, np.nan)])
def test_after_a_number_that_is_not_finite_nothing_moves(gpu, rng, bad_energy, bad_gradient):
    mine = parameters(gpu, rng, "float32")
    optimizer = optimizers.Adam(mine, 0.1)
    optimizer.step(gpu.asarray(np.float32(1)), 1.0)
    before = {name: to_cpu(parameter.value) for name, parameter in mine.items()}
    good = mine["bias"].grad
    mine["bias"].grad = gpu.asarray(np.full(7, bad_gradient, "float32"))
    assert not np.isfinite(to_cpu(optimizer.step(gpu.asarray(np.float32(bad_energy)), 1.0))).all()
    mine["bias"].grad = good
    optimizer.step(gpu.asarray(np.float32(1)), 1.0)  # good again, but nobody has looked yet
    for name, parameter in mine.items():
        np.testing.assert_array_equal(to_cpu(parameter.value), before[name])
    optimizer.take_back()
    optimizer.step()
    assert (to_cpu(mine["weight"].value) != before["weight"]).all()
