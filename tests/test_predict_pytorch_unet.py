"""npunet.predict as milesial's users know it:
.pth files, their mask values, one class, scale, viewing without saving.
"""

import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from npunet import InputError, UNet, evaluate, predict, tiling
from npunet.commands import prediction, scaling


def save_network(path, n_classes=2, mask_values=None, in_channels=3, **options):
    net = UNet(in_channels, n_classes, base_channels=2, depth=1, variant="pytorch-unet", seed=2, **options)
    net.forward(np.random.default_rng(0).random((4, 40, 40, in_channels)), train=True)
    logits = net.forward(np.random.default_rng(1).random((1, 40, 40, in_channels)))
    net.output.bias.value -= logits.mean(axis=(0, 1, 2))  # so that every class is found somewhere
    net.mask_values = mask_values
    net.save(path)
    return net


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (31, 42, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "car.png")
    return tmp_path / "car.png", pixels.astype(np.float32) / 255


def run(tmp_path, picture, *options, output=True):
    predict.main(
        [
            "--model",
            str(tmp_path / "net.pth"),
            "--input",
            str(picture[0]),
            *(["--output", str(tmp_path / "out")] if output else []),
            *map(str, options),
        ]
    )
    return np.asarray(Image.open(tmp_path / "out" / "car.png")) if output else None


@pytest.mark.parametrize(
    "n_classes, mask_values, written",
    [
        (2, None, [0, 255]),
        (2, [0, 1], [0, 255]),
        (2, [0, 255], [0, 255]),
        (2, [255, 0], [255, 0]),
        (1, [0, 1], [0, 255]),
        (1, [7, 90], [7, 90]),
        (3, None, [0, 1, 2]),
        (3, [0, 128, 255], [0, 128, 255]),
        (2, [[0, 0, 0], [255, 0, 9]], [[0, 0, 0], [255, 0, 9]]),
    ],
)
def test_masks_have_the_values_of_the_training_masks(tmp_path, picture, n_classes, mask_values, written, capsys):
    net = save_network(tmp_path / "net.pth", n_classes, mask_values)
    mask = run(tmp_path, picture)
    classes = tiling.predict(net, picture[1]).argmax(axis=-1)
    np.testing.assert_array_equal(mask, np.array(written, np.uint8)[classes])
    assert len(np.unique(classes)) == max(2, n_classes) and os.listdir(tmp_path / "out") == ["car.png"]
    assert (
        "colours" in capsys.readouterr().out
        if isinstance(written[0], list)
        else f"{written[1]}" in capsys.readouterr().out
    )


def test_values_of_16_bit_masks_are_left_out():
    net = UNet(base_channels=1, depth=1, n_classes=3)
    net.mask_values = [0, 300, 1000]
    np.testing.assert_array_equal(prediction.written_values(net), [0, 1, 2])


def test_a_stack_in_colours(tmp_path):
    net = save_network(tmp_path / "net.pth", 2, [[1, 2, 3], [250, 0, 9]], in_channels=1)
    stack = np.random.default_rng(3).integers(0, 256, (3, 20, 25), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    predict.main(
        [
            "--model",
            str(tmp_path / "net.pth"),
            "--input",
            str(tmp_path / "stack.tif"),
            "--output",
            str(tmp_path / "out"),
        ]
    )
    mask = tifffile.imread(tmp_path / "out" / "stack.tif")
    for page, found in zip(stack, mask, strict=True):
        classes = tiling.predict(net, page.astype(np.float32) / 255).argmax(axis=-1)
        np.testing.assert_array_equal(found, np.array([[1, 2, 3], [250, 0, 9]])[classes])


@pytest.mark.parametrize("n_classes", [1, 2])
def test_mask_threshold_and_probabilities(tmp_path, picture, n_classes):
    net = save_network(tmp_path / "net.pth", n_classes)
    p = tiling.predict(net, picture[1])[..., 1]
    mask = run(tmp_path, picture, "--mask-threshold", 0.3, "--probabilities", "float32")
    np.testing.assert_array_equal(mask > 0, p > 0.3)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "car_probability.tif"), p)


def test_scale(tmp_path, picture):
    net = save_network(tmp_path / "net.pth")
    mask = run(tmp_path, picture, "--scale", 0.5)
    expected = scaling.predict(net, picture[1], 0.5)[..., 1] > 0.5
    assert mask.shape == (31, 42) and 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(mask > 0, expected)
    with pytest.raises(InputError, match="--scale is 0.0"):
        run(tmp_path, picture, "--scale", 0)


def test_viewing_and_not_saving(tmp_path, picture, monkeypatch):
    """On a machine without a screen the view is written; where nothing may be written, that is said."""
    monkeypatch.setattr("matplotlib.get_backend", lambda: "agg")
    save_network(tmp_path / "net.pth")
    run(tmp_path, picture, "--viz")
    assert sorted(os.listdir(tmp_path / "out")) == ["car.png", "car_viz.png"]
    assert np.asarray(Image.open(tmp_path / "out" / "car_viz.png")).std() > 10
    with pytest.raises(InputError, match="no screen"):
        run(tmp_path, picture, "--viz", "--no-save", output=False)
    with pytest.raises(InputError, match="--output is missing"):
        run(tmp_path, picture, output=False)
    shown = []
    monkeypatch.setattr("matplotlib.get_backend", lambda: "TkAgg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: shown.append(True))
    before = sorted(os.listdir(tmp_path))
    run(tmp_path, picture, "--viz", "--no-save", output=False)
    assert shown and sorted(os.listdir(tmp_path)) == before


def test_a_network_of_three_classes_is_scored_by_its_mask_values(tmp_path, capsys):
    save_network(tmp_path / "net.pth", 3, [0, 100, 200])
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / "images" / "a.png")
    # 100 does not occur
    Image.fromarray(rng.choice([0, 200], (24, 24)).astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    evaluate.main(
        ["--model", str(tmp_path / "net.pth"), "--data", str(tmp_path), "--json", str(tmp_path / "scores.json")]
    )
    assert "pixel_accuracy" in capsys.readouterr().out
