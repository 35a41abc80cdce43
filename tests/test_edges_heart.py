"""What no other test looked at in the paper's operations, as faults planted by tests/mutants.py showed (test_edges.py).

Here are mostly the numbers that change no result: how much memory is asked for, how large a piece of work is.
"""

import types

import numpy as np
import pytest

from npunet import InputError, UNet, geometry, ops, optimizers, tiling, training, variants
from npunet.augmentation import Settings
from npunet.datasets import synthetic
from npunet.layers import Parameter
from npunet.machine import bands, ranks
from npunet.ops import up_convolution
from npunet.ops.conv_algorithms import ALGORITHMS, im2col, tiles, transforms, winograd
from npunet.variants import check_images
from npunet.weight_map import border_reach


@pytest.mark.parametrize(
    "name, x, weight, padding, numbers",
    [
        # each of two threads: cols of 4 of 7 rows, 8 pixels and 3 x 3 x 2 taps; a part of dweight, and its sum
        ("im2col", (1, 9, 10, 2), (3, 3, 2, 5), 0, 2 * (4 * 8 * 18 + 2 * 18 * 5)),
        ("im2col", (1, 9, 10, 2), (3, 3, 2, 5), 1, 2 * (5 * 10 * 18 + 2 * 18 * 5)),
        ("im2col", (1, 9, 10, 2), (1, 1, 2, 5), 0, 2 * (2 * 2 * 5)),  # no cols: they are x itself
        ("im2col", (1, 90, 130, 2), (3, 3, 2, 5), 0, 2 * (2 * 128 * 18 + 2 * 18 * 5)),  # bands of two rows, see below
        ("im2col", (3, 4, 5, 2), (3, 3, 2, 19), 0, 2 * 3 * 2 * 3 * 18),  # 18 pixels, 19 channels: cols, whole
        # taps, the row of ones, and dy where the ReLU passes it
        ("few_channels", (1, 9, 10, 5), (3, 3, 5, 1), 0, 2 * 4 * 8 * (45 + 1 + 1)),
        ("few_channels", (1, 90, 131, 5), (3, 3, 5, 1), 0, 2 * 34 * 129 * (45 + 1 + 1)),
        # im2col for dx needs more: 5 of 9 rows, 10 pixels and 3 x 3 x 5 taps
        ("few_channels", (1, 9, 10, 2), (3, 3, 2, 5), 0, 2 * (5 * 10 * 45 + 2 * 45 * 2)),
        # each thread: a band of 4 rows of 12 pixels twice, and dweight, with 4 of 7 channels; dy with its border
        ("shifted_gemm", (2, 9, 10, 3), (5, 5, 3, 7), 1, 2 * (2 * 4 * 12 * 4 + 3 * 4) + 2 * 7 * 12 * 7),
        # 6 x 6 frequencies; each thread: dU and its sum; of 3 x 3 tiles V, dM and two arrays like the wider of them
        ("winograd", (1, 14, 14, 2), (3, 3, 2, 3), 0, 36 * 2 * (2 * 6 + 9 * (2 + 3 + 2 * 3))),
        # the strategy by channels: V and dM of 2 x 3 x 3 tiles; each thread: U and M of 16 of 20 channels
        ("winograd", (2, 14, 14, 5), (3, 3, 5, 20), 0, 36 * (18 * (5 + 20) + 2 * (16 * 5 + 18 * 16))),
        # ... each thread: dU, which is larger here
        ("winograd", (1, 6, 6, 20), (3, 3, 20, 5), 0, 36 * (20 + 5 + 2 * (5 * 20 + 5))),
    ],
)
def test_the_memory_of_a_convolution_by_hand(name, x, weight, padding, numbers, two_threads, monkeypatch):
    monkeypatch.setattr(bands, "BAND_BYTES", 3 * 128 * (18 + 5) * 4 - 1)
    monkeypatch.setattr(winograd, "SMALL_KERNEL", 50)
    monkeypatch.setattr(winograd.kernels, "small_products", lambda: False)
    for itemsize in (4, 8):
        if itemsize == 8:
            monkeypatch.setattr(bands, "BAND_BYTES", 2 * bands.BAND_BYTES)
        assert ALGORITHMS[name].scratch_bytes(x, weight, padding, itemsize) == itemsize * numbers


