"""Boundaries, words and pictures that no other test looked at, as faults planted by tests/mutants.py showed."""

import dataclasses
import importlib
import json
import pickle
import pkgutil
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import npunet
from npunet import InputError, UNet, datasets, geometry, ops, predict, train
from npunet.commands import choose_cutting, prediction, window
from npunet.commands.interrupt import Interruptible
from npunet.datasets.layouts import find_layout
from npunet.experiments.recipes import ABLATIONS
from npunet.files import download, images
from npunet.files.torch_files import unpickler
from npunet.inspect import __main__ as inspect
from npunet.machine import ranks
from npunet.parallel import start
from npunet.style import options as style_options


@pytest.mark.parametrize("channels, values", [(1, 2), (3, 3)])
def test_the_view_shows_image_and_mask(tmp_path, monkeypatch, channels, values):
    shown = []
    monkeypatch.setattr(plt, "close", shown.append)
    rng = np.random.default_rng(0)
    image, mask = rng.random((30, 40, channels)), rng.integers(0, values, (30, 40)).astype(np.uint8)
    assert window.show("a title", image, mask, tmp_path / "view.png") == tmp_path / "view.png"
    monkeypatch.undo()
    left, right = shown[-1].axes  # Matplotlib 3.9 closes all others first
    np.testing.assert_array_equal(left.images[0].get_array(), image[..., 0] if channels == 1 else image)
    np.testing.assert_array_equal(right.images[0].get_array(), mask)
    assert left.images[0].get_clim() == (0, 1) or channels == 3
    assert (left.get_title(), right.get_title()) == ("a title", "mask")
    assert right.images[0].get_cmap().name == ("gray" if values == 2 else "viridis")
    with Image.open(tmp_path / "view.png") as picture:
        assert not left.axison and not right.axison and picture.size == (1000, 500)
    plt.close(shown[0])


def test_the_view_counts_values_in_all_pixels_of_a_small_mask(tmp_path, monkeypatch):
    shown, mask = [], np.zeros((3, 5), np.uint8)
    mask[0, 1], mask[0, 3] = 1, 2  # at odd places
    monkeypatch.setattr(plt, "close", shown.append)
    window.show("", np.zeros((3, 5, 1)), mask, tmp_path / "view.png")
    assert shown[0].axes[1].images[0].get_cmap().name == "viridis"
    monkeypatch.undo()
    plt.close(shown[0])


def test_of_two_sizes_equally_near_the_larger_is_taken():
    assert [geometry.nearest_valid_size(size) for size in (195, 196, 197)] == [188, 204, 204]


def test_an_empty_batch_is_refused():
    with pytest.raises(InputError, match="conv2d: x"):
        ops.conv2d(np.zeros((0, 5, 5, 1)), np.zeros((3, 3, 1, 1)))


def test_a_network_of_256_classes_can_be_predicted_with(tmp_path):
    net = UNet(1, 256, 2, 1)
    net.save(tmp_path / "net.npz")
    words = ["--model", str(tmp_path / "net.npz"), "--input", "a.png", "--output", "out"]
    options = predict.parser().parse_args(words)
    assert predict.load_network(options).n_labels == 256
    UNet(1, 257, 2, 1).save(tmp_path / "net.npz")
    with pytest.raises(InputError, match="257 classes"):
        predict.load_network(options)


def test_cells_beyond_65535_are_no_png(tmp_path):
    for most in (65535, 65536):
        cells = np.zeros((4, 4), np.int32)
        cells[1, 2] = most
        if most == 65535:
            images.write_labels(tmp_path / "cells.png", cells)
            np.testing.assert_array_equal(images.read_labels(tmp_path / "cells.png")[0], cells)
        else:
            with pytest.raises(InputError):
                images.write_labels(tmp_path / "cells.png", cells)


@pytest.mark.parametrize("count, every", [(10, 1), (11, 2), (25, 3)])
def test_at_most_ten_images_choose_a_cutting(count, every):
    assert choose_cutting.tuning_samples(list(range(count))) == list(range(0, count, every))


def test_what_the_masks_mean_is_said_in_words():
    net = UNet(1, 3, 2, 1)
    assert "pixel values 0, 1, 2 are the classes; they may look dark" in prediction.described(net, 2, "out", "none")
    assert "2 images predicted; masks (0 and 255)" in prediction.described(UNet(1, 2, 2, 1), 2, "out", "none")
    names = "class 0 background / membrane", "class 1 object / cell interior"
    assert all(name in datasets.describe(datasets.synthetic(2, 64)) for name in names)


def test_an_ablation_turns_off_what_its_name_says():
    assert ABLATIONS["no-elastic"].change({}) == {"elastic": 0.0}
    assert ABLATIONS["no-dropout"].change({}) == {"dropout": 0.0}
    assert ABLATIONS["no-weight-map"].change({}) == {"w0": 0.0, "class_balance": False}


