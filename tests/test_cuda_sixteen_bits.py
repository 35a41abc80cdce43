"""Feature maps in 16 bits: the conversions bit by bit, every operation on them against the same in float32, rounded;
and whole networks. Convolutions are in test_cuda_against_float64.py.
"""

import numpy as np
import pytest
from cuda_on_cpu import networks_live_on

from npunet import loss, ops, optimizers, unet
from npunet.commands import memory_needs
from npunet.commands.rows import rows
from npunet.errors import InputError
from npunet.gpu import cublas, cuda, few_channels, kernels, sixteen_bits
from npunet.layers import watched
from npunet.machine.backend import to_cpu
from npunet.training import recorded_step, training_step


@pytest.fixture
def gpu(gpu, monkeypatch):
    """Networks with device="gpu" live on the stand-in, where there is no GPU; --precision bf16 is on."""
    networks_live_on(gpu, monkeypatch, "npunet.training")
    monkeypatch.setattr(cublas, "_precision", "bf16")
    return gpu


def nearest(x):
    """x of float32 rounded to 8 bits of mantissa, the hidden one included, ties to even: by arithmetic, not by bits."""
    mantissa, exponent = np.frexp(x.astype("float64"))
    return np.ldexp(np.round(mantissa * 256), exponent - 8).astype("float32")  # np.round: ties to even


def as_map(gpu, x):
    return sixteen_bits.rounded(gpu.asarray(x))


def floats(x):
    return to_cpu(sixteen_bits.as_floats(x))


def test_to_16_bits_and_back(gpu, rng):
    x = (rng.standard_normal((3, 70, 5)) * 10.0 ** rng.integers(-30, 30, (3, 70, 5))).astype("float32")
    x[0, :6, 0] = 0, 1 + 1 / 256, 1 + 3 / 256, -1 - 1 / 256, np.inf, -np.inf  # the middle of two: to the even one
    with np.errstate(invalid="ignore"):
        expected = np.where(np.isinf(x), x, nearest(x))
    there = as_map(gpu, x)
    assert there.dtype == "uint16" and there.shape == x.shape and cuda.is_map(there) and not cuda.on_gpu(there)
    np.testing.assert_array_equal(floats(there), expected)
    assert np.isnan(floats(as_map(gpu, np.float32([np.nan, 1])))[0])
    untouched = gpu.asarray(x)
    assert sixteen_bits.as_floats(untouched) is untouched


@pytest.mark.parametrize("c, k", [(32, 64), (33, 7), (1, 40)])
def test_weights_are_turned(gpu, rng, c, k):
    weight = rng.standard_normal((3, 2, c, k)).astype("float32")
    np.testing.assert_array_equal(
        floats(sixteen_bits.turned(gpu.asarray(weight))), nearest(weight).transpose(0, 1, 3, 2)
    )


def both(gpu, rng, *shape):
    """A map, and the same numbers in float32."""
    there = as_map(gpu, rng.standard_normal(shape).astype("float32"))
    return there, sixteen_bits.as_floats(there)


def check_same(found, expected):
    """A map is the float32 result, rounded once; sums are float32 results."""
    if found.dtype == "uint16":
        np.testing.assert_array_equal(floats(found), nearest(to_cpu(expected)))
    else:
        np.testing.assert_array_equal(to_cpu(found), to_cpu(expected))


def test_pooling_joining_and_drop_out(gpu, rng):
    x, x_float = both(gpu, rng, 2, 7, 6, 32)
    skip, skip_float = both(gpu, rng, 2, 9, 8, 64)
    (y, ctx), (y_float, ctx_float) = ops.max_pool2d(x), ops.max_pool2d(x_float)
    check_same(y, y_float)
    (dy, dy_float), (dskip, dskip_float) = both(gpu, rng, *y.shape), both(gpu, rng, *x.shape)
    check_same(ops.max_pool2d_backward(dy, ctx, dskip), ops.max_pool2d_backward(dy_float, ctx_float, dskip_float))
    (y, ctx), (y_float, ctx_float) = ops.crop_concat(x, skip), ops.crop_concat(x_float, skip_float)
    check_same(y, y_float)
    dy, dy_float = both(gpu, rng, *y.shape)
    for found, expected in zip(ops.crop_concat_backward(dy, ctx), ops.crop_concat_backward(dy_float, ctx_float)):
        check_same(found, expected)
    draw = lambda array: ops.dropout(array, 0.4, np.random.default_rng(1))
    (y, ctx), (y_float, ctx_float) = draw(x), draw(x_float)
    check_same(y, y_float)
    check_same(ops.dropout_backward(x, ctx), ops.dropout_backward(x_float, ctx_float))


