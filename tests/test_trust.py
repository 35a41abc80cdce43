"""Nothing silently wrong: damaged run folders, folders in use, data that changed, weights of another kind."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from npunet import InputError, UNet, evaluate, predict, profile, summary, train
from npunet.commands.run_folder import RunFolder
from npunet.datasets import synthetic
from npunet.doctor import __main__ as doctor
from npunet.files import images
from npunet.style import pictures

without_pictures = pytest.mark.usefixtures("without_pictures")

SMALL = "--base-channels 2 --depth 1 --tile 36 --held-out 1 --steps 2 --evaluate-every 1 --threads 1".split()


@pytest.fixture
def folder(tmp_path):
    """Four sections as images and masks."""
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number, sample in enumerate(synthetic(n_sections=4, size=48, seed=2).samples):
        images.write_image(tmp_path / "data" / "images" / f"{number}.png", sample.image)
        images.write_mask(tmp_path / "data" / "masks" / f"{number}.png", sample.labels)
    return tmp_path


def run(folder, *more, out="run"):
    train.main(["--data", str(folder / "data"), "--out", str(folder / out), *SMALL, *map(str, more)])


@without_pictures
def test_damaged_lines_of_a_log_are_left_out_and_said(folder, capsys):
    run(folder)
    log = folder / "run" / "metrics.jsonl"
    log.write_bytes(b"\xff\n[1]\n" + log.read_bytes() + b'{"step": "x"}\n{"st')
    train.main(["--resume", str(folder / "run"), "--steps", "3"])
    assert "4 damaged lines left out" in capsys.readouterr().err
    assert max(json.loads(line)["step"] for line in log.read_text().splitlines()) == 3


@without_pictures
@pytest.mark.parametrize("name, value", [("steps", "many"), ("variant", "vnet"), ("grey", [1]), ("colour", 1)])
def test_a_damaged_configuration_is_one_line(folder, name, value):
    run(folder)
    path = folder / "run" / "config.json"
    config = json.loads(path.read_text())
    config["options"][name] = value
    path.write_text(json.dumps(config))
    with pytest.raises(InputError) as error:
        train.main(["--resume", str(folder / "run")])
    assert "\n" not in str(error.value) and name in str(error.value)


@without_pictures
def test_a_configuration_of_more_weights_than_the_checkpoint_has_builds_nothing(folder, monkeypatch):
    """4 GB of them, in a file of one kilobyte, were drawn for minutes before the two were compared."""
    run(folder)
    path = folder / "run" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"network": config["network"] | {"base_channels": 3000}}))
    monkeypatch.setattr(train, "UNet", None)
    with pytest.raises(InputError, match="config.json: its header describes a network of at least 81,009,000 weights"):
        train.main(["--resume", str(folder / "run")])
    config["options"]["device"] = "gpu"
    path.write_text(json.dumps(config))
    monkeypatch.setattr("npunet.machine.backend.gpu_problem", lambda: "no GPU here")
    with pytest.raises(InputError, match="^--device gpu: no GPU here"):
        train.main(["--resume", str(folder / "run")])


@without_pictures
def test_a_folder_belongs_to_one_run_at_a_time(folder):
    with RunFolder(folder / "run").reserved():
        with pytest.raises(InputError, match="another run is at work in this folder"):
            run(folder)
    run(folder)


@without_pictures
def test_a_resumed_run_has_the_same_images_and_masks(folder):
    run(folder)
    sample = synthetic(n_sections=4, size=48, seed=2).samples[1]
    images.write_image(folder / "data" / "images" / "1.png", 1 - sample.image)
    with pytest.raises(InputError, match=r"1 or its mask has changed since this run began"):
        train.main(["--resume", str(folder / "run"), "--steps", "3"])


@without_pictures
def test_other_threads_are_said(folder, capsys):
    run(folder)
    train.main(["--resume", str(folder / "run"), "--steps", "3", "--threads", "2"])
    assert "began on 1 threads and goes on with 2" in capsys.readouterr().err


@without_pictures
def test_a_finished_run_says_so(folder, capsys):
    run(folder)
    train.main(["--resume", str(folder / "run")])
    assert "is done: all 2 steps; --steps N with a larger N goes on" in capsys.readouterr().out


@without_pictures
def test_held_out_images_are_known_by_content(folder, capsys):
    run(folder)
    other = shutil.copytree(folder / "data", folder / "other")
    for kind in ("images", "masks"):
        (other / kind / "3.png").rename(other / kind / "x.png")
        shutil.copy(other / kind / "0.png", other / kind / "3.png")
    model = str(folder / "run" / "best.npz")
    evaluate.main(["--model", model, "--data", str(other)])
    assert "1 of 5 images, those held out in training" in capsys.readouterr().out
    for kind in ("images", "masks"):
        (other / kind / "x.png").unlink()
    evaluate.main(["--model", model, "--data", str(other)])
    assert "all 4 images, 4 of them trained on" in capsys.readouterr().out


@without_pictures
def test_weights_for_other_channels_and_classes_are_taken_over_in_part(folder, capsys):
    net = UNet(3, 3, 2, 1, seed=9)
    net.save(folder / "given.npz")
    run(folder, "--load", folder / "given.npz", "--learning-rate", "1e-30")
    said = capsys.readouterr().out
    assert "the model is for RGB images, your images are grey images; the first layer begins anew" in said
    assert "the model tells 3 classes apart, your masks hold 2; the last layer begins anew" in said
    found = UNet.load(folder / "run" / "newest.npz").parameters
    for name, parameter in net.parameters.items():
        if found[name].value.shape == parameter.value.shape:
            np.testing.assert_allclose(found[name].value, parameter.value, atol=1e-20)
    with pytest.raises(InputError, match="--base-channels 4 beside --load .*given.npz, whose network has 2"):
        run(folder, "--load", folder / "given.npz", "--base-channels", "4", out="other")


def test_held_out_has_one_pair_of_limits(folder):
    for number in (0, 4):
        with pytest.raises(InputError, match=r"--held-out is \d.*expected (at least 1|1 to 3)"):
            run(folder, "--held-out", number)


def test_numbers_beyond_any_machine_are_refused_at_once(folder):
    began = time.perf_counter()
    for name in ("tile", "depth", "base-channels", "classes", "threads", "batch", "steps"):
        with pytest.raises(InputError, match=f"^--{name} is 1000000000000000; expected"):
            run(folder, f"--{name}", "1000000000000000")
    with pytest.raises(InputError, match="^--grey is 1e"):
        run(folder, "--grey", "1e308")
    for command, words in (
        (profile, ["--threads", "1000000000"]),
        (summary, ["--channels", "1000000000"]),
        (doctor, [str(folder), "--by-heart", "1000000000"]),
    ):
        with pytest.raises(InputError, match=rf"^{words[-2]} is 1000000000(\.0)?; expected"):
            command.main(words)
    assert time.perf_counter() - began < 5


def test_a_picture_larger_than_the_memory_is_refused_before_it_is_scaled(folder):
    """stylize --size: the scaled picture comes before the forecast of the steps."""
    small = np.zeros((4, 6, 3), np.float32)
    for square in (False, True):
        with pytest.raises(
            InputError, match=r"^a picture of 1[05]0000+ x 1000000 pixels .* give a size below 1000000$"
        ):
            pictures.fitted(small, 1000000, square=square)
    assert pictures.fitted(small, 8).shape == (8, 12, 3)


@pytest.mark.parametrize("words", [["--data", ""], ["--load", ""], ["--tile=--"], ["--seed=--"]])
def test_an_option_without_a_value_is_refused(folder, monkeypatch, words):
    """Path("") is the current folder, and Python 3.11's argparse makes [] of --tile=--; newer ones refuse it."""
    monkeypatch.chdir(folder / "data")  # where there are images/ and masks/
    with pytest.raises((InputError, SystemExit)) as error:
        train.main(["--data", ".", *SMALL, "--out", str(folder / "run"), *words])
    if error.type is InputError:
        assert str(error.value).startswith(f"{words[0].removesuffix('=--')} is empty; give a value")
    assert not (folder / "run").exists()


