"""PyTorch as a second, independent program:
the same network from its own functions gives the same logits, gradients and training.
"""

import numpy as np
import pytest

from npunet import UNet
from npunet.geometry import output_size
from npunet.gradient_check import relative_error
from npunet.layers import Parameter
from npunet.loss import weighted_cross_entropy
from npunet.ops import dropout_backward
from npunet.optimizers import SGD, Adam, RMSprop

torch = pytest.importorskip(
    "torch", reason='PyTorch is not installed; pip install "npunet[torch]" adds it as an oracle for tests'
)
functional = torch.nn.functional


def to_torch(name, value):
    """npunet's layout to PyTorch's:
    convolutions (kh, kw, C, K) -> (K, C, kh, kw), up-convolutions -> (C, K, kh, kw).
    """
    tensor = torch.tensor(value)
    if value.ndim == 4:
        tensor = tensor.permute(2, 3, 0, 1) if ".up." in name else tensor.permute(3, 2, 0, 1)
    return tensor.contiguous().requires_grad_()


def from_torch(name, tensor):
    array = tensor.detach().numpy()
    if array.ndim == 4:
        array = array.transpose(2, 3, 0, 1) if ".up." in name else array.transpose(2, 3, 1, 0)
    return array


def torch_parameters(net):
    return {name: to_torch(name, parameter.value) for name, parameter in net.parameters.items()}


def torch_unet(x, p, depth, variant, masks=None):
    """Fig. 1 once more, from the paper and not from npunet/unet.py. x (N, C, H, W); masks:
    what dropout multiplies with, by level.
    """

    def conv(x, name, padding=0):
        return functional.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=padding)

    def double(x, name):
        return functional.relu(conv(functional.relu(conv(x, f"{name}.conv1")), f"{name}.conv2"))

    def drop(x, level):
        return x * masks[level] if masks and level in masks else x

    skips = []
    for level in range(depth):
        skips.append(drop(double(x, f"contracting.{level}"), level))
        x = functional.max_pool2d(skips[-1], 2)
    x = drop(double(x, "bottleneck"), depth)
    for level in range(depth - 1, -1, -1):
        x = functional.conv_transpose2d(x, p[f"expansive.{level}.up.weight"], p[f"expansive.{level}.up.bias"], stride=2)
        if variant == "release":
            x = functional.relu(x)
        border = (skips[level].shape[2] - x.shape[2]) // 2
        x = torch.cat([x, skips[level][:, :, border : border + x.shape[2], border : border + x.shape[3]]], dim=1)
        x = double(x, f"expansive.{level}")
    return conv(x, "output")


def torch_energy(logits, labels, weights):
    return (functional.cross_entropy(logits, torch.tensor(labels), reduction="none") * torch.tensor(weights)).mean()