def test_the_relus_gradient_and_the_sum_over_pixels(gpu, rng):
    (dy, dy_float), (y, y_float) = both(gpu, rng, 1, 9, 11, 96), both(gpu, rng, 1, 9, 11, 96)
    for found, expected in zip(kernels.mask_and_sum(dy, y), kernels.mask_and_sum(dy_float, y_float)):
        check_same(found, expected)


@pytest.mark.parametrize("kernel, c, k", [(3, 1, 32), (3, 3, 64), (1, 64, 2)])
def test_the_first_and_the_last_layer(gpu, rng, monkeypatch, kernel, c, k):
    """The image and the logits are float32, the feature map is not."""
    weight, bias = (gpu.asarray(rng.standard_normal(s).astype("float32")) for s in ((kernel, kernel, c, k), (k,)))
    first = c < k
    x = gpu.asarray(rng.standard_normal((1, 8, 9, c)).astype("float32"))
    x, x_float = (x, x) if first else both(gpu, rng, 1, 8, 9, c)
    y, ctx = ops.conv2d(x, weight, bias, relu=first)
    assert y.dtype == ("uint16" if first else "float32") and ctx.algorithm == "few_channels_cuda"
    dy, dy_float = both(gpu, rng, *y.shape)
    dy = dy if first else dy_float
    gradients = ops.conv2d_backward(dy, ctx)
    monkeypatch.setattr(cublas, "_precision", "float32")
    y_float, ctx = ops.conv2d(x_float, weight, bias, relu=first)
    check_same(y, y_float)
    ctx = ctx._replace(y=sixteen_bits.as_floats(y) if first else None)
    for found, expected in zip(gradients, ops.conv2d_backward(dy_float, ctx), strict=True):
        np.testing.assert_allclose(floats(found), nearest(to_cpu(expected)), rtol=1e-2, atol=1e-2)
        assert found.dtype == ("uint16" if found.shape == x.shape and not first else "float32")


def batches(gpu, rng, net, size, count):
    output = net.output_size(size)
    for _ in range(count):
        yield (
            gpu.asarray(rng.standard_normal((1, size, size, 1)).astype("float32")),
            gpu.asarray(rng.integers(0, 2, (1, output, output))),
            gpu.asarray(rng.random((1, output, output), dtype="float32") + np.float32(0.5)),
        )


def rounds(name, direction, method):
    """A layer of a float64 network that rounds where one in 16 bits rounds: what it hands on, either way."""
    rounded = lambda array: None if array is None else nearest(array).astype("float64")

    def run(*arguments, **options):
        result = method(*arguments, **options)
        if name == "output" and direction == "forward":
            return result  # logits
        return tuple(map(rounded, result)) if isinstance(result, tuple) else rounded(result)

    return run


@pytest.mark.parametrize("variant, size", [("paper", 20), ("padded", 8)])
def test_a_network_rounds_its_feature_maps_and_weights_and_nothing_else(gpu, rng, variant, size):
    """The oracle is the CPU's network in float64 whose layers round. Sums in another order round to the other side now
    and then, to 1 part in 256: 1e-3 of the whole. Without its rounding the oracle is 1 % away, the ReLU's and the
    pooling's choices that fall differently included.
    """
    options = dict(variant=variant, dropout=0.0, seed=3)
    net, exact = unet.UNet(1, 2, 32, 1, device="gpu", **options), unet.UNet(1, 2, 32, 1, dtype="float64", **options)
    for (name, mine), other in zip(net.parameters.items(), exact.parameters.values(), strict=True):
        value = to_cpu(mine.value)
        in_float32 = name.endswith("bias") or name in ("contracting.0.conv1.weight", "output.weight")
        other.value = (value if in_float32 else nearest(value)).astype("float64")
    image, labels, weights = next(batches(gpu, rng, net, size, 1))
    image_there, weights = to_cpu(image).astype("float64"), to_cpu(weights).astype("float64")

    def off(found, expected):
        return np.linalg.norm(to_cpu(found) - expected) / np.linalg.norm(expected)

    logits = net.forward(image, train=True)
    assert logits.dtype == "float32" and off(logits, exact.forward(image_there)) > 2e-3
    with watched(exact.layers, rounds):
        wanted = exact.forward(image_there, train=True)
        assert off(logits, wanted) < 2e-3
        _, dlogits = loss.weighted_cross_entropy(wanted, to_cpu(labels), weights)
        dlogits = dlogits.astype("float32")
        exact.backward(dlogits.astype("float64"), need_dx=False)
    net.backward(gpu.asarray(dlogits), need_dx=False)
    for name, parameter in net.parameters.items():
        assert parameter.grad.dtype == "float32"
        assert off(parameter.grad, exact.parameters[name].grad) < 5e-3, name


