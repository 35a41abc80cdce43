"""python -m npunet.export: the files, the options, and packages that bioimage.io's own tools accept and run.

bioimageio.spec validates a package by its description, bioimageio.core by running it; both are extras.
"""

import gc
import io
import json
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from npunet import UNet, tiling
from npunet.errors import InputError
from npunet.export import __main__ as export
from npunet.export import bioimageio
from npunet.export.grey_scaling import GreyScaling
from npunet.export.yaml_text import to_yaml
from npunet.files import images

EXTRA = 'needs the extra "formats": pip install "npunet[formats]"'
NETWORKS = {  # name: options, and whether the package is made with a 16-bit picture
    "paper": (dict(base_channels=4, depth=3, input_mean=0.4, input_std=0.3), False),
    "padded": (dict(base_channels=4, depth=2, variant="padded"), True),
    "bilinear": (
        dict(in_channels=3, n_classes=1, base_channels=2, depth=2, variant="pytorch-unet", bilinear=True),
        False,
    ),
    "float16": (dict(base_channels=8, depth=2, input_mean=0.5, input_std=0.2), False),  # of its weights
    "style": (dict(in_channels=3, n_classes=3, base_channels=2, depth=1, variant="style"), False),
}


def picture_16_bit(folder):
    path = folder / "microscope.tif"
    pixels = np.random.default_rng(0).integers(100, 4000, (300, 210), np.uint16)
    tifffile.imwrite(path, pixels)
    return path


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("packages"), {}
    for name, (options, sixteen_bit) in NETWORKS.items():
        net, path = UNet(**options, seed=1), folder / f"{name}.zip"
        image = picture_16_bit(folder) if sixteen_bit else None
        weights = "float16" if name == "float16" else "float32"
        bioimageio.save_package(net, path, authors=["A. Person"], licence="CC-BY-4.0", image=image, weights=weights)
        found[name] = net, path
    return found


@pytest.fixture
def zoo(monkeypatch, tmp_path):
    """bioimageio.core. It leaves the packages that it read open; they are closed while warnings are none of ours."""
    monkeypatch.setenv("BIOIMAGEIO_CACHE_PATH", str(tmp_path))
    yield pytest.importorskip("bioimageio.core", reason=EXTRA)
    gc.collect()


def read(path):
    """{name: bytes} of a package."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_package_holds_its_parts(name, packages):
    net, path = packages[name]
    content = read(path)
    parts = ["rdf.yaml", "model.onnx", "test_input.npy", "test_output.npy", "README.md", "cover.png"]
    assert list(content) == parts
    picture, expected = (np.load(io.BytesIO(content[f"test_{key}.npy"])) for key in ("input", "output"))
    assert picture.dtype == (np.uint16 if NETWORKS[name][1] else np.uint8) and picture.shape[1] == net.in_channels
    assert expected.shape[2:] == picture.shape[2:]
    if name != "style":
        assert np.allclose(expected.sum(axis=1), 1, atol=1e-6)
    assert Image.open(io.BytesIO(content["cover.png"])).size == (512, 256)
    assert b"## Validation" in content["README.md"]


def test_the_expected_output_is_that_of_predict(packages, tmp_path):
    """Written as a picture and read again by npunet's own rule, the test input gives the test output."""
    for name, suffix in (("paper", "png"), ("padded", "tif")):
        net, path = packages[name]
        content = read(path)
        picture, expected = (np.load(io.BytesIO(content[f"test_{key}.npy"])) for key in ("input", "output"))
        file = tmp_path / f"{name}.{suffix}"
        (Image.fromarray(picture[0, 0]).save if suffix == "png" else lambda f: tifffile.imwrite(f, picture[0, 0]))(file)
        found = tiling.predict(net, images.read_image(file)[0], tile=348)  # of which 256 and more come out
        assert np.abs(found - np.moveaxis(expected[0], 0, -1)).max() < 1e-6


def preprocessed(steps, values):
    """What the specification says of these steps: https://bioimage-io.github.io/spec-bioimage-io."""
    for step in steps:
        words = step["kwargs"]
        if step["id"] == "scale_linear":
            values = values * words["gain"] + words["offset"]
        elif step["id"] == "scale_range":
            low, high = np.percentile(values, [words["min_percentile"], words["max_percentile"]])
            values = (values - low) / (high - low)
        elif step["id"] == "clip":
            values = np.clip(values, words["min"], words["max"])
    return values