def test_names_that_figures_and_systems_do_not_like(folder):
    for kind in ("images", "masks"):
        (folder / "data" / kind / "3.png").rename(folder / "data" / kind / "z$\\frac$.png")
    run(folder)
    command = [sys.executable, "-m", "npunet.train", "--data", str(folder / "data"), "--out", "x" * 300, *SMALL]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "too long" in result.stderr
    with pytest.raises(InputError, match="--out is empty"):
        train.main(["--data", str(folder / "data"), "--out", "", *SMALL])


# How grey values are scaled


def sixteen_bits(folder, brightness):
    """The four sections as 16-bit files, each with another exposure; returns the stored pixels."""
    stored = []
    for number, bright in enumerate(brightness):
        path = folder / "data" / "images" / f"{number}.png"
        pixels = (100 + bright * images.read_image(path)[0][..., 0]).astype(np.uint16)
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), pixels)
        stored.append(pixels)
    return stored


@without_pictures
@pytest.mark.parametrize("by", ["file", "training", "type"])
def test_grey_values_are_scaled_as_the_training_run_was_told(folder, by):
    stored = sixteen_bits(folder, [1000, 2000, 4000, 8000])
    run(folder, "--normalise", by)
    ends = np.percentile(np.array(stored).astype(float), [0.1, 99.9], axis=(1, 2))  # of each file
    rule = images.GreyRule.of(UNet.load(folder / "run" / "best.npz").grey_rule)
    low, high = {
        "file": (ends[0], ends[1]),
        "training": (ends[0, :3].min(), ends[1, :3].max()),  # the fourth is held out
        "type": (0, 65535),
    }[by]
    expected = np.clip((np.array(stored) - np.reshape(low, (-1, 1, 1))) / np.reshape(high - low, (-1, 1, 1)), 0, 1)
    for number, wanted in enumerate(expected):
        found = images.read_image(folder / "data" / "images" / f"{number}.tif", rule)[0][..., 0]
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        np.testing.assert_array_equal(images.as_floats(stored[number], rule), found)
    seen = UNet.load(folder / "run" / "newest.npz")
    assert seen.input_mean == pytest.approx(expected[:3].mean(), abs=1e-6)
    evaluate.main(
        ["--model", str(folder / "run" / "best.npz"), "--data", str(folder / "data"), "--json", str(folder / "j")]
    )
    assert "those held out in training" in json.loads((folder / "j").read_text())["images"]  # known by their pixels
    train.main(["--resume", str(folder / "run"), "--steps", "3"])