def test_a_step_is_recorded_and_replayed(gpu, rng):
    """Bit by bit the same steps; the loss falls; what is looked at is float32."""
    nets = [unet.UNet(1, 2, 32, 1, device="gpu", seed=3) for _ in range(2)]
    first, second = (optimizers.Adam(net.parameters, 1e-3) for net in nets)
    replayed, losses = recorded_step(nets[1], second, 0.5), []
    batch = next(batches(gpu, rng, nets[0], 20, 1))
    for _ in range(4):
        losses.append(to_cpu(training_step(nets[0], first, *batch, clip=0.5, wait=False)))
        np.testing.assert_array_equal(to_cpu(replayed(*batch)), losses[-1])
    assert losses[-1][0] < losses[0][0]
    maps = nets[0].feature_maps(batch[0])
    assert {str(feature_map.dtype) for feature_map in maps.values()} == {"float32"}
    assert 0 < abs(to_cpu(maps["bottleneck.conv2"])).max() < 100


@pytest.mark.parametrize("variant, size", [("paper", 20), ("padded", 8)])
def test_the_table_of_a_network_knows_the_bytes_of_its_maps(gpu, rng, monkeypatch, variant, size):
    """So that what fits is not refused: from the table memory_needs predicts a training step."""
    net, bytes_of = unet.UNet(1, 2, 32, 1, variant=variant, device="gpu"), {}

    def noted(name, direction, method):
        def note(*arguments):
            bytes_of[name] = (y := method(*arguments)).nbytes
            return y

        return note

    with watched(net.layers, noted):
        net.forward(gpu.asarray(np.zeros((1, size, size, 1), "float32")))
    in_16_bits = rows(net, size)
    assert {row.name: row.memory for row in in_16_bits[1:]}.items() <= bytes_of.items()
    maps = memory_needs.kept_memory(net, in_16_bits)
    monkeypatch.setattr(cublas, "_precision", "tf32")
    assert 0.5 < maps / memory_needs.kept_memory(net, rows(net, size)) < 0.51  # image and logits stay float32


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(variant="pytorch-unet"), "batch normalisation in this network"),
        (dict(variant="painter"), "instance normalisation in this network"),
        (dict(variant="release"), "ReLU after up-convolutions in this network"),
        (dict(variant="style"), "a hyperbolic tangent in this network"),
        (dict(base_channels=48), "48 base channels, no multiple of 32, in this network"),
        (dict(n_classes=8), "8 classes in this network"),
        (dict(dtype="float64"), "float64 in this network"),
    ],
)
def test_networks_without_such_kernels_are_refused(gpu, options, message):
    net = unet.UNet(**dict(base_channels=32, depth=1) | options, device="gpu")
    image = gpu.asarray(np.zeros((1, 20, 20, 1), net.dtype))
    with pytest.raises(InputError, match=f"^--precision bf16 cannot be used with {message}; give --precision tf32$"):
        net.forward(image)
    on_cpu = unet.UNet(**dict(base_channels=2, depth=1) | options | dict(base_channels=2))
    on_cpu.forward(np.zeros((1, 20, 20, 1), on_cpu.dtype))  # a network on the CPU is not asked


def test_single_operations_that_cannot_are_refused(gpu, rng):
    x = as_map(gpu, rng.standard_normal((1, 8, 8, 64)).astype("float32"))
    weight = lambda *shape: gpu.asarray(np.zeros(shape, "float32"))
    with pytest.raises(InputError, match="found a 1x1 kernel, 64 -> 64 channels, for feature maps in 16 bits"):
        ops.conv2d(x, weight(1, 1, 64, 64))
    with pytest.raises(InputError, match="found a feature map of 40 channels; expected a multiple of 32"):
        ops.conv2d(gpu.asarray(np.zeros((1, 8, 8, 1), "float32")), weight(3, 3, 1, 40))
    with pytest.raises(InputError, match="conv2d: x is uint16 but weight float64"):
        ops.conv2d(x, gpu.asarray(np.zeros((3, 3, 64, 64))))
    with pytest.raises(InputError, match="conv2d: x is uint16; expected float32 or float64"):
        ops.conv2d(np.zeros((1, 8, 8, 64), "uint16"), np.zeros((3, 3, 64, 64), "float32"))
    assert few_channels.fits(64, sixteen_bits.MOST) and not few_channels.fits(64, sixteen_bits.MOST + 1)
