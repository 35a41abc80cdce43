import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from npunet import InputError, UNet, datasets, predict, tiling
from npunet.commands import memory_needs, prediction, tiff_on_disk
from npunet.files import images

TILE = "44"


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def save_network(path, in_channels=1, n_classes=2):
    net = UNet(in_channels, n_classes, base_channels=2, depth=1, seed=2)
    logits = tiling.predict(net, np.random.default_rng(0).random((40, 40, in_channels)), 44)
    net.output.bias.value -= np.log(logits).mean(axis=(0, 1))  # so that every class is found somewhere
    net.save(path)
    return UNet.load(path)


@pytest.fixture
def model(tmp_path):
    save_network(tmp_path / "model.npz")
    return tmp_path / "model.npz"


def grey(rng, *shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def run(model, output, *inputs, options=()):
    predict.main(
        ["--model", str(model), "--input", *map(str, inputs), "--output", str(output), "--tile", TILE, *options]
    )


def expected_mask(net, image, threshold=0.5):
    return np.where(tiling.predict(net, image, 44)[..., 1] > threshold, 255, 0)


@pytest.mark.parametrize("shape", [(61, 45), (3, 50), (50, 3), (1, 1)])
def test_mask_of_one_picture(model, tmp_path, rng, shape, capsys):
    pixels = grey(rng, *shape)
    Image.fromarray(pixels).save(tmp_path / "cell.png")
    run(model, tmp_path / "out", tmp_path / "cell.png")
    mask = np.asarray(Image.open(tmp_path / "out" / "cell.png"))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected_mask(UNet.load(model), pixels.astype(np.float32) / 255))
    assert shape[0] * shape[1] < 100 or set(np.unique(mask)) == {0, 255}
    assert os.listdir(tmp_path / "out") == ["cell.png"]
    assert str(tmp_path / "out") in capsys.readouterr().out


@pytest.mark.parametrize("scale, parts", [(1.0, 2 * 6), (0.5, 2)])
def test_progress_counts_to_the_number_that_it_named(model, tmp_path, rng, scale, parts):
    """Two pages of 3 x 2 tiles, 28 x 28 pixels of each are kept; at another scale a page is one part."""
    tifffile.imwrite(tmp_path / "stack.tif", grey(rng, 2, 61, 45))
    told, net = [], UNet.load(model)
    prediction.predict_file(
        net, tmp_path / "stack.tif", tmp_path / "out", 44, scale=scale, progress=lambda *at: told.append(at)
    )
    assert told == [(done, parts) for done in range(1, parts + 1)]


@pytest.mark.parametrize("shape", [(4, 30, 37), (2, 1, 3), (3, 3, 1), (2, 5, 4)])
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_stack_in_stack_out(model, tmp_path, rng, shape, kind):
    pixels = rng.integers(100, 4000, shape, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", pixels, photometric="minisblack", metadata=None)
    run(model, tmp_path / "out", tmp_path / "stack.tif", options=["--probabilities", kind, "--threshold", "0.4"])
    net, pages = UNet.load(model), images.read_image(tmp_path / "stack.tif")  # scaled over the whole file
    p = np.stack([tiling.predict(net, page, 44)[..., 1] for page in pages])
    with Image.open(tmp_path / "out" / "stack.tif") as picture:  # Pillow: a reader that did not write it
        assert picture.n_frames == shape[0] and picture.size == (shape[2], shape[1])
        for page in range(shape[0]):
            picture.seek(page)
            np.testing.assert_array_equal(np.asarray(picture), np.where(p[page] > 0.4, 255, 0))
    written = tifffile.imread(tmp_path / "out" / "stack_probability.tif").reshape(shape)
    assert written.dtype == kind
    np.testing.assert_allclose(
        written, np.round(p * 65535) if kind == "uint16" else p, atol=1 if kind == "uint16" else 1e-6
    )
    assert [len(images.open_image(tmp_path / "out" / name)) for name in ("stack.tif", "stack_probability.tif")] == [
        shape[0]
    ] * 2


def test_several_classes_are_written_as_numbers_and_pages_of_probabilities(tmp_path, rng):
    net = save_network(tmp_path / "model.npz", n_classes=3)
    pixels = grey(rng, 40, 40)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    run(tmp_path / "model.npz", tmp_path / "out", tmp_path / "a.png", options=["--probabilities", "float32"])
    p = tiling.predict(net, pixels.astype(np.float32) / 255, 44)
    mask = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    np.testing.assert_array_equal(mask, p.argmax(axis=-1))
    assert set(np.unique(mask)) == {0, 1, 2}
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "a_probability.tif"), np.moveaxis(p, 2, 0), atol=1e-6)


