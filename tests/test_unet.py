"""The network: its whole backward pass against finite differences, its two paths one at a time, and what it promises
its callers.
"""

import numpy as np
import pytest
import strict_array

from npunet import UNet
from npunet.errors import InputError
from npunet.gradient_check import directional_derivative, numerical_gradient, random_directions, relative_error
from npunet.loss import softmax, weighted_cross_entropy
from npunet.machine.backend import to_cpu
from npunet.optimizers import SGD

EPS = 1e-7  # smaller than the 1e-5 of single operations: thousands of ReLUs, and none should cross 0 on the way


class Problem:
    """A small float64 network with a batch of images, labels and weights;
    `loss` is a pure function of parameters and images.
    """

    def __init__(
        self,
        *,
        depth=1,
        size=None,
        batch=2,
        in_channels=2,
        n_classes=3,
        base_channels=3,
        variant="paper",
        dropout=0.0,
        seed=0,
        **options,
    ):
        self.net = UNet(
            in_channels,
            n_classes,
            base_channels,
            depth,
            variant=variant,
            dropout=dropout,
            dtype="float64",
            seed=seed,
            **options,
        )
        rng = np.random.default_rng(seed + 100)
        for name, parameter in self.net.parameters.items():
            if name.endswith(("bias", "scale", "shift")):
                parameter.value += 0.1 * rng.standard_normal(parameter.value.shape)
        size = size or {1: 20, 2: 44}[depth]
        output = self.net.output_size(size)
        self.x = rng.standard_normal((batch, size, size, in_channels))
        self.labels = rng.integers(0, n_classes, (batch, output, output))
        self.weights = rng.uniform(0.1, 5, self.labels.shape)
        self.dropout_state = self.net.rng.bit_generator.state

    def loss(self):
        self.net.rng.bit_generator.state = self.dropout_state  # the same dropout every time
        logits = self.net.forward(self.x, train=True)
        return weighted_cross_entropy(logits, self.labels, self.weights)

    def gradients(self):
        """Arrays and their gradients by backward: all parameters, then the images."""
        _, dlogits = self.loss()
        dx = self.net.backward(dlogits)
        parameters = self.net.parameters.values()
        return [p.value for p in parameters] + [self.x], [p.grad for p in parameters] + [dx]

    def error_along_a_random_direction(self, seed=0):
        arrays, gradients = self.gradients()
        directions = random_directions(arrays, np.random.default_rng(seed))
        numerical = directional_derivative(lambda: self.loss()[0], arrays, directions, EPS)
        analytical = sum(np.sum(gradient * direction) for gradient, direction in zip(gradients, directions))
        return relative_error(analytical, numerical)

    def check_some_elements(self, names):
        for name in names:
            parameter = self.net.parameters[name]
            numerical = numerical_gradient(lambda: self.loss()[0], parameter.value, EPS)
            assert relative_error(parameter.grad, numerical) < 1e-6, name


