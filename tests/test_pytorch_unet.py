"""milesial/Pytorch-UNet:
its network, written once more with PyTorch's modules from its published structure, gives the same answers.
"""

import copy

import numpy as np
import pytest

from npunet import UNet
from npunet.files import pytorch_unet
from npunet.gradient_check import relative_error
from npunet.loss import weighted_cross_entropy
from npunet.optimizers import SGD
from npunet.training import Plateau, Recipe, energy_of, make_optimizer, training_step

torch = pytest.importorskip(
    "torch", reason='PyTorch is not installed; pip install "npunet[torch]" adds it as an oracle for tests'
)
from milesial_unet import TheirUNet  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(1)  # its threads spin while ours work: small networks take ten times as long


def pair(in_channels=3, n_classes=2, bilinear=False, dtype="float32", base=4, seed=0):
    """Their network with random weights and statistics, and ours with the same ones."""
    torch.manual_seed(seed)
    theirs = TheirUNet(in_channels, n_classes, bilinear, base).to(getattr(torch, dtype))
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.add_(torch.randn_like(tensor) * 0.2)  # scales about 1, shifts about 0
    ours = UNet(in_channels, n_classes, base, 4, variant="pytorch-unet", bilinear=bilinear, dtype=dtype)
    pytorch_unet.fill(ours, {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}, "memory")
    return theirs, ours


def channels_first(x):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def channels_last(tensor):
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def in_our_layout(ours, named):
    """{our Parameter or Statistic: their array with our order of axes}."""
    return {
        array: named[name] if axes is None else named[name].transpose(axes)
        for name, (array, axes) in pytorch_unet.correspondence(ours).items()
        if name in named
    }


def far_from_kinks(theirs, x, distance=2e-5):
    """Whether float32 must see every ReLU and every maximum as float64 does: none of their inputs lies so near to 0, or
    two of them to each other, that rounding decides. Where it does, one unit moves the gradients near it by percents.
    """
    near = []

    def at_relu(module, inputs, output):  # what follows each normalisation
        near.append(output.abs().min() < distance)

    def at_pool(module, inputs, output):
        image = inputs[0][..., : 2 * output.shape[2], : 2 * output.shape[3]]
        first, second = image.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).topk(2, -1).values.unbind(-1)
        near.append(((first - second)[second > 0] < distance).any())  # zeros have no gradient

    network = copy.deepcopy(theirs).double().train()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.MaxPool2d)):
            module.register_forward_hook(at_relu if isinstance(module, nn.BatchNorm2d) else at_pool)
    with torch.no_grad():
        network(channels_first(x.astype("float64")))
    return not any(near)