def test_a_large_page_goes_to_disk_as_tiff(model, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(prediction, "LARGEST_PNG", 500)
    pixels = grey(rng, 30, 40)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    run(model, tmp_path / "out", tmp_path / "a.png")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out" / "a.tif"), expected_mask(UNet.load(model), pixels.astype(np.float32) / 255)
    )


def test_augment_reaches_the_network(model, tmp_path, rng):
    pixels = grey(rng, 40, 40)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    run(model, tmp_path / "out", tmp_path / "a.png", options=["--augment", "--probabilities", "float32"])
    p = tiling.predict(UNet.load(model), pixels.astype(np.float32) / 255, 44, augment=True)[..., 1]
    np.testing.assert_allclose(tifffile.imread(tmp_path / "out" / "a_probability.tif"), p, atol=1e-6)


def test_grey_for_a_colour_network_and_the_reverse(model, tmp_path, rng):
    colour_net = save_network(tmp_path / "colour.npz", in_channels=3)
    pixels = grey(rng, 30, 31)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([pixels] * 3, axis=2)).save(tmp_path / "grey_rgb.png")
    Image.fromarray(grey(rng, 30, 31, 3)).save(tmp_path / "colour.png")
    scaled = pixels.astype(np.float32) / 255
    run(tmp_path / "colour.npz", tmp_path / "out", tmp_path / "grey.png")
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out" / "grey.png")), expected_mask(colour_net, np.stack([scaled] * 3, axis=2))
    )
    run(model, tmp_path / "out", tmp_path / "grey_rgb.png")
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out" / "grey_rgb.png")), expected_mask(UNet.load(model), scaled)
    )
    with pytest.raises(InputError, match="3 channels, expected 1"):
        run(model, tmp_path / "out", tmp_path / "colour.png")
    assert sorted(os.listdir(tmp_path / "out")) == ["grey.png", "grey_rgb.png"]


def test_folders_and_files(model, tmp_path, rng):
    (tmp_path / "in").mkdir()
    for name in ("in/b.png", "in/a.tif", "c.jpg"):
        Image.fromarray(grey(rng, 20, 20)).save(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    run(model, tmp_path / "out", tmp_path / "in", tmp_path / "c.jpg")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png", "c.png"]


# Refusals, each before any work ---------------------------------------------------------------------------------------


def test_two_inputs_of_one_name_are_refused(model, tmp_path, rng):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(grey(rng, 20, 20)).save(tmp_path / folder / "a.png")
    Image.fromarray(grey(rng, 20, 20)).save(tmp_path / "A.tif")
    Image.fromarray(grey(rng, 20, 20)).save(tmp_path / "a_probability.png")
    for other in ("two/a.png", "A.tif", "a_probability.png"):
        with pytest.raises(InputError, match="would both be written"):
            run(model, tmp_path / "out", tmp_path / "one", tmp_path / other)
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_overwritten(model, tmp_path, rng):
    Image.fromarray(grey(rng, 20, 20)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(InputError, match="would overwrite"):
        run(model, tmp_path, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize(
    "options, words",
    [
        (["--tile", "45"], "tile 45 is not a valid input size; nearest are 44 and 46"),
        (["--threshold", "128"], "expected a probability"),
        (["--no-save"], "--no-save without --viz leaves nothing to do"),
    ],
)
def test_bad_options(model, tmp_path, rng, options, words):
    Image.fromarray(grey(rng, 20, 20)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=words):
        run(model, tmp_path / "out", tmp_path / "a.png", options=options)
    assert not (tmp_path / "out").exists()


def test_images_are_seen_at_the_scale_of_the_training_run(tmp_path, rng):
    UNet(base_channels=1, depth=1, seed=3).save(tmp_path / "best.npz")
    Image.fromarray(grey(rng, 30, 41)).save(tmp_path / "a.png")
    for name, text, options in (
        ("told", "{}", ["--scale", "0.5"]),
        ("known", '{"options": {"scale": 0.5}}', []),
        ("whole", "{}", []),
    ):
        (tmp_path / "config.json").write_text(text)
        run(
            tmp_path / "best.npz", tmp_path / name, tmp_path / "a.png", options=["--probabilities", "float32", *options]
        )
    told, known, whole = (tifffile.imread(tmp_path / name / "a_probability.tif") for name in ("told", "known", "whole"))
    assert np.array_equal(told, known) and not np.array_equal(told, whole)


def test_missing_files(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no such file"):
        run(model, tmp_path / "out", tmp_path / "nothing.png")
    with pytest.raises(InputError, match="no image in this folder"):
        run(model, tmp_path / "out", tmp_path / "empty")


def test_output_that_is_a_file(model, tmp_path, rng):
    Image.fromarray(grey(rng, 20, 20)).save(tmp_path / "a.png")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="--output"):
        run(model, tmp_path / "out", tmp_path / "a.png")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_full_disk_is_noticed_before_the_map_is_made(model, tmp_path, rng, monkeypatch):
    tifffile.imwrite(tmp_path / "stack.tif", grey(rng, 2, 20, 20), photometric="minisblack")
    monkeypatch.setattr(tiff_on_disk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 799}))
    with pytest.raises(InputError, match="make room"):
        run(model, tmp_path / "out", tmp_path / "stack.tif")


# Being stopped --------------------------------------------------------------------------------------------------------


def test_stopped_in_the_middle_keeps_what_is_finished_and_nothing_else(model, tmp_path, rng, monkeypatch, capsys):
    Image.fromarray(grey(rng, 20, 20)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", grey(rng, 3, 20, 20), photometric="minisblack")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.tif").write_text("the result of an earlier run")
    forward, calls = UNet.forward, []

    def interrupted(net, x, train=False):
        calls.append(x)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(net, x, train)

    monkeypatch.setattr(UNet, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "out", tmp_path / "a.png", tmp_path / "b.tif", options=["--probabilities", "float32"])
    assert "1 of 2 images are done" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "a_probability.tif", "b.tif"]
    assert (tmp_path / "out" / "b.tif").read_text() == "the result of an earlier run"


