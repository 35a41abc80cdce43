"""Gram matrix and losses: definitions, finite differences, PyTorch."""

import numpy as np
import pytest
from style_helpers import real_vgg, small_vgg

from npunet.errors import InputError
from npunet.gradient_check import (
    check_gradients,
    directional_derivative,
    numerical_gradient,
    random_directions,
    relative_error,
)
from npunet.machine.backend import to_cpu
from npunet.style import Objective, gram, gram_backward
from npunet.style.losses import gram_definition, mean_square, total_variation

LAYERS = dict(content_layers=("conv3_2", "conv4_1"), style_layers=("conv1_2", "conv3_2"))


def test_gram_by_hand():
    """Two pixels with channels (1, 2) and (3, 4): sums of products 10, 14, 20 over H W C = 4."""
    g, _ = gram(np.array([[[[1.0, 2], [3, 4]]]]))
    assert np.array_equal(g, [[[2.5, 3.5], [3.5, 5]]])


def test_gram_is_its_definition(xp, rng):
    features = rng.standard_normal((2, 3, 4, 5))
    g, _ = gram(xp.asarray(features))
    assert relative_error(to_cpu(g), gram_definition(features)) < 1e-14


def test_gram_forgets_places(rng):
    features = rng.standard_normal((1, 4, 6, 3))
    shuffled = rng.permutation(features.reshape(24, 3)).reshape(features.shape)
    assert relative_error(gram(features)[0], gram(shuffled)[0]) < 1e-14
    assert relative_error(gram(features)[0], gram(rng.permutation(features, axis=3))[0]) > 1e-2  # but not channels


def test_gram_gradient(rng):
    """A random cotangent is not symmetric, as that of a real loss would be: it needs both halves of the formula."""
    check_gradients(gram, gram_backward, [rng.standard_normal((2, 3, 2, 4))], rng)


def test_gram_gradient_everywhere(xp, rng):
    features, dg = rng.standard_normal((2, 3, 2, 4)), rng.standard_normal((2, 4, 4))
    _, ctx = gram(xp.asarray(features))
    assert relative_error(to_cpu(gram_backward(xp.asarray(dg), ctx)), gram_backward(dg, features)) < 1e-14


def test_mean_square_gradient(xp, rng):
    a, target = rng.standard_normal((2, 3, 4)), rng.standard_normal((3, 4))
    loss, gradient = mean_square(xp.asarray(a), xp.asarray(target))
    assert float(loss) == pytest.approx(np.mean((a - target) ** 2), rel=1e-14)
    assert relative_error(to_cpu(gradient), numerical_gradient(lambda: np.mean((a - target) ** 2), a)) < 1e-6


@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (1, 1, 5, 3)])
def test_total_variation(shape, xp, rng):
    picture = rng.standard_normal(shape)

    def definition():
        steps = [np.diff(picture, axis=axis) for axis in (1, 2)]
        return sum(np.mean(step**2) for step in steps if step.size)

    loss, gradient = total_variation(xp.asarray(picture))
    assert float(loss) == pytest.approx(definition(), rel=1e-14)
    assert relative_error(to_cpu(gradient), numerical_gradient(definition, picture)) < 1e-6


def objective(eye, xp, rng, **options):
    style = rng.random((1, 20, 24, 3))
    return Objective(eye, variation_weight=3.0, style_weight=50.0, **LAYERS | options).set_style(xp.asarray(style))


def test_gradient_of_the_whole_objective(xp, monkeypatch, rng):
    """conv3_2 serves both content and style: its gradients add. Two pictures against one style."""
    found = objective(small_vgg(monkeypatch, xp=xp), xp, rng)
    picture, content = rng.random((2, 18, 21, 3)), rng.random((2, 18, 21, 3))
    targets = found.content_targets(xp.asarray(content))
    terms, dpicture = found(xp.asarray(picture), targets)
    assert terms["total"] == pytest.approx(terms["content"] + terms["style"] + terms["variation"], rel=1e-12)
    assert min(terms.values()) > 1e-3 * terms["total"], "every term must weigh enough to be seen by the check"
    direction = random_directions([picture], rng)
    numerical = directional_derivative(
        lambda: found(xp.asarray(picture), targets)[0]["total"], [picture], direction, eps=1e-7
    )
    assert relative_error(np.sum(to_cpu(dpicture) * direction[0]), numerical) < 1e-5


def test_the_content_picture_has_no_content_loss_and_the_style_picture_no_style_loss(monkeypatch, rng):
    eye = small_vgg(monkeypatch)
    style = rng.random((1, 16, 24, 3))
    found = Objective(eye, **LAYERS).set_style(style)
    terms, dpicture = found(style, found.content_targets(style))
    assert terms["total"] == 0 and not dpicture.any()


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.shared_data)])
def test_losses_and_gradient_are_pytorchs(real, monkeypatch, rng):
    torch = pytest.importorskip("torch")
    from style_twin import torch_features, torch_losses

    eye = real_vgg() if real else small_vgg(monkeypatch)
    layers = dict(content_layers=("conv3_4", "conv4_4"), style_layers=("conv1_2", "conv2_2"))
    picture, content, style = (
        rng.random(shape).astype(eye.dtype) for shape in ((1, 48, 40, 3), (1, 48, 40, 3), (1, 32, 56, 3))
    )
    found = Objective(eye, style_weight=1e4, **layers).set_style(style)
    terms, dpicture = found(picture, found.content_targets(content))
    x, c, s = (torch.tensor(array).permute(0, 3, 1, 2).clone() for array in (picture, content, style))
    x.requires_grad_()
    losses = torch_losses(eye, torch_features(eye), x, c, s, **layers, style_weight=1e4)
    sum(losses).backward()
    tolerance = 1e-4 if real else 1e-10
    assert terms["content"] == pytest.approx(losses[0].item(), rel=tolerance)
    assert terms["style"] == pytest.approx(losses[1].item(), rel=tolerance)
    assert relative_error(dpicture, x.grad.permute(0, 2, 3, 1).numpy()) < tolerance


def test_the_scale_of_the_features_does_not_matter(monkeypatch, rng):
    """A network whose first layer and biases are 57.6 times as large, as in files converted from Caffe, gives the same
    losses.
    """
    eye, large = small_vgg(monkeypatch), small_vgg(monkeypatch)
    factor = 255 * (0.229 + 0.224 + 0.225) / 3
    large.weights = {
        name: (weight * (factor if name == "conv1_1" else 1), bias * factor)
        for name, (weight, bias) in large.weights.items()
    }
    large.unit = factor
    picture, content, style = rng.random((3, 1, 24, 24, 3))
    results = []
    for one in (eye, large):
        found = Objective(one, **LAYERS).set_style(style)
        results.append(found(picture, found.content_targets(content)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-10)
    assert relative_error(results[0][1], results[1][1]) < 1e-10


def test_bad_options(monkeypatch):
    eye = small_vgg(monkeypatch)
    for name in ("content_weight", "style_weight", "variation_weight"):
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is nan"):
            Objective(eye, **{name: float("nan")})
    with pytest.raises(InputError, match="layer conv9_1: vgg19 has none"):
        Objective(eye, style_layers=("conv9_1",))
    with pytest.raises(InputError, match="nothing to compare"):
        Objective(eye, content_layers=(), style_layers=())