def test_pauses_between_tries_double(monkeypatch, tmp_path):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    monkeypatch.setattr(download, "_fetch_rest", lambda url, part: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(InputError, match="broke off at 0 bytes"):
        download.download("http://localhost/x", tmp_path / "x")
    assert pauses == [download.PAUSE * 2**n for n in range(download.ATTEMPTS - 1)]


def test_one_process_alone(monkeypatch):
    assert ranks.any_of(True) is True and ranks.any_of(False) is False
    for name in start.COUNTS:
        monkeypatch.delenv(name, raising=False)
    slurm = next(name for name in start.COUNTS if name.startswith("SLURM"))
    monkeypatch.setenv(slurm, "4")
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    assert start.processes() == 1
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert start.processes() == 4


def test_the_first_process_shows_the_bar(monkeypatch):
    bars = []
    monkeypatch.setattr(
        "npunet.commands.interrupt.progress_bar", lambda **how: bars.append(how) or types.SimpleNamespace(close=int)
    )
    one = Interruptible()
    for rank in (0, 1):
        monkeypatch.setattr(ranks, "rank", lambda: rank)
        one.listen(3, 0)
        one.stop_listening()
    assert [bar["disable"] for bar in bars] == [False, True]


def test_a_sixth_is_held_out_and_scored_at_the_right_steps(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number, sample in enumerate(datasets.synthetic(n_sections=12, size=48, seed=2).samples):
        images.write_image(tmp_path / "images" / f"{number}.png", sample.image)
        images.write_mask(tmp_path / "masks" / f"{number}.png", sample.labels)
    words = "--base-channels 2 --tile 36 --depth 1 --threads 1 --steps 5 --evaluate-every 2".split()
    train.main(["--data", str(tmp_path), "--out", str(tmp_path / "run"), *words])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["held_out"] == ["10", "11"] == list(config["fingerprints"]["held_out"])
    assert list(config["fingerprints"]["training"]) == [str(number) for number in range(10)]
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "held_out" in record] == [2, 4, 5]
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4, 5]
    seconds = [record["seconds"] for record in records if "loss" in record]
    assert seconds == [round(one, 4) for one in seconds] and 0 < sum(seconds) < 100


def test_steps_that_nobody_asked_for():
    assert (style_options.DEFAULTS["train"]["steps"], style_options.DEFAULTS["optimize"]["steps"]) == (500, 200)


def test_the_only_subfolder_is_looked_into(tmp_path):
    for name in ("one/inside", "two/first", "two/second"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "train-volume.tif").touch()
    assert find_layout(tmp_path / "one")[0] == tmp_path / "one" / "inside"
    assert find_layout(tmp_path / "two") is None


def test_depth_follows_small_images_unless_it_is_given():
    dataset = datasets.synthetic(1, 60)

    def depth(given, loaded=None, **options):
        options = {"variant": "paper", "depth": 4, "tile": 572} | options
        train.follow_images(options, given, dataset, loaded)
        return options["depth"]

    assert depth({}) == 2  # the paper's four poolings lose 184 pixels, two lose 40
    assert depth({"depth": 4}) == depth({}, loaded=True) == depth({}, variant="padded") == 4


def test_a_sixth_is_looked_at_as_held_out(monkeypatch, capsys):
    shares = []
    monkeypatch.setattr(datasets, "load", lambda *_, **__: datasets.synthetic(2, 32))
    monkeypatch.setattr(inspect, "findings", lambda dataset, share: shares.append(share) or [])
    inspect.main(["synthetic"])
    inspect.main(["synthetic", "--held-out", "3"])
    assert shares == [1 / 6, 3]


def test_integers_of_a_pickle_have_sixteen_bytes_at_most():
    assert unpickler.unpickle(pickle.dumps(1 << 120, 2), 0, {})[0] == 1 << 120
    with pytest.raises(InputError, match="an integer of 17 bytes"):
        unpickler.unpickle(pickle.dumps(1 << 130, 2), 0, {})


CHANGEABLE = (
    "Plateau CaffeLayer Sample Dataset Box Outcome Objective Found Joined".split()
)  # these are filled step by step


def test_records_cannot_be_changed():
    """Shared by several owners, or keys of a dict: only the few that somebody fills may be written to."""
    seen = set()
    for module in pkgutil.walk_packages(npunet.__path__, "npunet."):
        if module.name.endswith("__main__"):
            continue
        for name, item in vars(importlib.import_module(module.name)).items():
            if isinstance(item, type) and dataclasses.is_dataclass(item) and item.__module__ == module.name:
                seen.add(item)
                assert item.__dataclass_params__.frozen == (name not in CHANGEABLE), name
    assert len(seen) > 30 and {item.__name__ for item in seen} >= set(CHANGEABLE)