@pytest.mark.parametrize("free", [10**12, 1])
def test_auto_tile_takes_the_largest_image_whole_where_memory_allows(model, tmp_path, rng, monkeypatch, free):
    """80 pixels: an output of 80; without memory the smallest that fits together, of two pixels at depth 1.

    The mask is the same.
    """
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: free)
    used = []
    predict_tiles = tiling.predict_tiles
    monkeypatch.setattr(
        tiling,
        "predict_tiles",
        lambda net, page, size, augment: used.append(size) or predict_tiles(net, page, size, augment),
    )
    for name, side in (("small", 12), ("large", 20)):
        Image.fromarray(grey(rng, 4 * side, side)).save(tmp_path / f"{name}.png")
    images_given = [str(tmp_path / f"{name}.png") for name in ("small", "large")]
    predict.main(
        ["--model", str(model), "--input", *images_given, "--output", str(tmp_path / "found"), "--tile", "auto"]
    )
    border = 44 - UNet.load(model).output_size(44)
    assert used == [2 + border if free == 1 else 80 + border] * 2
    net = UNet.load(model)
    found = np.asarray(Image.open(tmp_path / "found" / "large.png"))
    expected = expected_mask(net, images.read_image(tmp_path / "large.png")[0])
    assert (found == expected).mean() > 0.999


def test_from_the_command_line(model, tmp_path, rng):
    Image.fromarray(grey(rng, 20, 20)).save(tmp_path / "a.png")
    command = [
        sys.executable,
        "-m",
        "npunet.predict",
        "--model",
        str(model),
        "--input",
        str(tmp_path / "a.png"),
        "--output",
        str(tmp_path / "out"),
    ]
    good = subprocess.run([*command, "--tile", TILE], capture_output=True, text=True)
    assert good.returncode == 0 and (tmp_path / "out" / "a.png").exists()
    bad = subprocess.run([*command, "--tile", "45"], capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stderr.startswith("error: tile 45") and bad.stderr.count("\n") == 1


def test_a_network_of_256_classes_can_be_predicted_with(tmp_path):
    net = UNet(1, 256, 2, 1)
    net.save(tmp_path / "net.npz")
    words = ["--model", str(tmp_path / "net.npz"), "--input", "a.png", "--output", "out"]
    options = predict.parser().parse_args(words)
    assert predict.load_network(options).n_labels == 256
    UNet(1, 257, 2, 1).save(tmp_path / "net.npz")
    with pytest.raises(InputError, match="257 classes"):
        predict.load_network(options)


def test_what_the_masks_mean_is_said_in_words():
    net = UNet(1, 3, 2, 1)
    assert "pixel values 0, 1, 2 are the classes; they may look dark" in prediction.described(net, 2, "out", "none")
    assert "2 images predicted; masks (0 and 255)" in prediction.described(UNet(1, 2, 2, 1), 2, "out", "none")
    names = "class 0 background / membrane", "class 1 object / cell interior"
    assert all(name in datasets.describe(datasets.synthetic(2, 64)) for name in names)