@pytest.mark.parametrize(
    "channels, others, tiles, size",
    [
        (60, 100, 0, 32),  # half of the channels for each thread, in whole registers of 16 numbers
        (64, 100, 0, 32),
        (66, 100, 0, 48),
        (5, 100, 0, 5),
        (1024, 512, 0, 256),  # 2^17 kernels
        (1000, 512, 0, 256),  # four blocks of 250
        (1100, 512, 0, 192),  # six of 184
        (512, 1 << 18, 0, 16),
        (512, 100, 100, 96),  # products of up to a million multiplications: 100 channels, in six blocks
        (512, 100, 312, 32),  # 32 channels, in 16 blocks of 32 ...
        (512, 100, 313, 256),  # ... but with less than 32 a product would be too small
    ],
)
def test_how_many_channels_a_thread_takes_at_a_time(channels, others, tiles, size, two_threads):
    assert winograd.block_size(channels, others, tiles) == size


@pytest.mark.parametrize(
    "small, tiles, c, columns, groups",
    [
        (False, 200, 512, winograd.BLOCK_KERNELS, 1),
        (True, 201, 512, winograd.BLOCK_KERNELS, 1),
        (True, 200, 512, 64, 7),  # 30 tiles x 512 x 64 are not quite a million multiplications
        (True, 30, 512, 64, 1),
        (True, 31, 512, 64, 2),
        (True, 3, 20000, 64, 3),
    ],
)
def test_small_products_of_few_tiles(small, tiles, c, columns, groups, monkeypatch):
    monkeypatch.setattr(winograd.kernels, "small_products", lambda: small)
    assert winograd.small_products(tiles, c) == (columns, groups)


@pytest.mark.parametrize(
    "down, across, batch, c, k, each, shape",
    [
        (50, 100, 1, 128, 128, 1, (4, 15)),  # 2^14 kernels: 61 tiles are not quite a million multiplications
        (50, 100, 1, 128, 129, 1, (3, 100)),  # one more: whole rows, up to 300 tiles
        (50, 10, 1, 128, 129, 1, (25, 10)),  # a half of the rows for each of two threads
        (50, 10, 1, 128, 129, 3, (9, 10)),  # three bands for each
        (50, 10, 3, 128, 129, 3, (25, 10)),
        (50, 400, 1, 128, 129, 3, (1, 400)),
        (50, 100, 1, 8, 8, 1, (7, 25)),  # up to 200 tiles, in four equal pieces of a row
        (50, 100, 1, 1, 8, 3, (7, 25)),
        (2, 100, 1, 8, 8, 1, (2, 100)),
        (3, 1, 1, 128, 128, 1, (3, 1)),
    ],
)
def test_the_bands_of_winograd(down, across, batch, c, k, each, shape, two_threads):
    grid = types.SimpleNamespace(down=down, across=across, batch=batch)
    assert winograd.band_shape(grid, c, k, each) == shape


@pytest.mark.parametrize("count, c, k, answer", [(99, 1000, 20, True), (100, 1000, 20, False), (9, 128, 128, False)])
def test_when_the_transformed_kernel_is_the_largest_array(count, c, k, answer):
    assert winograd.by_channels(types.SimpleNamespace(count=count), c, k) == answer
    assert not answer or not winograd.by_channels(types.SimpleNamespace(count=1), 1 << 7, 1 << 7)
    assert winograd.by_channels(types.SimpleNamespace(count=1), 1 << 7, (1 << 7) + 1)


def gradient_of(step, size):
    return np.random.default_rng(step).standard_normal(size)


def by_formula(kind, p, steps, eta=0.03, decay=0.02, momentum=0.99, alpha=0.99, b1=0.9, b2=0.999, eps=1e-8):
    """The formulas at the top of optimizers.py, for some gradients; default constants."""
    v = m = s = 0
    for t in range(1, steps + 1):
        g = gradient_of(t, p.shape) + decay * p
        if kind is optimizers.SGD:
            v = momentum * v + g
            p = p - eta * v
        elif kind is optimizers.RMSprop:
            s = alpha * s + (1 - alpha) * g**2
            p = p - eta * g / (np.sqrt(s) + eps)
        else:
            m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
            p = p - eta * (m / (1 - b1**t)) / (np.sqrt(s / (1 - b2**t)) + eps)
    return p