@pytest.mark.parametrize("variant", ["paper", "release", "padded"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_whole_network_along_a_random_direction(variant, depth, dropout):
    problem = Problem(variant=variant, depth=depth, dropout=dropout)
    assert problem.error_along_a_random_direction() < 1e-6


PADDED = [
    dict(variant="pytorch-unet"),
    dict(variant="pytorch-unet", bilinear=True),
    dict(variant="style"),
    dict(variant="painter", bilinear=True),
]


@pytest.mark.parametrize("options", PADDED, ids=str)
@pytest.mark.parametrize("depth, size", [(1, 6), (1, 7), (2, 10), (2, 11)])
def test_padded_networks_along_a_random_direction(options, depth, size):
    problem = Problem(depth=depth, size=size, n_classes=3, **options)
    assert problem.labels.shape[1] == (size if options["variant"] == "pytorch-unet" else size // 2**depth * 2**depth)
    assert problem.error_along_a_random_direction() < 1e-6


@pytest.mark.parametrize("options", PADDED, ids=str)
def test_padded_networks_keep_the_size_and_say_how_small_is_too_small(options):
    net = UNet(2, 3, 2, 3, **options)
    whole = options["variant"] == "pytorch-unet"
    for height, width in ((8, 9), (13, 40), (17, 15)):
        expected = (height, width) if whole else (height // 8 * 8, width // 8 * 8)
        assert (
            net.forward(np.zeros((1, height, width, 2))).shape == (1, *expected, 3)
            and net.output_size(width) == expected[1]
        )
    with pytest.raises(InputError, match="tile 7 is too small for 3 poolings; the smallest is 8"):
        net.forward(np.zeros((1, 7, 8, 2)))
    with pytest.raises(InputError, match="one pixel"):
        UNet(1, 2, 2, 3, variant="pytorch-unet").forward(np.zeros((1, 8, 8, 1)), train=True)


def test_options_of_the_padded_variants(rng):
    x = rng.standard_normal((1, 16, 16, 3))
    maps = UNet(3, 3, 2, 2, variant="style").feature_maps(x)
    assert np.abs(maps["tanh"]).max() < 1 and list(maps)[-1] == "tanh" and "contracting.0.norm1" not in maps
    net = UNet(3, 2, 2, 2, variant="pytorch-unet", bilinear=True)
    maps = net.feature_maps(x)
    assert (maps["contracting.0.norm1"] >= 0).all() and (maps["contracting.0.conv1"] < 0).any()
    np.testing.assert_array_equal(maps["expansive.0.concat"][..., :2], maps["contracting.0.norm2"])  # the skip first
    assert [maps[f"expansive.{level}.up"].shape[3] for level in (1, 0)] == [4, 2]  # halved before, not by it
    assert not any("up." in name or name.endswith("conv1.bias") for name in net.parameters)
    with pytest.raises(InputError, match="bilinear"):
        UNet(bilinear=True)


RECOMPUTED = [
    dict(variant="paper", size=44),
    dict(variant="release", size=44),
    *(options | {"size": 17} for options in PADDED),
]


@pytest.mark.parametrize("options", RECOMPUTED, ids=str)
def test_recomputation_changes_no_bit(options):
    results = []
    for recompute in (False, True):
        problem = Problem(depth=2, dropout=0.4, recompute=recompute, **options)
        problem.loss()  # a forward pass that nobody goes back through leaves no trace
        _, gradients = problem.gradients()
        results.append([*gradients, *(statistic.value for statistic in problem.net.statistics.values())])
        assert problem.net.recompute == recompute and all(
            layer.context is None for layer in problem.net.layers.values()
        )
    for plain, recomputed in zip(*results, strict=True):
        np.testing.assert_array_equal(recomputed, plain)


def test_recomputation_keeps_inputs_only():
    problem = Problem(depth=1, size=8, variant="pytorch-unet", recompute=True)
    problem.loss()
    kept = {name for name, layer in problem.net.layers.items() if layer.context is not None}
    assert kept == {name for name in problem.net.layers if not name.split(".")[-1].startswith(("conv", "norm"))}
    assert problem.net.bottleneck.context.shape == (2, 4, 4, 3)


@pytest.mark.parametrize("variant", ["paper", "release", "padded"])
def test_parameters_of_every_kind_element_by_element(variant):
    problem = Problem(depth=2, batch=1, in_channels=1, n_classes=2, base_channels=2, variant=variant, dropout=0.3)
    problem.gradients()
    problem.check_some_elements(
        [
            "contracting.0.conv1.weight",
            "contracting.1.conv2.bias",
            "bottleneck.conv1.bias",
            "expansive.1.up.weight",
            "expansive.0.up.bias",
            "expansive.0.conv1.weight",
            "output.weight",
            "output.bias",
        ]
    )


def test_images_of_height_unlike_width():
    problem = Problem()
    problem.x = np.random.default_rng(3).standard_normal((2, 18, 24, 2))
    problem.labels, problem.weights = (
        problem.labels[:, :2, :1].repeat(8, axis=2),
        problem.weights[:, :2, :1].repeat(8, axis=2),
    )
    assert problem.net.forward(problem.x).shape == (2, 2, 8, 3)
    assert problem.error_along_a_random_direction() < 1e-6


def test_the_gradient_through_the_skip_alone():
    """With the up-convolution's weights at zero nothing below it reaches the output:
    only the skip connection carries gradient.
    """
    problem = Problem()
    problem.net.parameters["expansive.0.up.weight"].value[...] = 0
    _, gradients = problem.gradients()
    gradients = dict(zip(problem.net.parameters, gradients))
    for name, gradient in gradients.items():
        assert gradient.any() != name.startswith("bottleneck"), name
    problem.check_some_elements(["contracting.0.conv1.weight", "contracting.0.conv2.bias"])
    assert problem.error_along_a_random_direction() < 1e-6  # which moves the weights away from zero a little


def test_the_gradient_through_the_deep_path_alone():
    """With zero weights for the concatenated skip channels, only the way down, around and up again carries gradient."""
    problem = Problem()
    up_channels = problem.net.parameters["expansive.0.up.weight"].value.shape[3]
    skip_weights = problem.net.parameters["expansive.0.conv1.weight"].value[:, :, up_channels:]
    skip_weights[...] = 0
    _, dlogits = problem.loss()
    net = problem.net
    dx = net.expansive[0].backward(net.output.backward(dlogits))
    dupsampled, dskip = net.concats[0].backward(dx)
    assert dupsampled.any() and not dskip.any()
    problem.gradients()
    assert (
        net.parameters["contracting.0.conv1.weight"].grad.any() and net.parameters["bottleneck.conv1.weight"].grad.any()
    )
    problem.check_some_elements(["contracting.0.conv1.weight", "contracting.0.conv2.bias", "bottleneck.conv2.bias"])


@pytest.mark.parametrize("error", ["forgotten skip", "forgotten pooling", "wrong sign", "skips exchanged"])
def test_an_error_planted_in_backward_is_found(monkeypatch, error):
    problem = Problem(depth=2)
    for level, concat in problem.net.concats.items():

        def backward(dy, take=concat.backward):
            dupsampled, dskip = take(dy)
            return dupsampled, {
                "forgotten skip": 0 * dskip,
                "wrong sign": -dskip,
                "skips exchanged": dskip[:, ::-1],
            }.get(error, dskip)

        monkeypatch.setattr(concat, "backward", backward)
    if error == "forgotten pooling":
        for pool in problem.net.pools:
            monkeypatch.setattr(pool, "backward", lambda dy, dskip, take=pool.backward: take(0 * dy, dskip))
    assert problem.error_along_a_random_direction() > 1e-3


@pytest.mark.parametrize("variant", ["paper", "release", "pytorch-unet"])
def test_training_steps_on_a_device(xp, variant):
    """Forward, energy, backward and three SGD steps, with dropout: the same losses and parameters as with NumPy."""

    def train(module):
        net = UNet(1, 2, 4, 2, variant=variant, seed=3)
        rng = np.random.default_rng(1)
        for array in (*net.parameters.values(), *net.statistics.values()):
            array.value = module.asarray(array.value)
        side = net.output_size(44)
        x = module.asarray(rng.standard_normal((2, 44, 44, 1)).astype("float32"))
        labels = module.asarray(rng.integers(0, 2, (2, side, side)))
        weights = module.asarray(rng.uniform(1, 3, (2, side, side)).astype("float32"))
        optimizer, losses = SGD(net.parameters, 0.01, momentum=0.9), []
        for _ in range(3):
            loss, dlogits = weighted_cross_entropy(net.forward(x, train=True), labels, weights)
            dx = net.backward(dlogits)
            optimizer.step()
            losses.append(float(loss))
        assert type(dx) is type(x) and dx.shape == x.shape and dx.dtype == "float32"
        return (
            losses,
            {name: to_cpu(parameter.value) for name, parameter in net.parameters.items()},
            to_cpu(softmax(net.forward(x))),
        )

    losses, parameters, probabilities = train(xp)
    expected_losses, expected_parameters, expected_probabilities = train(np)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    np.testing.assert_allclose(probabilities, expected_probabilities, rtol=1e-4, atol=1e-6)
    for name, value in parameters.items():
        np.testing.assert_allclose(value, expected_parameters[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_output_moves_with_the_image():
    """Shift the image by 2^depth pixels and the output shifts alike:
    the network sees no absolute position (§2, overlap-tile).
    """
    net = UNet(1, 2, 3, 2, dtype="float64", seed=1)
    image = np.random.default_rng(0).standard_normal((1, 56, 60, 1))
    whole = net.forward(image)  # (1, 16, 20, 2)
    np.testing.assert_allclose(net.forward(image[:, 4:52, 12:60]), whole[:, 4:12, 12:20], rtol=1e-10, atol=1e-13)


def test_a_batch_is_its_images_one_by_one():
    problem = Problem(depth=2, batch=3)
    whole = problem.net.forward(problem.x)
    for n in range(3):
        np.testing.assert_allclose(problem.net.forward(problem.x[n : n + 1]), whole[n : n + 1], rtol=1e-10, atol=1e-13)


def test_arguments_are_never_written_to_and_contexts_are_given_back():
    problem = Problem(depth=2, dropout=0.5)
    x = problem.x
    x.setflags(write=False)
    for parameter in problem.net.parameters.values():
        parameter.value.setflags(write=False)
    logits = problem.net.forward(x, train=True)
    dlogits = np.random.default_rng(0).standard_normal(logits.shape)
    dlogits.setflags(write=False)
    problem.net.backward(dlogits)
    assert all(layer.context is None for layer in problem.net.layers.values())
    with pytest.raises(RuntimeError, match="no forward pass"):
        problem.net.backward(dlogits)
    problem.net.forward(x)
    with pytest.raises(RuntimeError, match="no forward pass"):
        problem.net.backward(dlogits)


def test_the_gradient_by_the_images_is_optional():
    problem = Problem(depth=2)
    _, dlogits = problem.loss()
    dx = problem.net.backward(dlogits)
    assert dx.shape == problem.x.shape
    grads = [parameter.grad for parameter in problem.net.parameters.values()]
    problem.loss()
    assert problem.net.backward(dlogits, need_dx=False) is None
    for parameter, grad in zip(problem.net.parameters.values(), grads):
        np.testing.assert_array_equal(parameter.grad, grad)


def test_a_seed_gives_the_same_bits_and_another_one_others():
    def run(seed):
        problem = Problem(depth=1, dropout=0.5, seed=seed)
        net = UNet(1, 2, 4, 1, seed=seed)
        x = np.random.default_rng(0).standard_normal((1, 20, 20, 1)).astype("float32")
        return [net.forward(x, train=True), net.forward(x, train=True), *problem.gradients()[1]]

    first, again, other = run(1), run(1), run(2)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])  # dropout draws anew


def test_dropout_is_for_training_only():
    net = UNet(1, 2, 4, 1, dropout=0.5)
    x = np.random.default_rng(0).standard_normal((1, 20, 20, 1)).astype("float32")
    np.testing.assert_array_equal(net.forward(x), net.forward(x))
    without = UNet(1, 2, 4, 1, dropout=0.0)
    np.testing.assert_array_equal(net.forward(x), without.forward(x, train=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_network_decides_the_dtype(dtype):
    net = UNet(1, 2, 2, 1, dtype=dtype)
    for image_dtype in ("uint8", "float32", "float64"):
        logits = net.forward(np.ones((1, 20, 20, 1), image_dtype), train=True)
        assert logits.dtype == dtype
        assert net.backward(np.ones_like(logits)).dtype == dtype
        assert all(parameter.grad.dtype == dtype for parameter in net.parameters.values())
    assert UNet(1, 2, 2, 1, dtype=np.dtype(dtype)).dtype == UNet(1, 2, 2, 1, dtype=getattr(np, dtype)).dtype == dtype


def test_images_that_do_not_fit_are_refused_with_the_nearest_that_do():
    net = UNet(1, 2, 2)
    for shape, words in [
        ((1, 570, 572, 1), "tile 570 is not a valid input size; nearest are 556 and 572"),
        ((1, 572, 570, 1), "nearest are 556 and 572"),
        ((1, 100, 572, 1), "the smallest is 188"),
        ((1, 572, 572, 3), r"expected \(N, H, W, 1\)"),
        ((572, 572, 1), r"expected \(N, H, W, 1\)"),
    ]:
        with pytest.raises(InputError, match=words) as error:
            net.forward(np.zeros(shape, "float32"))
        assert "\n" not in str(error.value)


def test_only_the_release_has_relu_after_up_convolutions(rng):
    x = rng.standard_normal((1, 44, 44, 1)).astype("float32")
    for variant, rectified in (("paper", False), ("release", True)):
        maps = UNet(1, 2, 4, 2, variant=variant).feature_maps(x)
        assert [bool((maps[f"expansive.{level}.up"] >= 0).all()) for level in (0, 1)] == [rectified, rectified]


def test_feature_maps_show_every_layer_and_leave_nothing_behind():
    net = UNet(1, 2, 2, 2)
    x = np.random.default_rng(0).standard_normal((1, 44, 44, 1)).astype("float32")
    maps = net.feature_maps(x)
    assert list(maps) == list(net.layers)
    np.testing.assert_array_equal(maps["output"], net.forward(x))
    np.testing.assert_array_equal(maps["expansive.0.concat"][..., :2], maps["expansive.0.up"])  # upsampled first
    np.testing.assert_array_equal(maps["expansive.0.concat"][..., 2:], maps["contracting.0.conv2"][:, 16:-16, 16:-16])
    with pytest.raises(InputError):
        net.feature_maps(x[:, :-1])
    assert not any("forward" in vars(layer) for layer in net.layers.values())


def test_parameters_are_in_order_of_use():
    names = list(UNet(1, 2, 2, 2).parameters)
    assert names[:4] == [
        "contracting.0.conv1.weight",
        "contracting.0.conv1.bias",
        "contracting.0.conv2.weight",
        "contracting.0.conv2.bias",
    ]
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    assert layers == [
        "contracting.0.conv1",
        "contracting.0.conv2",
        "contracting.1.conv1",
        "contracting.1.conv2",
        "bottleneck.conv1",
        "bottleneck.conv2",
        "expansive.1.up",
        "expansive.1.conv1",
        "expansive.1.conv2",
        "expansive.0.up",
        "expansive.0.conv1",
        "expansive.0.conv2",
        "output",
    ]


def test_the_stand_in_would_notice_a_numpy_parameter():
    """Parameters left on the host and images on a device must not be mixed quietly."""
    net = UNet(1, 2, 2, 1)
    with pytest.raises((TypeError, InputError)):
        net.forward(strict_array.asarray(np.zeros((1, 20, 20, 1), "float32")))


def test_input_mean_and_std_centre_the_images_and_scale_the_gradient(rng):
    image = rng.standard_normal((1, 20, 20, 1))
    plain = UNet(base_channels=2, depth=1, dtype="float64", dropout=0.0)
    centred = UNet(base_channels=2, depth=1, dtype="float64", dropout=0.0, input_mean=3.0, input_std=0.5)
    expected = plain.forward(image, train=True)
    np.testing.assert_allclose(centred.forward(image * 0.5 + 3.0, train=True), expected, rtol=1e-12)
    cotangent = rng.standard_normal(expected.shape)
    np.testing.assert_allclose(centred.backward(cotangent), plain.backward(cotangent) / 0.5, rtol=1e-12)
