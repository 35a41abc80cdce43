"""`stylize train --faithful` is the notes' demo: a twin in PyTorch begins and trains as the demo does."""

import numpy as np
import pytest
from style_helpers import real_vgg, small_vgg

from npunet import initialization
from npunet.optimizers import Adam
from npunet.style import VGG, Generator, Objective, generator_step, losses
from npunet.style.options import complete

torch = pytest.importorskip(
    "torch", reason='PyTorch is not installed; pip install "npunet[torch]" adds it as an oracle for tests'
)

from demo_twin import DemoNetwork, demo_losses  # noqa: E402


def twins(base, seed):
    """The demo's network and our generator with the same weights."""
    torch.manual_seed(seed)
    network, generator = DemoNetwork(base), Generator.faithful(base)
    weights = network.weights()
    assert weights.keys() == generator.net.parameters.keys()
    for name, parameter in generator.net.parameters.items():
        parameter.value[...] = weights[name]
    return network, generator


def assert_same_training(eye, base, size, steps, seed):
    rng = np.random.default_rng(seed)
    content, style = 0.5 * rng.random((2, 1, size, size, 3), np.float32) + np.float32([[[[[0]]]], [[[[0.5]]]]])
    network, generator = twins(base, seed)
    expected = demo_losses(network, eye, *(torch.tensor(p.transpose(0, 3, 1, 2)) for p in (content, style)), steps)
    objective = Objective(eye, **losses.DEMO).set_style(style)
    optimizer, targets = Adam(generator.net.parameters, 1e-3), objective.content_targets(content)
    found = [generator_step(generator, objective, optimizer, content, targets)["total"] for _ in range(steps)]
    assert found == pytest.approx(expected, rel=0.01)
    assert found[0] - found[-1] == pytest.approx(expected[0] - expected[-1], rel=0.05)  # what Adam gained


def test_twenty_losses_are_the_demos(monkeypatch):
    small_vgg(monkeypatch)
    assert_same_training(VGG.random(), base=4, size=48, steps=20, seed=2)


@pytest.mark.shared_data
def test_twenty_losses_are_the_demos_with_trained_weights():
    assert_same_training(real_vgg(), base=8, size=64, steps=20, seed=3)


def test_the_start_is_pytorchs():
    """Uniform within the same bounds, weights and biases; an up-convolution's fan-in counts its output channels."""
    torch.manual_seed(0)
    theirs, ours = DemoNetwork(16).weights(), Generator.faithful(16, seed=5).net.parameters
    for name, weight in theirs.items():
        found = ours[name].value
        if name.endswith(".weight"):
            kh, kw, c_in, c_out = weight.shape
            bound = 1 / np.sqrt(kh * kw * (c_out if ".up." in name else c_in))
        assert np.abs(weight).max() <= bound * 1.0001 and np.abs(found).max() <= bound * 1.0001, name
        if weight.size >= 400:
            assert np.abs(weight).max() > 0.95 * bound and np.abs(found).max() > 0.95 * bound, name
            assert found.std() == pytest.approx(weight.std(), rel=0.1), name


def test_the_start_changes_the_first_picture_and_nothing_else():
    rng = np.random.default_rng(0)
    content = rng.random((1, 32, 32, 3), np.float32)
    options = dict(colours="normalised", bilinear=False, instance_norm=False, seed=1)
    gaussian, uniform = (Generator(8, initial_weights=start, **options) for start in ("gaussian", "pytorch"))
    assert gaussian.net.config == uniform.net.config
    first, second = gaussian.net.forward(content), uniform.net.forward(content)  # -1 .. 1
    spread = [picture.std(axis=(0, 1, 2)) for picture in (first, second)]  # over the pixels, by channel
    assert np.all(spread[1] < 0.02) and np.all(spread[0] > 0.05)
    assert np.array_equal(uniform.net.forward(content), Generator.faithful(8, seed=1).net.forward(content))
    drawn = initialization.uniform((20_000,), 25, rng, "float64")
    assert np.abs(drawn).max() <= 0.2 and drawn.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.02)


def test_the_demos_options():
    options = complete("train", dict(content="c.png", style="s.png", faithful=True))
    assert (options.size, options.square, options.base_channels, options.learning_rate) == (512, True, 64, 1e-3)
    assert (options.colours, options.initial_weights, options.schedule) == ("normalised", "pytorch", "constant")
    assert options.up_convolutions and options.steps == 500 and options.batch == 1
    assert (options.content_weight, options.style_weight, options.variation_weight) == (1, 1e6, 0)
    assert (options.style_layers, options.content_layers) == ("conv1_2,conv2_2", "conv3_4,conv4_4")