@without_pictures
def test_the_noise_of_an_empty_field_is_not_stretched(folder, capsys):
    sixteen_bits(folder, [3000, 4000, 5000, 4000])
    run(folder)
    rng, rule = np.random.default_rng(0), images.GreyRule.of(UNet.load(folder / "run" / "best.npz").grey_rule)
    noise = rng.normal(120, 4, (60, 60)).astype(np.uint16)
    tifffile.imwrite(folder / "empty.tif", noise)
    assert images.read_image(folder / "empty.tif")[0].std() > 0.1
    assert images.read_image(folder / "empty.tif", rule)[0].max() < 0.05
    faint = (100 + (noise - 100.0) * 40).clip(0).astype(np.uint16)  # half the exposure of a training file or so
    tifffile.imwrite(folder / "faint.tif", faint)
    np.testing.assert_array_equal(*(images.read_image(folder / "faint.tif", r)[0] for r in (rule, images.GreyRule())))
    predict.main(
        ["--model", str(folder / "run" / "best.npz"), "--output", str(folder / "out"), "--input"]
        + [str(folder / name) for name in ("empty.tif", "faint.tif")]
    )
    said = capsys.readouterr().err
    assert "empty.tif: its grey values span less than a quarter" in said and "faint.tif: its" not in said


@without_pictures
def test_grey_values_that_the_network_has_not_seen_are_said(folder, capsys):
    run(folder)
    usual = images.read_image(folder / "data" / "images" / "3.png")[0]
    for name, image in (("usual", usual), ("dark", usual / 50), ("constant", 0 * usual + 0.5), ("bright", usual**0.01)):
        images.write_image(folder / f"{name}.png", image)
    words = ["--model", folder / "run" / "best.npz", "--output", folder / "out", "--input"]
    for name in ("usual", "dark", "constant", "bright"):
        capsys.readouterr()
        predict.main([str(word) for word in (*words, folder / f"{name}.png")])
        said = capsys.readouterr().err
        assert (f"{name}.png: its grey values have a mean of" in said) == (name != "usual"), said


@without_pictures
@pytest.mark.parametrize("background", [(0, 0, 0), (255, 255, 0)])
def test_masks_with_a_palette_say_that_indices_are_read(folder, capsys, background):
    for path in (folder / "data" / "masks").iterdir():
        mask = Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8), "P")
        mask.putpalette([*background, 200, 0, 0])
        mask.save(path)
    run(folder)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "its indices" in line]
    assert f"its indices were read, not its colours: 0 is {background}, 1 is (200, 0, 0)" in line
    assert ("WARNING" in line) == (sum(background) > 200)


# The programming interface