@pytest.mark.parametrize("size", [5, optimizers.BLOCK + 1])  # one more than a thread takes at a time
@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.RMSprop, optimizers.Adam])
def test_some_steps_by_the_formula(kind, size):
    start = gradient_of(0, size)
    parameter = Parameter(start.copy())
    optimizer = kind({"p": parameter}, 0.03, weight_decay=0.02)
    for step in (1, 2, 3):
        parameter.grad = gradient_of(step, size)
        assert optimizer.step() is None
        assert optimizer.scale == 1 and optimizer.steps == step
    np.testing.assert_allclose(parameter.value, by_formula(kind, start, 3), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.RMSprop, optimizers.Adam])
def test_the_numbers_that_a_gpu_is_told(kind):
    optimizer = kind({"p": Parameter(np.ones(3))}, 0.25)
    optimizer.steps = 2
    bias1, bias2 = 1 / (1 - 0.9**2), 1 / (1 - 0.999**2)
    told, kernel = {
        optimizers.SGD: ((0.25,), ("sgd", (0.99,))),
        optimizers.RMSprop: ((0.25,), ("rmsprop", (0.99, 1e-8, 0.0))),
        optimizers.Adam: ((0.25 * bias1, bias2), ("adam", (0.9, 0.999, 1e-8))),
    }[kind]
    assert optimizer.step_numbers() == pytest.approx(told, rel=1e-14) and optimizer.kernel() == kernel


def test_a_report_a_clipped_step_and_steps_that_change_nothing():
    parameters = {name: Parameter(np.zeros(1)) for name in "ab"}
    optimizer = optimizers.SGD(parameters, 1.0, momentum=0.0)

    def step(a, b, energy=7.0, clip=0.0):
        parameters["a"].grad, parameters["b"].grad = np.array([a]), np.array([b])
        report = optimizer.step(np.float32(energy), clip)
        assert report.shape == (2,) and report.dtype == np.float64
        return *report, parameters["a"].value[0], parameters["b"].value[0]

    assert step(3.0, 4.0) == (7, 5, -3, -4)  # no limit
    assert step(3.0, 4.0, clip=5.0) == (7, 5, -6, -8)
    assert step(3.0, 4.0, clip=2.5) == (7, 5, -7.5, -10)
    assert step(3.0, 4.0, energy=np.inf) == (np.inf, 5, -7.5, -10) and optimizer.scale == 0
    assert step(3.0, 4.0) == (7, 5, -7.5, -10) and optimizer.steps == 5
    optimizer.take_back()
    assert optimizer.steps == 4 and optimizer.scale == 1
    assert step(3.0, np.inf)[1:] == (np.inf, -7.5, -10)
    optimizer.take_back()
    assert step(3.0, 4.0) == (7, 5, -10.5, -14) and optimizer.steps == 5


@pytest.mark.parametrize(
    "options, processes, reason",
    [
        ({}, 1, "needs --device gpu"),
        ({"device": "gpu", "statistics": {"mean": 0}}, 1, "cannot be used with batch normalisation"),
        ({"device": "gpu"}, 2, "cannot be used in several processes"),
    ],
)
def test_a_step_that_cannot_be_recorded_says_why(options, processes, reason, monkeypatch):
    monkeypatch.setattr(ranks, "size", lambda: processes)
    net = types.SimpleNamespace(**{"device": "cpu", "statistics": {}} | options)
    with pytest.raises(InputError, match=f"^--graph {reason}; leave it out$"):
        training.recorded_step(net, None)


def test_one_logit_has_the_binary_energy():
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.standard_normal((1, 4, 5, 1)), rng.integers(0, 2, (1, 4, 5)), rng.random((1, 4, 5))
    found, gradient = training.energy_of("cross-entropy", logits, labels, weights)
    s = 1 / (1 + np.exp(-logits[..., 0]))
    assert found == pytest.approx(-(weights * np.log(np.where(labels == 1, s, 1 - s))).mean(), rel=1e-12)
    np.testing.assert_allclose(gradient[..., 0], weights * (s - labels) / 20, rtol=1e-12)


