"""Files of milesial/Pytorch-UNet without PyTorch:
both formats both ways, what does not fit is listed, stored reference values.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from npunet import UNet
from npunet.errors import InputError
from npunet.files import checkpoint, pytorch_unet, torch_files
from npunet.gradient_check import relative_error

REFERENCE = Path(__file__).parent / "reference"


def network(bilinear=False, **options):
    net = UNet(
        **dict(in_channels=2, n_classes=3, base_channels=2, depth=2) | options,
        variant="pytorch-unet",
        bilinear=bilinear,
    )
    x = np.random.default_rng(4).uniform(0, 1, (2, 13, 18, net.in_channels))
    net.forward(x, train=True)  # so that the running statistics are not those of the start
    return net, x


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("options", [dict(), dict(n_classes=1, in_channels=1, depth=1), dict(dtype="float64", depth=3)])
def test_round_trip(tmp_path, suffix, bilinear, options):
    net, x = network(bilinear, **options)
    net.mask_values = [7 * k for k in range(net.n_labels)]
    net.save(tmp_path / ("net" + suffix))
    again = UNet.load(tmp_path / ("net" + suffix))
    assert again.mask_values == net.mask_values and again.dtype == net.dtype
    assert {name: again.config[name] for name in net.config if name not in ("seed", "dropout")} == {
        name: net.config[name] for name in net.config if name not in ("seed", "dropout")
    }
    for kind in ("parameters", "statistics"):
        assert getattr(again, kind).keys() == getattr(net, kind).keys()
        for name, array in getattr(net, kind).items():
            np.testing.assert_array_equal(getattr(again, kind)[name].value, array.value)
    np.testing.assert_array_equal(again.forward(x), net.forward(x))
    assert os.listdir(tmp_path) == ["net" + suffix]


def test_names_and_layout_are_theirs(tmp_path):
    net, _ = network()
    net.save(tmp_path / "net.pth")
    tensors, extra = torch_files.load_tensors(tmp_path / "net.pth")
    assert extra == {"mask_values": [0, 1, 2]}
    assert list(tensors)[:7] == [
        "inc.double_conv.0.weight",
        "inc.double_conv.1.weight",
        "inc.double_conv.1.bias",
        "inc.double_conv.1.running_mean",
        "inc.double_conv.1.running_var",
        "inc.double_conv.1.num_batches_tracked",
        "inc.double_conv.3.weight",
    ]
    shapes = {
        "down1.maxpool_conv.1.double_conv.0.weight": (4, 2, 3, 3),
        "down2.maxpool_conv.1.double_conv.3.weight": (8, 8, 3, 3),
        "up1.up.weight": (8, 4, 2, 2),
        "up2.conv.double_conv.0.weight": (2, 4, 3, 3),
        "outc.conv.weight": (3, 2, 1, 1),
    }
    assert {name: tensors[name].shape for name in shapes} == shapes
    np.testing.assert_array_equal(
        tensors["up1.up.weight"][5, 2], net.parameters["expansive.1.up.weight"].value[:, :, 5, 2]
    )
    np.testing.assert_array_equal(
        tensors["inc.double_conv.0.weight"][1, 0], net.parameters["contracting.0.conv1.weight"].value[:, :, 0, 1]
    )


def changed(tmp_path, **changes):
    """A file of `network()` with some tensors replaced, or left out (None)."""
    net, _ = network()
    net.save(tmp_path / "good.pth")
    tensors, _ = torch_files.load_tensors(tmp_path / "good.pth")
    tensors = {name: value for name, value in (tensors | changes).items() if value is not None}
    torch_files.save_torch(tmp_path / "changed.pth", tensors)
    return tmp_path / "changed.pth"


def refused(path):
    with pytest.raises(InputError) as error:
        UNet.load(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message and len(message) < 1000
    return message


def test_what_does_not_fit_is_listed(tmp_path):
    message = refused(
        changed(
            tmp_path,
            **{"up2.conv.double_conv.1.bias": None, "style.weight": np.zeros(2), "outc.conv.bias": np.zeros(5)},
        )
    )
    assert "up2.conv.double_conv.1.bias is missing" in message and "style.weight is unexpected" in message
    assert "outc.conv.bias has shape (5,) instead of (3,)" in message
    message = refused(changed(tmp_path, **{"down1.maxpool_conv.1.double_conv.3.weight": np.zeros((4, 4, 5, 5))}))
    assert "down1.maxpool_conv.1.double_conv.3.weight has shape (4, 4, 5, 5) instead of (4, 4, 3, 3)" in message


@pytest.mark.parametrize(
    "name", ["inc.double_conv.0.weight", "down1.maxpool_conv.1.double_conv.0.weight", "outc.conv.weight"]
)
def test_files_of_other_networks(tmp_path, name):
    assert name in refused(changed(tmp_path, **{name: None}))
    assert name in refused(changed(tmp_path, **{name: np.zeros((3, 2))}))
    assert name in refused(changed(tmp_path, **{name: np.zeros((0, 2, 3, 3))}))


def test_a_tensor_that_claims_a_giant_network_costs_no_memory(tmp_path):
    message = refused(changed(tmp_path, **{"inc.double_conv.0.weight": np.zeros((30_000, 2, 1, 1), np.uint8)}))
    assert "30000 base channels" in message


def test_missing_counts_and_the_prefix_of_parallel_training_are_no_obstacle(tmp_path):
    net, x = network()
    net.save(tmp_path / "good.pth")
    tensors, _ = torch_files.load_tensors(tmp_path / "good.pth")
    torch_files.save_torch(
        tmp_path / "parallel.pth",
        {f"module.{name}": value for name, value in tensors.items() if "num_batches" not in name},
    )
    again = UNet.load(tmp_path / "parallel.pth")
    np.testing.assert_array_equal(again.forward(x), net.forward(x))
    assert again.mask_values is None


def test_half_precision_is_taken_as_float32(tmp_path):
    net, x = network()
    net.save(tmp_path / "good.pth")
    tensors, _ = torch_files.load_tensors(tmp_path / "good.pth")
    torch_files.save_torch(
        tmp_path / "half.pth",
        {name: value.astype("float16") if value.ndim else value for name, value in tensors.items()},
    )
    again = UNet.load(tmp_path / "half.pth")
    assert again.dtype == "float32" and relative_error(again.forward(x), net.forward(x)) < 1e-2


@pytest.mark.parametrize(
    "entry, kept",
    [
        ([0, 128, 255], True),
        (([0, 0, 0], [9, 9, 9], [1, 2, 3]), True),
        ([0, 1], False),
        ("[0, 1, 2]", True),
        ("nonsense", False),
        ([0, 1, "x"], False),
        ([0, 1, [1, 2, 3]], False),
        (None, False),
        ([0, 1, 999], False),
    ],
)
def test_mask_values_that_make_no_sense_are_left_out(entry, kept):
    assert (pytorch_unet.mask_values({"mask_values": entry}, 3) is not None) == kept


@pytest.mark.parametrize(
    "options",
    [
        dict(variant="paper"),
        dict(variant="release"),
        dict(variant="style"),
        dict(variant="pytorch-unet", input_mean=0.5),
    ],
)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_what_their_layout_cannot_hold_is_refused(tmp_path, name, options):
    with pytest.raises(InputError, match="as .npz"):
        UNet(base_channels=2, depth=1, **options).save(tmp_path / name)
    assert not os.listdir(tmp_path)


def test_npz_with_missing_or_strange_statistics(tmp_path):
    net, _ = network()
    entries = checkpoint.network_entries(net)
    name = "statistic/contracting.0.norm1.running_mean"
    for change, words in ((None, "norm1.running_mean is missing"), (np.zeros(3), "norm1.running_mean has shape")):
        checkpoint.save(
            tmp_path / "bad.npz", {key: value for key, value in (entries | {name: change}).items() if value is not None}
        )
        with pytest.raises(InputError, match=words):
            UNet.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("kind", ["transposed", "bilinear"])
def test_stored_values_of_pytorch(kind):
    """What PyTorch computed from the same file, see reference/make_pytorch_unet.py: for machines without it."""
    net = UNet.load(REFERENCE / f"unet_{kind}.pth")
    with np.load(REFERENCE / f"unet_{kind}.npz") as file:
        expected = {name: file[name] for name in file.files}
    x = expected.pop("image")
    assert relative_error(net.forward(x), expected.pop("applied")) < 1e-5
    assert relative_error(net.forward(x, train=True), expected.pop("trained")) < 1e-5
    dx = net.backward(expected.pop("cotangent"))
    assert relative_error(dx, expected.pop("image.grad")) < 1e-4
    mapping = pytorch_unet.correspondence(net)
    assert {name.removesuffix(".grad") for name in expected} == set(mapping) - {
        n for n in mapping if "running" in n or "batches" in n
    }
    for name, gradient in expected.items():
        parameter, axes = mapping[name.removesuffix(".grad")]
        assert relative_error(parameter.grad, gradient if axes is None else gradient.transpose(axes)) < 1e-4, name


def test_safetensors_metadata_are_text(tmp_path):
    net, _ = network()
    net.save(tmp_path / "net.safetensors")
    assert json.loads(torch_files.load_tensors(tmp_path / "net.safetensors")[1]["mask_values"]) == [0, 1, 2]
