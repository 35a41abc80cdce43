"""VGG: its chain against PyTorch's, its gradient against finite differences, other people's files."""

import math

import numpy as np
import pytest
from style_helpers import real_vgg, small_vgg

from npunet.errors import InputError
from npunet.files import torch_files
from npunet.gradient_check import directional_derivative, random_directions, relative_error
from npunet.machine.backend import to_cpu
from npunet.style import VGG, Objective, vgg

LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")


def test_chain_has_torchvisions_numbers():
    """As printed by torchvision's vgg19().features and vgg16().features."""
    numbers = {kind: [number for name, number in vgg.chain(kind) if name.startswith("conv")] for kind in vgg.KINDS}
    assert numbers["vgg19"] == [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    assert numbers["vgg16"] == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [number for name, number in vgg.chain("vgg19") if name.startswith("pool")] == [4, 9, 18, 27, 36]


@pytest.mark.parametrize("kind, parameters", [("vgg19", 20_024_384), ("vgg16", 14_714_688)])
def test_parameters_of_torchvisions_features(kind, parameters):
    """sum(p.numel() for p in vgg19().features.parameters()), and of vgg16()."""
    shapes = [vgg.weight_shape(kind, name) for name, _ in vgg.chain(kind) if name.startswith("conv")]
    assert sum(math.prod(shape) + shape[3] for shape in shapes) == parameters


@pytest.mark.parametrize("kind, layers", [("vgg19", LAYERS), ("vgg16", ("conv1_1", "conv3_3", "conv5_3"))])
def test_features_and_picture_gradient_are_pytorchs(kind, layers, monkeypatch, rng):
    torch = pytest.importorskip("torch")
    eye = small_vgg(monkeypatch, kind)
    check_against_torch(torch, eye, rng.random((2, 37, 48, 3)), layers, 1e-10)


@pytest.mark.shared_data
def test_real_weights_agree_with_pytorch(rng):
    torch = pytest.importorskip("torch")
    check_against_torch(torch, real_vgg(), rng.random((1, 64, 48, 3), np.float32), LAYERS[:4], 1e-4)


def check_against_torch(torch, eye, picture, layers, tolerance):
    from style_twin import torch_features

    x = torch.tensor(picture).permute(0, 3, 1, 2).clone().requires_grad_()
    expected = torch_features(eye)(x, layers)
    found = eye.forward(picture, layers)
    rng = np.random.default_rng(1)
    gradients = {
        name: rng.standard_normal(found[name].shape).astype(picture.dtype) / np.abs(found[name]).max()
        for name in layers
    }
    for name in layers:
        assert relative_error(found[name], expected[name].detach().permute(0, 2, 3, 1).numpy()) < tolerance, name
    sum((expected[name] * torch.tensor(gradients[name]).permute(0, 3, 1, 2)).sum() for name in layers).backward()
    assert relative_error(eye.backward(gradients), x.grad.permute(0, 2, 3, 1).numpy()) < tolerance


@pytest.mark.parametrize("kind", list(vgg.KINDS))
def test_gradient_by_finite_differences(kind, xp, monkeypatch, rng):
    """The step is small, for among a thousand ReLUs and maxima some are near their kink."""
    eye = small_vgg(monkeypatch, kind, xp=xp)
    layers = ["conv1_2", "conv3_2", "conv5_1"]
    picture = rng.random((1, 18, 21, 3))
    features = eye.forward(xp.asarray(picture), layers)
    cotangents = {name: rng.standard_normal(f.shape) for name, f in features.items()}
    dpicture = to_cpu(eye.backward({name: xp.asarray(g) for name, g in cotangents.items()}))
    direction = random_directions([picture], rng)

    def loss():
        found = eye.forward(xp.asarray(picture), layers, train=False)
        return sum(np.sum(to_cpu(found[name]) * cotangents[name]) for name in layers)

    assert (
        relative_error(np.sum(dpicture * direction[0]), directional_derivative(loss, [picture], direction, eps=1e-8))
        < 1e-5
    )


def test_arguments_are_left_alone(monkeypatch, rng):
    eye = small_vgg(monkeypatch)
    picture = rng.random((1, 16, 16, 3))
    features = eye.forward(picture, ["conv1_1", "conv2_1"])
    gradients = {name: rng.standard_normal(f.shape) for name, f in features.items()}
    before = [array.copy() for array in (picture, *features.values(), *gradients.values())]
    eye.backward(gradients)
    assert all(
        np.array_equal(array, kept) for array, kept in zip((picture, *features.values(), *gradients.values()), before)
    )


def test_nothing_above_the_last_layer_is_computed(monkeypatch, rng):
    eye = small_vgg(monkeypatch)
    for name in list(eye.weights)[5:]:  # from conv3_2 on
        eye.weights[name] = None  # touching them would fail
    features = eye.forward(rng.random((1, 16, 16, 3)), ["conv3_1", "conv1_1"])
    assert list(features) == ["conv3_1", "conv1_1"] and features["conv3_1"].shape == (1, 4, 4, 4)
    assert eye.context[-1][0] == "conv3_1"
    assert eye.backward({"conv1_1": features["conv1_1"]}).shape == (1, 16, 16, 3)  # a gradient from below only


def test_relu_names_are_the_same_maps(monkeypatch, rng):
    eye = small_vgg(monkeypatch)
    picture = rng.random((1, 8, 8, 3))
    features = eye.forward(picture, ["relu2_1"])
    assert np.array_equal(features["relu2_1"], eye.forward(picture, ["conv2_1"])["conv2_1"])
    assert (features["relu2_1"] >= 0).all() and (features["relu2_1"] == 0).any()


def test_backward_uses_a_forward_pass_once(monkeypatch, rng):
    eye = small_vgg(monkeypatch)
    picture = rng.random((1, 8, 8, 3))
    features = eye.forward(picture, ["conv1_1"], train=False)
    with pytest.raises(RuntimeError, match="no forward pass"):
        eye.backward(features)


@pytest.mark.parametrize(
    "kind, stem, last", [("vgg19", "features.", "conv4_4"), ("vgg16", "", "conv5_3"), ("vgg19", "", "conv2_1")]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files(kind, stem, last, suffix, monkeypatch, rng, tmp_path):
    """Whole or cut off, with and without the name features, a classifier beside it, half precision."""
    eye = small_vgg(monkeypatch, kind, dtype="float32")
    tensors = {}
    for name, number in vgg.chain(kind):
        if name.startswith("conv"):
            weight, bias = eye.weights[name]
            tensors |= {
                f"{stem}{number}.weight": np.ascontiguousarray(weight.transpose(3, 2, 0, 1)).astype(
                    "float16" if name == last else "float32"
                ),
                f"{stem}{number}.bias": bias,
            }
            if name == last:
                break
    if stem:
        tensors["classifier.0.weight"] = rng.random((4, 5), np.float32)
    path = tmp_path / f"weights{suffix}"
    (torch_files.save_torch if suffix == ".pth" else torch_files.save_safetensors)(path, tensors)
    loaded = VGG.load(path)
    assert loaded.layers[-1] == last and loaded.kind == kind or last == "conv2_1"
    for name in loaded.layers:
        half = np.float16 if name == last else np.float32
        assert np.array_equal(loaded.weights[name][0], eye.weights[name][0].astype(half)), name
        assert loaded.weights[name][0].dtype == np.float32
        assert np.array_equal(loaded.weights[name][1], eye.weights[name][1])
    if last != "conv5_3":
        with pytest.raises(InputError, match="conv5_1: no weights for it in this file; there are conv1_1, "):
            loaded.forward(rng.random((1, 32, 32, 3), np.float32), ["conv5_1"])


def test_other_files_are_refused(tmp_path, rng):
    good = {"features.0.weight": rng.random((64, 3, 3, 3), np.float32), "features.0.bias": rng.random(64, np.float32)}
    others = {
        "no VGG16 or VGG19": {"inc.double_conv.0.weight": good["features.0.weight"]},
        r"found modules 0, 3\)": good
        | {"features.3.weight": good["features.0.weight"]},  # VGG11, and networks with batch normalisation
        r"features.0.weight has shape \(32, 3, 3, 3\)": {name: value[:32] for name, value in good.items()},
        "with a bias": {"features.0.weight": good["features.0.weight"]},
    }
    for message, tensors in others.items():
        torch_files.save_torch(tmp_path / "other.pth", tensors)
        with pytest.raises(InputError, match=message):
            VGG.load(tmp_path / "other.pth")


def test_bad_pictures_and_layers(monkeypatch, rng):
    eye = small_vgg(monkeypatch)
    with pytest.raises(InputError, match=r"shape \(8, 8, 3\); expected \(N, H, W, 3\)"):
        eye.forward(rng.random((8, 8, 3)), ["conv1_1"])
    with pytest.raises(InputError, match="8 x 9 pixels are too small for conv5_1"):
        eye.forward(rng.random((1, 8, 9, 3)), ["conv5_1"])
    with pytest.raises(InputError, match="layer conv3_5: vgg19 has none of that name"):
        eye.forward(rng.random((1, 8, 8, 3)), ["conv3_5"])


def test_unit_tells_caffes_scale(monkeypatch):
    eye = small_vgg(monkeypatch, dtype="float32")
    assert eye.unit == 1
    weights = dict(eye.weights)
    weights["conv1_1"] = 57 * weights["conv1_1"][0], weights["conv1_1"][1]
    assert VGG(weights).unit == pytest.approx(57.63, abs=0.01)


@pytest.mark.shared_data
def test_real_weights_have_caffes_scale():
    assert real_vgg().unit == pytest.approx(57.63, abs=0.01)


def test_a_layer_may_be_stronger_if_the_next_is_weaker(monkeypatch, rng):
    """Later maps stay; the style loss of that layer alone changes, by the fourth power (see VGG's docstring)."""
    eye, factor = small_vgg(monkeypatch), 3.0
    weights = dict(eye.weights)
    weights["conv1_2"] = tuple(factor * array for array in weights["conv1_2"])
    weights["conv2_1"] = weights["conv2_1"][0] / factor, weights["conv2_1"][1]
    other = VGG(weights, dtype="float64")
    picture, style = rng.random((2, 1, 32, 32, 3))
    layers = ["conv1_1", "conv1_2", "conv2_1", "conv4_2"]
    found, expected = (one.forward(picture, layers, train=False) for one in (other, eye))
    for name in layers:
        assert np.allclose(found[name], expected[name] * (factor if name == "conv1_2" else 1), rtol=1e-9), name
    losses = {}
    for one, strength in ((other, "strong"), (eye, "plain")):
        for layer in layers[1:3]:
            objective = Objective(one, (), (layer,), style_weight=1.0).set_style(style)
            losses[strength, layer] = objective(picture, {})[0]["style"]
    assert losses["strong", "conv1_2"] == pytest.approx(factor**4 * losses["plain", "conv1_2"])
    assert losses["strong", "conv2_1"] == pytest.approx(losses["plain", "conv2_1"])