def test_the_diagnosis_names_the_largest_map():
    net = UNet(1, 2, 1, 1, dtype="float64")
    net.output.bias.value[:] = 1e6, 0
    said = training.diagnosis(net, np.full((1, 24, 24, 1), -0.5), 1.5, 2.5)
    assert said.startswith("loss 1.5, gradient norm 2.5; largest activation 1e+06 in output, largest input 0.5; try")


@pytest.mark.parametrize(
    "variant, rates",
    [("paper", [0, 0, 0, 0.25]), ("padded", [0, 0, 0, 0.25]), ("release", [0, 0, 0.25, 0.25])]
    + [(name, [0, 0, 0, 0]) for name in ("pytorch-unet", "style", "painter")],
)
def test_where_features_are_dropped(variant, rates):
    net = UNet(1, 2, 1, 3, variant=variant, dropout=0.25)
    assert [layer.rate for layer in net.dropouts] == rates


def test_the_tile_of_a_network_that_is_given_none():
    for depth, tile in ((1, 572), (2, 572), (3, 572), (4, 572), (5, 572)):
        assert tiling.default_tile(UNet(1, 2, 1, depth)) == geometry.nearest_valid_size(572, depth)
    assert tiling.default_tile(UNet(1, 2, 1, 4)) == 572
    for variant in ("padded", "pytorch-unet", "style"):
        assert tiling.default_tile(UNet(1, 2, 1, 2, variant=variant)) == 1024