@pytest.mark.parametrize("by", ["file", "training", "type"])
@pytest.mark.parametrize("own_picture", [True, False])
def test_a_package_scales_grey_values_as_the_training_run_was_told(by, own_picture, tmp_path, monkeypatch):
    net = UNet(base_channels=2, depth=2, input_mean=0.4, input_std=0.3, seed=1)
    rule = images.GreyRule(by, *((900.0, 3100.0) if by == "training" else ()))
    net.grey_rule = rule.as_dict()
    kept = []
    monkeypatch.setattr(bioimageio, "to_yaml", lambda rdf: kept.append(rdf) or "")
    image = picture_16_bit(tmp_path) if own_picture else None
    bioimageio.save_package(net, tmp_path / "net.zip", image=image)
    content = read(tmp_path / "net.zip")
    picture, expected = (np.load(io.BytesIO(content[f"test_{key}.npy"])) for key in ("input", "output"))
    (given,) = kept[0]["inputs"]
    assert picture.dtype == np.uint16 and given["data"] == {"type": "uint16"}
    if by == "training":
        assert picture.min() >= 900 and picture.max() <= 3100
    tifffile.imwrite(tmp_path / "again.tif", picture[0, 0])
    scaled = images.read_image(tmp_path / "again.tif", rule)[0]
    found = preprocessed(given["preprocessing"], picture[0, 0].astype(np.float64))
    np.testing.assert_allclose(found, scaled[..., 0], atol=1e-6)
    found = tiling.predict(net, scaled, tile=348)
    assert np.abs(found - np.moveaxis(expected[0], 0, -1)).max() < 1e-6
    words = {"file": b"two percentiles of each picture", "training": b"from 900 to 3100", "type": b"from 0 to 65535"}
    assert words[by] in content["README.md"]