SHAPES = [(2, 32, 48), (2, 37, 51), (1, 16, 33)]


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("in_channels, n_classes", [(1, 1), (3, 2), (1, 5), (3, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_inference(shape, in_channels, n_classes, bilinear, rng):
    theirs, ours = pair(in_channels, n_classes, bilinear)
    x = rng.uniform(0, 1, (*shape, in_channels)).astype("float32")
    expected = channels_last(theirs.eval()(channels_first(x)))
    logits = ours.forward(x)
    assert logits.shape == (*shape, n_classes) and logits.dtype == "float32"
    assert relative_error(logits, expected) < 1e-5


@pytest.mark.parametrize("dtype, tolerance, gradients", [("float32", 1e-5, 1e-4), ("float64", 1e-12, 1e-9)])
@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize(
    "in_channels, n_classes, shape", [(1, 2, (2, 48, 32)), (3, 5, (2, 39, 53)), (3, 1, (2, 45, 35))]
)
def test_training_pass_and_every_gradient(in_channels, n_classes, shape, bilinear, dtype, tolerance, gradients, rng):
    theirs, ours = pair(in_channels, n_classes, bilinear, dtype)
    draws = (rng.uniform(0, 1, (*shape, in_channels)).astype(dtype) for _ in range(200))
    x = next(x for x in draws if far_from_kinks(theirs, x))
    cotangent = rng.standard_normal((*shape, n_classes)).astype(dtype)
    image = channels_first(x).requires_grad_()
    expected = theirs.train()(image)
    (expected * channels_first(cotangent)).sum().backward()

    logits = ours.forward(x, train=True)
    dx = ours.backward(cotangent)
    assert relative_error(logits, channels_last(expected)) < tolerance
    assert relative_error(dx, channels_last(image.grad)) < gradients
    compared = in_our_layout(ours, {name: p.grad.numpy() for name, p in theirs.named_parameters()})
    assert len(compared) == len(ours.parameters)
    for name, parameter in ours.parameters.items():
        assert relative_error(parameter.grad, compared[parameter]) < gradients, name
    running = in_our_layout(ours, {name: b.numpy() for name, b in theirs.named_buffers()})
    for name, statistic in ours.statistics.items():
        assert relative_error(statistic.value, running[statistic]) < tolerance, name


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float64", 1e-9)])
@pytest.mark.parametrize("bilinear", [False, True])
def test_ten_losses_of_a_training(bilinear, dtype, tolerance):
    """Not on fewer pixels:
    a ReLU or maximum that flips by rounding then moves the batch's statistics by more than the tolerance.
    """
    theirs, ours = pair(3, 3, bilinear, dtype)
    rng = np.random.default_rng(0)
    x, labels = rng.uniform(0, 1, (2, 97, 83, 3)).astype(dtype), rng.integers(0, 3, (2, 97, 83))
    optimizer, reference = (
        SGD(ours.parameters, 0.003, momentum=0.9),
        torch.optim.SGD(theirs.train().parameters(), 0.003, momentum=0.9),
    )
    losses, expected = [], []
    for _ in range(10):
        loss, dlogits = weighted_cross_entropy(ours.forward(x, train=True), labels)
        ours.backward(dlogits, need_dx=False)
        optimizer.step()
        losses.append(float(loss))
        reference.zero_grad()
        energy = nn.functional.cross_entropy(theirs(channels_first(x)), torch.tensor(labels))
        energy.backward()
        reference.step()
        expected.append(energy.item())
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    assert losses[-1] < 0.99 * losses[0]
    # with the statistics of ten batches
    assert relative_error(ours.forward(x), channels_last(theirs.eval()(channels_first(x)))) < 10 * tolerance


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("in_channels, n_classes, bilinear", [(3, 2, False), (1, 1, True), (1, 5, True)])
def test_their_checkpoint_is_recognised(in_channels, n_classes, bilinear, old_format, tmp_path, rng):
    """As their train.py writes it: the state_dict with mask_values in it."""
    theirs, _ = pair(in_channels, n_classes, bilinear, base=3)
    values = {2: [0, 255], 1: [0, 1]}.get(n_classes, [[k, 0, 7] for k in range(n_classes)])
    torch.save(
        theirs.state_dict() | {"mask_values": values},
        tmp_path / "checkpoint_epoch5.pth",
        _use_new_zipfile_serialization=not old_format,
    )
    ours = UNet.load(tmp_path / "checkpoint_epoch5.pth")
    assert (ours.in_channels, ours.n_classes, ours.bilinear, ours.config["base_channels"], ours.depth) == (
        in_channels,
        n_classes,
        bilinear,
        3,
        4,
    )
    assert ours.mask_values == values and ours.config["variant"] == "pytorch-unet"
    x = rng.uniform(0, 1, (1, 37, 50, in_channels)).astype("float32")
    assert relative_error(ours.forward(x), channels_last(theirs.eval()(channels_first(x)))) < 1e-5
    logits = ours.forward(x, train=True)
    ours.backward(logits)  # it can be trained: nothing in it is read-only
    for parameter in ours.parameters.values():
        parameter.value += 1


@pytest.mark.parametrize("bilinear", [False, True])
def test_our_file_is_theirs(bilinear, tmp_path, rng):
    """Read as their predict.py and train.py --load do:
    mask_values taken out, the rest into load_state_dict, which is strict.
    """
    ours = UNet(3, 2, 4, 4, variant="pytorch-unet", bilinear=bilinear, seed=3)
    x = rng.uniform(0, 1, (2, 33, 48, 3)).astype("float32")
    ours.forward(x, train=True)  # moves the running statistics
    ours.save(tmp_path / "x.pth")
    state = torch.load(tmp_path / "x.pth", weights_only=True)
    assert state.pop("mask_values") == [0, 1]
    theirs = TheirUNet(3, 2, bilinear, 4)
    theirs.load_state_dict(state)
    assert list(state) == list(theirs.state_dict()) and state["inc.double_conv.1.num_batches_tracked"].item() == 1
    assert relative_error(ours.forward(x), channels_last(theirs.eval()(channels_first(x)))) < 1e-5


def their_dice_loss(p, q):
    """p, q of one shape; sums over everything, as with reduce_batch_first=True there."""
    intersection, total = 2 * (p * q).sum(), p.sum() + q.sum()
    return 1 - (intersection + 1e-6) / (total + 1e-6)


def their_energy(logits, labels):
    if logits.shape[1] == 1:
        target = labels.to(logits.dtype)
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], target) + their_dice_loss(
            torch.sigmoid(logits[:, 0]), target
        )
    one_hot = nn.functional.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
    return nn.functional.cross_entropy(logits, labels) + their_dice_loss(torch.softmax(logits, dim=1), one_hot)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-11)])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_their_loss_and_its_gradient(classes, dtype, tolerance, rng):
    logits = (3 * rng.standard_normal((2, 9, 7, classes))).astype(dtype)
    labels = rng.integers(0, max(2, classes), (2, 9, 7))
    tensor = channels_first(logits).requires_grad_()
    expected = their_energy(tensor, torch.tensor(labels))
    expected.backward()
    energy, dlogits = energy_of("cross-entropy+dice", logits, labels, None)
    assert float(energy) == pytest.approx(expected.item(), rel=tolerance)
    assert relative_error(dlogits, channels_last(tensor.grad)) < tolerance


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("float64", 1e-8)])
@pytest.mark.parametrize("n_classes, bilinear", [(1, True), (2, False), (3, True)])
def test_ten_steps_of_their_recipe(n_classes, bilinear, dtype, tolerance, rng):
    """RMSprop with momentum 0.999 and weight decay 1e-8, the gradient clipped to norm 1, cross-entropy plus Dice."""
    theirs, ours = pair(3, n_classes, bilinear, dtype)
    x, labels = rng.uniform(0, 1, (2, 48, 52, 3)).astype(dtype), rng.integers(0, max(2, n_classes), (2, 48, 52))
    recipe = Recipe(
        optimizer="rmsprop",
        learning_rate=1e-5,
        momentum=0.999,
        weight_decay=1e-8,
        loss="cross-entropy+dice",
        schedule="constant",
        warmup=0,
    )
    optimizer = make_optimizer(recipe, ours.parameters)
    reference = torch.optim.RMSprop(theirs.train().parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999)
    losses, expected = [], []
    for _ in range(10):
        loss, norm = training_step(ours, optimizer, x, labels, np.ones(labels.shape, dtype), clip=1.0, loss=recipe.loss)
        losses.append(loss)
        energy = their_energy(theirs(channels_first(x)), torch.tensor(labels))
        reference.zero_grad()
        energy.backward()
        expected_norm = nn.utils.clip_grad_norm_(theirs.parameters(), 1.0).item()
        if not expected:
            assert norm == pytest.approx(expected_norm, rel=tolerance)
        reference.step()
        expected.append(energy.item())
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    assert losses[-1] < losses[0]


def test_the_plateau_schedule_is_pytorchs(rng):
    tensor = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([tensor], lr=1.0)
    theirs, ours = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=5), Plateau()
    scores = [0.0, 0.1, 0.5, *np.minimum(0.6, rng.uniform(0, 0.7, 40)), 0.6, 0.6 * 1.00009, 0.6 * 1.0002, 0.61]
    factors = []
    for score in scores:
        optimizer.step()
        theirs.step(score)
        ours.report(score)
        factors.append((ours.factor, optimizer.param_groups[0]["lr"]))
    np.testing.assert_allclose(*zip(*factors), rtol=1e-12)
    assert factors[-1][0] < 1e-3