def test_the_tile_that_the_message_names_is_the_first_that_works():
    net = UNet(1, 2, 1, 3)
    smallest = geometry.smallest_valid_size(3)
    output = net.output_size(smallest)
    assert output < 8 and tiling.plan_axis(output, net, smallest).count == 1
    with pytest.raises(
        InputError, match=f"tile {smallest} gives {output} pixels, .* use tile {smallest + 8} or larger"
    ):
        tiling.plan_axis(output + 1, net, smallest)
    assert tiling.plan_axis(99, net, smallest + 8).count == -(-(99 - output - 8) // 8) + 1


def test_where_a_border_begins_to_be_felt():
    assert border_reach(2.0**-25, 5) is None and border_reach(2.1 * 2.0**-25, 50) is not None
    assert border_reach(10, 5) == 30  # as the docstring says
    assert border_reach(1e-7, 0.1) == 0


@pytest.mark.parametrize("warmup, rates", [(0, [1, 1, 1]), (1, [1, 1, 1]), (2, [0.5, 1, 1]), (4, [0.25, 0.5, 0.75])])
def test_the_first_steps_of_a_warm_up(warmup, rates):
    recipe = training.Recipe(learning_rate=2.0, warmup=warmup, schedule="constant")
    assert [training.learning_rate(recipe, step) / 2 for step in range(3)] == rates


def test_each_rank_draws_its_own_part_of_the_big_batch(monkeypatch):
    samples = synthetic(2, 64).samples
    whole = training.draw_batch(samples, training.Recipe(tile=36, batch=4), 20, 3, Settings())
    for rank in (0, 1):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        part = training.draw_batch(samples, training.Recipe(tile=36, batch=2), 20, 3, Settings())
        for ours, all_of_them in zip(part, whole, strict=True):
            np.testing.assert_array_equal(ours, all_of_them[2 * rank : 2 * rank + 2])


def test_pieces_of_a_product_are_as_large_as_they_may_be(monkeypatch):
    """A transform of tiles multiplies at most a million times in one call, that of kernels takes 2^13 at a time."""
    asked = []
    monkeypatch.setattr(tiles, "cached", lambda count, size, array: asked.append((count, size)) or [slice(0, count)])
    x = np.zeros((1, 9, 12, 3))
    ops.conv2d(x, np.zeros((3, 3, 3, 2)), algorithm="winograd")
    assert asked and set(asked) == {(12 * 3, 1_000_000 // 36)}

    shapes, scratch = [], transforms.scratch
    monkeypatch.setattr(
        transforms, "scratch", lambda name, shape, *rest: shapes.append(shape) or scratch(name, shape, *rest)
    )
    for c, k, columns in (
        (5, 1 << 12, [1 << 13, 1 << 13, 1 << 12]),
        (2, (1 << 12) + 1, [(1 << 12) + 1] * 2),
        (1, 9000, [9000]),
    ):
        transforms.two_sided(np.zeros((6, 3)), np.zeros((3, 3, c, k)), np.zeros((6, 6, c, k)))
        assert shapes == [(3, 6, number) for number in columns]
        shapes.clear()


@pytest.mark.parametrize("height, width, alone", [(1, 512, True), (19, 27, False)])  # 513 pixels
def test_up_to_which_size_an_up_convolution_goes_back_tap_by_tap(height, width, alone, monkeypatch):
    called, by_taps = [], up_convolution._backward_by_taps
    monkeypatch.setattr(up_convolution, "_backward_by_taps", lambda *arrays: called.append(1) or by_taps(*arrays))
    y, ctx = up_convolution.up_conv2d(np.zeros((1, height, width, 1)), np.zeros((2, 2, 1, 1)))
    up_convolution.up_conv2d_backward(y, ctx)
    assert bool(called) == alone


def test_im2col_shares_out_the_larger_matrix():
    assert im2col.kernel_is_larger((2, 3, 4, 25))
    assert not im2col.kernel_is_larger((2, 3, 4, 24))


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


def test_every_thread_has_three_bands_of_tiles_at_least(two_threads, monkeypatch):
    each, numbers = winograd.each, []
    monkeypatch.setattr(winograd, "SMALL_KERNEL", 1)
    monkeypatch.setattr(winograd, "each", lambda task, items, x: numbers.append(len(items)) or each(task, items, x))
    ops.conv2d(np.zeros((1, 50, 50, 3)), np.zeros((3, 3, 3, 2)), algorithm="winograd")  # 12 x 12 tiles
    assert numbers == [1, 6]  # U in one block of channels, then the bands


@pytest.mark.parametrize(
    "x, what",
    [
        ([[1.0]], "a list"),
        (np.zeros((1, 30, 30, 1), complex), "an array of complex128"),
        (np.ma.zeros((1, 30, 30, 1)), "a masked array, whose masked pixels have no values"),
    ],
)
def test_an_input_that_is_no_array_of_numbers_is_called_what_it_is(x, what):
    with pytest.raises(InputError, match=f"^the input is {what}; expected an array of real numbers"):
        check_images(x, 1)


def test_an_image_needs_no_more_than_to_fit():
    for dtype in ("float32", "uint8", "int64", bool):
        check_images(np.zeros((1, 1, 1, 2), dtype), 2)
    for shape in ((0, 30, 30, 2), (1, 30, 30, 1), (30, 30, 2), (1, 1, 30, 30, 2)):
        with pytest.raises(InputError, match="expected \\(N, H, W, 2\\), N at least 1"):
            check_images(np.zeros(shape), 2)


@pytest.mark.parametrize("sides", [(2, 2), (3, 2), (2, 3)])
def test_a_kernel_with_an_even_side_is_refused(sides):
    with pytest.raises(InputError, match="the kernel is {}x{}; expected odd sizes".format(*sides)):
        ops.conv2d(np.zeros((1, 8, 8, 1)), np.zeros((*sides, 1, 1)))


def test_weights_that_just_fit_into_memory(monkeypatch):
    """30 for each pair of the 64 channels of the bottleneck, 9 x 1 x 8 in the first layer and 8 x 2 in the last."""
    options, size = dict(in_channels=1, n_classes=2, base_channels=8, depth=3), 4 * (30 * 64**2 + 9 * 8 + 8 * 2)
    monkeypatch.setattr(variants, "free_memory", lambda device: size)
    UNet(**options)
    monkeypatch.setattr(variants, "free_memory", lambda device: size - 1)
    with pytest.raises(InputError, match="weights of about 0.000492 GB"):
        UNet(**options)