def test_floats_in_a_narrow_range_stay_floats():
    """A float TIFF between 0.1 and 0.9 has no steps that 16 bits could count."""
    rule = images.GreyRule("training", 0.1, 0.9)
    scaling = GreyScaling.of(rule, np.float32)
    grey = np.random.default_rng(0).random((8, 9, 1), np.float32)
    stored = scaling.stored(grey)
    assert stored.dtype == np.float32 and 0.1 <= stored.min() < stored.max() <= 0.9
    np.testing.assert_allclose(scaling.scaled(stored), grey, atol=1e-6)
    np.testing.assert_allclose(preprocessed(scaling.steps(), stored), grey, atol=1e-6)
    assert GreyScaling.of(rule, np.uint8) == GreyScaling(np.uint8, 0, 255)  # 8 bits are divided by 255 all the same


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_package_passes_static_and_dynamic_validation(name, packages, zoo):
    from bioimageio.spec import load_model_description

    net, path = packages[name]
    model = load_model_description(path, format_version="latest")  # static: raises if it is not valid
    assert model.validation_summary.status in ("valid-format", "passed"), model.validation_summary.format()
    summary = zoo.test_model(model, weight_format="onnx")  # dynamic, to 1e-3
    assert summary.status == "passed", summary.format()
    content = read(path)
    picture, expected = (np.load(io.BytesIO(content[f"test_{key}.npy"])) for key in ("input", "output"))
    (found,) = zoo.predict(model=model, inputs={"image": picture}).members.values()
    inside = (..., *(slice(bioimageio.block_rule(net)[0], -bioimageio.block_rule(net)[0]),) * 2)
    assert np.abs(found.data.values - expected)[inside].max() < 1e-5


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["paper", "padded"])
def test_the_zoos_prediction_is_ours_also_in_blocks(name, packages, zoo):
    """A picture larger than a tile: whole, and in blocks that overlap by the halo.

    The zoo's tool pads the picture by the halo itself, so that a border as wide as the halo is another question.
    """
    net, path = packages[name]
    halo, smallest, step = bioimageio.block_rule(net)
    pixels = np.random.default_rng(4).integers(0, 250, (320, 264)).astype("uint16" if NETWORKS[name][1] else "uint8")
    expected = bioimageio.run(net, pixels[None, None], GreyScaling.of(None, pixels.dtype))[0]  # (K, H, W)
    inside = slice(None), slice(halo, -halo), slice(halo, -halo)
    for options in ({}, {"blocksize_parameter": (160 - smallest) // step}):
        sample = zoo.predict(model=path, inputs={"image": pixels[None, None]}, **options)
        found = sample.members["probabilities"].data.values[0]
        assert found.shape == expected.shape
        assert np.abs(found[inside] - expected[inside]).max() < 1e-5


def test_the_description_reads_as_yaml():
    yaml = pytest.importorskip("ruyaml", reason=EXTRA)
    value = {
        "text": 'a: "b" - {c} # é',
        "number": 1 / 255,
        "nothing": None,
        "yes": True,
        "empty": [],
        "list": [1, "2", {"a": [{"b": 1, "c": {"d": []}}, "e"], "f": 2}, [3, [4]]],
        "dict": {"x": {"y": {"z": -5}}},
    }
    assert yaml.YAML(typ="safe").load(to_yaml(value)) == value


def run(*arguments):
    export.main([str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path):
    UNet(base_channels=2, depth=2, seed=1).save(tmp_path / "net.npz")
    return tmp_path / "net.npz"


def test_the_command_writes_what_the_suffix_says(model, tmp_path, capsys):
    onnx = pytest.importorskip("onnx", reason=EXTRA)
    outputs = {}
    options = {"a": [], "b": ["--logits", "--mirror"], "c": ["--float16", "--size", "44", "60"]}
    for name, options in options.items():
        run("--model", model, "--output", tmp_path / f"{name}.onnx", *options)
        outputs[name] = onnx.load(tmp_path / f"{name}.onnx").graph.output[0]
    assert (outputs["a"].name, outputs["b"].name) == ("probabilities", "logits")
    assert [side.dim_value for side in outputs["c"].type.tensor_type.shape.dim[2:]] == [4, 20]
    printed = capsys.readouterr().out
    assert "input 44 x 60, output 4 x 20" in printed and "inputs of 24 pixels or more each way" in printed
    run("--model", model, "--output", tmp_path / "again.npz")
    x = np.random.default_rng(0).random((1, 44, 44, 1), dtype=np.float32)
    assert np.array_equal(UNet.load(tmp_path / "again.npz").forward(x), UNet.load(model).forward(x))
    assert "inputs of 44 pixels, or more in steps of 4" in capsys.readouterr().out


def test_the_command_writes_a_package_with_the_options_in_it(model, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"options": {"scale": 0.5}}))
    text = ["--name", "Cells 2 (mine)", "--description", "Finds cells.", "--author", "A", "--author", "B"]
    run("--model", model, "--output", tmp_path / "net.zip", "--bioimageio", "--license", "MIT", *text)
    content = read(tmp_path / "net.zip")
    rdf = content["rdf.yaml"].decode()
    for line in ('name: "Cells 2 (mine)"', 'description: "Finds cells."', '  - name: "B"', 'license: "MIT"'):
        assert line in rdf.splitlines()
    assert b"trained on pictures at 0.5 of their size" in content["README.md"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--output", "a.zip"], "give --bioimageio"),
        (["--output", "a.onnx", "--bioimageio"], "expected a name such as model.zip"),
        (["--output", "a.npz", "--float16"], "--float16 has no effect"),
        (["--output", "a.npz", "--logits"], "--logits has no effect .* ends in .onnx"),
        (["--output", "a.zip", "--bioimageio", "--size", "44", "44"], "--size has no effect"),
        (["--output", "a.onnx", "--name", "Net"], "--name has no effect .* --bioimageio"),
        (["--output", "a.onnx", "--size", "45", "44"], "nearest are 44 and 48"),
        (["--output", "a.onnx", "--mirror", "--size", "20", "44"], "the smallest is 24"),
        (["--output", "a.pth"], "only variant 'pytorch-unet'"),
        (["--output", "a.h5"], "does not write .h5 files"),
        (["--output", "a.zip", "--bioimageio", "--image", "missing.png"], "missing.png"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(options, message, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run("--model", model, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]


def test_a_package_says_which_values_the_masks_of_training_had():
    net = UNet(base_channels=2, depth=1)
    said = [bioimageio.documentation(net, "n", "d", "s", scale) for scale in (1, 0.5)]
    net.mask_values = [0, 7]
    said.append(bioimageio.documentation(net, "n", "d", "s", 1))
    assert ["probabilities of 2 classes, in the masks of training [0, 7]" in text for text in said] == [0, 0, 1]
    assert ["trained on pictures at 0.5 of their size" in text for text in said] == [0, 1, 0]


def test_the_sizes_that_an_exported_network_takes_in_words():
    """Depth 1: two convolutions, pooling, two, up, two: the side must be even, and 16 pixels are lost."""
    paper, padded = UNet(base_channels=2, depth=1), UNet(base_channels=2, depth=1, variant="padded")
    words = "inputs of 18 pixels, or more in steps of 2 each way; the output has 16 fewer"
    assert export.sizes(paper, False, None) == words
    assert export.sizes(paper, True, None) == "inputs of 10 pixels or more each way"  # 8 of them mirrored
    assert export.sizes(paper, False, (36, 40)) == "input 36 x 40, output 20 x 24"
    assert export.sizes(padded, False, None) == "inputs of 2 pixels, or more in steps of 2 each way"