def channels_first(x):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def channels_last(tensor):
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def problem(dtype, variant="paper", depth=2, dropout=0.0, in_channels=2, n_classes=3, base_channels=6):
    net = UNet(in_channels, n_classes, base_channels, depth, variant=variant, dropout=dropout, dtype=dtype, seed=8)
    rng = np.random.default_rng(1)
    for name, parameter in net.parameters.items():
        if name.endswith("bias"):
            parameter.value += 0.1 * rng.standard_normal(parameter.value.shape).astype(dtype)
    size = {2: 60, 4: 188}[depth]
    output = output_size(size, depth)
    x = rng.standard_normal((2, size, size, in_channels)).astype(dtype)
    return (
        net,
        x,
        rng.integers(0, n_classes, (2, output, output)),
        rng.uniform(0.5, 10, (2, output, output)).astype(dtype),
    )


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float64", 1e-10)])
@pytest.mark.parametrize(
    "variant, depth, dropout",
    [("paper", 2, 0.0), ("release", 2, 0.0), ("paper", 2, 0.5), ("release", 2, 0.5), ("paper", 4, 0.0)],
)
def test_logits_and_all_gradients(variant, depth, dropout, dtype, tolerance):
    net, x, labels, weights = problem(dtype, variant, depth, dropout, base_channels=6 if depth == 2 else 3)
    maps = list(net.feature_maps(x).items())
    before_dropout = [array for name, array in maps if name.endswith("dropout")]  # one for each level
    logits = net.forward(x, train=True)
    masks = {
        level: channels_first(dropout_backward(np.ones_like(before), layer.context))
        for level, (before, layer) in enumerate(zip(before_dropout, net.dropouts, strict=True))
        if layer.context is not layer.nothing_dropped
    }
    assert bool(masks) == (dropout > 0)
    loss, dlogits = weighted_cross_entropy(logits, labels, weights)
    dx = net.backward(dlogits)

    p, image = torch_parameters(net), channels_first(x).requires_grad_()
    expected = torch_unet(image, p, depth, variant, masks)
    energy = torch_energy(expected, labels, weights)
    energy.backward()

    assert relative_error(logits, channels_last(expected)) < tolerance
    assert float(loss) == pytest.approx(energy.item(), rel=tolerance)
    assert relative_error(dx, channels_last(image.grad)) < tolerance
    for name, parameter in net.parameters.items():
        assert relative_error(parameter.grad, from_torch(name, p[name].grad)) < tolerance, name


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float64", 1e-10)])
@pytest.mark.parametrize("variant", ["paper", "release"])
def test_ten_losses_of_a_training(variant, dtype, tolerance):
    net, x, labels, weights = problem(dtype, variant)
    p = torch_parameters(net)
    image, theirs = channels_first(x), torch.optim.SGD(p.values(), 1e-4, momentum=0.99)
    ours = SGD(net.parameters, 1e-4)
    losses, expected = [], []
    for _ in range(10):
        loss, dlogits = weighted_cross_entropy(net.forward(x, train=True), labels, weights)
        net.backward(dlogits, need_dx=False)
        ours.step()
        losses.append(float(loss))
        theirs.zero_grad()
        energy = torch_energy(torch_unet(image, p, 2, variant), labels, weights)
        energy.backward()
        theirs.step()
        expected.append(energy.item())
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    assert losses[-1] < 0.98 * losses[0]  # something was learnt meanwhile, so there was something to compare


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize(
    "ours, theirs, options",
    [
        (SGD, torch.optim.SGD, dict(momentum=0.99)),
        (SGD, torch.optim.SGD, dict(momentum=0.0)),
        (RMSprop, torch.optim.RMSprop, {}),
        (RMSprop, torch.optim.RMSprop, dict(alpha=0.9, eps=1e-3)),
        (RMSprop, torch.optim.RMSprop, dict(momentum=0.9)),
        (RMSprop, torch.optim.RMSprop, dict(momentum=0.999, weight_decay=0.1)),
        (SGD, torch.optim.SGD, dict(momentum=0.9, weight_decay=0.1)),
        (Adam, torch.optim.Adam, dict(weight_decay=0.1)),
        (Adam, torch.optim.Adam, {}),
        (Adam, torch.optim.Adam, dict(eps=1e-2)),
    ],
)
def test_ten_steps_of_each_optimiser(ours, theirs, options, dtype, tolerance):
    rng = np.random.default_rng(0)
    parameter = Parameter(rng.standard_normal((4, 5)).astype(dtype))
    tensor = torch.tensor(parameter.value.copy(), requires_grad=True)
    optimizer, reference = ours({"p": parameter}, 0.01, **options), theirs([tensor], 0.01, **options)
    for _ in range(10):
        parameter.grad = (rng.standard_normal((4, 5)) * 10.0 ** rng.integers(-3, 3, (4, 5))).astype(dtype)
        tensor.grad = torch.tensor(parameter.grad)
        optimizer.step()
        reference.step()
        assert relative_error(parameter.value, tensor.detach().numpy()) < tolerance


def test_tied_maxima_share_their_winner_with_pytorch():
    """Both give the gradient of a tie to the first maximum, row by row."""
    from npunet.ops import max_pool2d, max_pool2d_backward

    rng = np.random.default_rng(2)
    x, dy = rng.integers(0, 3, (2, 8, 8, 4)).astype("float64"), rng.standard_normal((2, 4, 4, 4))
    _, ctx = max_pool2d(x)
    image = channels_first(x).requires_grad_()
    functional.max_pool2d(image, 2).backward(channels_first(dy))
    np.testing.assert_array_equal(max_pool2d_backward(dy, ctx), channels_last(image.grad))
