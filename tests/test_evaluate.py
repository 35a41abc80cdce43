import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npunet import InputError, UNet, datasets, evaluate, tiling
from npunet.commands import choose_cutting, scoring
from npunet.datasets import Sample
from npunet.files import images
from npunet.files.whole_file import write_json

SHARED = Path(__file__).parents[2] / "shared" / "data"


def sample(labels, name="a", ignore=None, instances=None):
    labels = np.asarray(labels, np.int64)
    return Sample(
        name,
        np.zeros((*labels.shape, 1), np.float32),
        labels,
        np.asarray(labels if instances is None else instances, np.int32),
        ignore,
    )


def certain(classes, n_classes=2):
    return np.eye(n_classes, dtype=np.float32)[np.asarray(classes)]  # (H, W, K)


def score(one, probability, quick=True):
    return scoring.score_samples([one], [probability], quick)[0][0]


TRUTH = [[0, 1, 1, 1], [0, 0, 1, 1]]
FOUND = [[0, 0, 1, 1], [1, 0, 1, 1]]


def test_pixel_scores_by_hand():
    """Class 1: 4 pixels in both, 1 missed, 1 invented. Class 0: 2 in both, 1 and 1."""
    assert score(sample(TRUTH), certain(FOUND)) == pytest.approx(
        {"pixel_accuracy": 6 / 8, "mean_iou": (4 / 6 + 2 / 4) / 2, "iou": 4 / 6, "dice": 8 / 10}
    )


def test_ignored_pixels_do_not_count():
    ignore = np.array(TRUTH) != np.array(FOUND)
    assert set(score(sample(TRUTH, ignore=ignore), certain(FOUND)).values()) == {1.0}
    ignore[:] = False
    ignore[0, 1] = True  # the missed pixel
    assert score(sample(TRUTH, ignore=ignore), certain(FOUND))["iou"] == pytest.approx(4 / 5)


def test_ignored_pixels_do_not_count_in_the_challenges_scores_either():
    """Two cells and a bridge between them, merged by the prediction;
    without annotation of the bridge they are as they should be.
    """
    truth = np.zeros((9, 13), int)
    truth[2:7, 2:6] = truth[2:7, 7:11] = 1
    found = truth.copy()
    found[4, 6] = 1
    bridge = np.zeros(truth.shape, bool)
    bridge[4, 6] = True
    instances = truth * np.where(np.arange(13) < 6, 1, 2)
    merged = score(sample(truth, instances=instances), certain(found), quick=False)
    # one region of 40 for two cells of 20
    assert merged["v_rand"] == pytest.approx(2 * (2 * 20**2) / (40**2 + 2 * 20**2))
    assert merged["warping_error"] > 0 and merged["rand_error"] > 0 and merged["v_info"] < 1
    right = score(sample(truth, ignore=bridge, instances=instances), certain(found), quick=False)
    assert (right["v_rand"], right["v_info"], right["rand_error"], right["warping_error"], right["pixel_error"]) == (
        1,
        1,
        0,
        0,
        0,
    )


def test_cells_that_touch_are_told_apart_by_their_instances():
    labels = np.ones((4, 8), int)
    labels[0] = 0
    instances = labels * np.where(np.arange(8) < 4, 1, 2)
    whole = score(sample(labels, instances=instances), certain(labels), quick=False)
    assert whole["iou"] == 1 and whole["v_rand"] == pytest.approx(2 * (2 * 12**2) / (24**2 + 2 * 12**2))


def test_several_classes_with_one_absent():
    truth, found = [[0, 1, 2, 2]], [[0, 1, 1, 2]]
    scores = score(sample(truth), certain(found, n_classes=4))  # class 3 occurs nowhere and has no IoU
    assert scores == pytest.approx(
        {"pixel_accuracy": 3 / 4, "mean_iou": (1 + 1 / 2 + 1 / 2) / 3, "iou": 1 / 2, "dice": 2 / 3}
    )


def test_no_object_at_all_and_nothing_annotated():
    empty = score(sample(np.zeros((3, 3))), certain(np.zeros((3, 3), int)))
    assert empty.pop("pixel_accuracy") == 1 and all(map(np.isnan, empty.values())), "nothing found is no success"
    invented = score(sample(np.zeros((3, 3))), certain(np.eye(3, dtype=int)))
    assert invented["iou"] == invented["dice"] == 0
    unknown = sample(TRUTH, ignore=np.ones((2, 4), bool))
    assert all(np.isnan(value) for value in score(unknown, certain(FOUND)).values())
    scores, _ = scoring.score_samples([unknown, sample(TRUTH)], [certain(FOUND)] * 2, quick=True)
    assert scoring.mean_scores(scores)["pixel_accuracy"] == 6 / 8
    assert np.isnan(scoring.mean_scores(scores[:1])["iou"])


def test_one_threshold_for_all_images():
    """Image a is right between 0.3 and 0.9, image b between 0.1 and 0.5: together only 0.3 and 0.4 will do."""
    truth = np.zeros((6, 6), int)
    truth[1:5, 1:5] = 1
    probabilities = [
        np.stack([1 - p, p], axis=2).astype(np.float32)
        for p in (np.where(truth, 0.95, 0.25), np.where(truth, 0.45, 0.05))
    ]
    scores, thresholds = scoring.score_samples([sample(truth), sample(truth, "b")], probabilities)
    assert set(thresholds) == set(scoring.CHALLENGE) and thresholds["pixel_error"] == 0.3
    assert [of["pixel_error"] for of in scores] == [0, 0]


# With a network -------------------------------------------------------------------------------------------------------


@pytest.fixture
def net():
    return UNet(1, 2, base_channels=2, depth=1, seed=4)


def drawn(rng, name, size=30):
    labels = np.zeros((size, size + 3), np.int64)
    labels[5:20, 3:12] = labels[8:22, 15:25] = 1
    image = np.clip(labels * 0.6 + rng.normal(0.2, 0.1, labels.shape), 0, 1).astype(np.float32)
    return Sample(name, image[..., None], labels, (labels * (1 + (np.arange(size + 3) > 13))).astype(np.int32))


def test_evaluate_predicts_and_averages(net):
    rng = np.random.default_rng(0)
    samples, told = [drawn(rng, "a"), drawn(rng, "b", 40)], []
    scores, probabilities = scoring.evaluate(net, samples, 44, quick=True, progress=lambda *what: told.append(what))
    assert list(scores) == ["pixel_accuracy", "mean_iou", "iou", "dice"] and told == [(1, 2), (2, 2)]
    accuracies = []
    for one, p in zip(samples, probabilities):
        np.testing.assert_array_equal(p, tiling.predict(net, one.image, 44))
        accuracies.append(np.mean((p[..., 1] > p[..., 0]) == one.labels))
    assert scores["pixel_accuracy"] == pytest.approx(np.mean(accuracies))
    full, probabilities = scoring.evaluate(net, samples, 44, augment=True)
    np.testing.assert_array_equal(probabilities[1], tiling.predict(net, samples[1].image, 44, augment=True))
    assert list(full) == [
        "pixel_accuracy",
        "mean_iou",
        "iou",
        "dice",
        "pixel_error",
        "rand_error",
        "warping_error",
        "v_rand",
        "v_info",
    ]
    assert all(0 <= value <= 1 for value in full.values())


def test_data_that_do_not_fit_are_refused(net):
    with pytest.raises(InputError, match="no image to score"):
        scoring.evaluate(net, [], 44)
    with pytest.raises(InputError, match="labels up to 2, but the network tells 2 classes apart"):
        scoring.evaluate(net, [sample([[0, 1, 2]])], 44)
    one = sample(TRUTH)
    one.image = np.random.default_rng(0).random((2, 4, 3)).astype(np.float32)
    with pytest.raises(InputError, match="3 channels, expected 1"):
        scoring.evaluate(net, [one], 44)


@pytest.fixture
def folder(tmp_path, net):
    """A data folder of three pictures and a model whose run held out the last two."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for name in "abc":
        one = drawn(rng, name)
        Image.fromarray((one.image[..., 0] * 255).astype(np.uint8)).save(tmp_path / "data" / "images" / f"{name}.png")
        Image.fromarray((one.labels * 255).astype(np.uint8)).save(tmp_path / "data" / "masks" / f"{name}.png")
    (tmp_path / "run").mkdir()
    net.save(tmp_path / "run" / "best.npz")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"held_out": ["b", "c"]}))
    return tmp_path


def run(folder, *options):
    evaluate.main(
        ["--model", str(folder / "run" / "best.npz"), "--data", str(folder / "data"), "--tile", "44", *options]
    )


@pytest.mark.parametrize("held_out, names", [("run", "bc"), ("all", "abc"), ("1", "c"), ("3", "abc")])
def test_command_writes_table_and_json(folder, capsys, held_out, names):
    run(folder, "--held-out", held_out, "--json", str(folder / "new" / "scores.json"))
    report = json.loads((folder / "new" / "scores.json").read_text())
    assert [row["name"] for row in report["per_image"]] == list(names)
    for name, value in report["mean"].items():
        assert value == pytest.approx(np.mean([row[name] for row in report["per_image"]]))
    text = capsys.readouterr().out
    assert f"{report['mean']['v_rand']:.4f}" in text and report["images"] in text
    assert f"scores written to {folder / 'new' / 'scores.json'}" in text
    assert [path.name for path in (folder / "new").iterdir()] == ["scores.json"]
    assert (evaluate.CHOSEN in text) == (held_out == "run")


def test_the_network_of_the_last_step_was_not_chosen_by_the_held_out_images(folder, capsys):
    (folder / "run" / "best.npz").rename(folder / "run" / "newest.npz")
    evaluate.main(["--model", str(folder / "run" / "newest.npz"), "--data", str(folder / "data"), "--tile", "44"])
    text = capsys.readouterr().out
    assert "2 of 3 images, those held out" in text and "chosen" not in text


def test_auto_tile_covers_the_images(folder):
    """The scores are those of the fixed tile; the report says which tile it was."""
    run(folder, "--json", str(folder / "fixed.json"))
    run(folder, "--tile", "auto", "--json", str(folder / "auto.json"))
    fixed, auto = (json.loads((folder / f"{name}.json").read_text()) for name in ("fixed", "auto"))
    side = max(images.read_image(folder / "data" / "images" / "a.png")[0].shape)
    border = 44 - UNet(base_channels=1, depth=1).output_size(44)
    assert fixed["tile"] == 44 and auto["tile"] in (side + border, side + border + 1)
    assert auto["mean"] == pytest.approx(fixed["mean"], abs=1e-3)


def test_a_network_is_scored_at_the_scale_it_was_trained_at(folder, capsys):
    """As config.json says, unless told otherwise; what it finds is enlarged and compared with the masks as they are."""
    reports = {}
    for name, trained, options in (
        ("told", 1.0, ["--scale", "0.5"]),
        ("known", 0.5, []),
        ("whole", 0.5, ["--scale", "1"]),
    ):
        (folder / "run" / "config.json").write_text(json.dumps({"options": {"scale": trained}}))
        run(folder, *options, "--json", str(folder / "scores.json"))
        reports[name] = json.loads((folder / "scores.json").read_text())
        assert ("seen at a scale of 0.5" in capsys.readouterr().out) == (name != "whole")
    assert reports["told"]["mean"] == reports["known"]["mean"] != reports["whole"]["mean"]
    assert [reports[name]["scale"] for name in reports] == [0.5, 0.5, 1.0]


def test_a_model_without_its_run_is_scored_on_everything(folder, capsys):
    (folder / "run" / "config.json").unlink()
    run(folder)
    assert "all 3 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, words",
    [
        (["--held-out", "4"], "expected all, run, or how many of the last images, 1 to 3"),
        (["--held-out", "0"], "1 to 3"),
        (["--held-out", "some"], "1 to 3"),
        (["--tile", "45"], "nearest are 44 and 46"),
        (["--scale", "2"], "--scale is 2.0"),
    ],
)
def test_bad_options(folder, options, words):
    with pytest.raises(InputError, match=words):
        run(folder, *options)


def test_the_table_has_the_counts_of_cells_and_not_which_of_them_touch():
    counts = dict(true=5, found=4, merged=1, split=0, missed=2, invented=1, touching=3)
    text = evaluate.table(["a.png"], [{"iou": 0.5, "seg": 0.25, "ap50": 0.125} | counts], {"iou": 0.5})
    head, row, line, mean = text.splitlines()
    assert head.split() == "image iou seg ap50 true found merged split missed invented".split()
    assert row.split() == ["a.png", "0.5000", "0.2500", "0.1250", "5", "4", "1", "0", "2", "1"]
    assert mean.split() == ["mean", "0.5000"] and set(line) == {"-"}


def test_nan_becomes_null(tmp_path):
    write_json(tmp_path / "a.json", {"mean": {"iou": float("nan")}, "rows": [{"x": 1.5}]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"mean": {"iou": None}, "rows": [{"x": 1.5}]}


def test_from_the_command_line(folder):
    command = [
        sys.executable,
        "-m",
        "npunet.evaluate",
        "--model",
        str(folder / "run" / "best.npz"),
        "--tile",
        "44",
        "--data",
    ]
    good = subprocess.run([*command, str(folder / "data")], capture_output=True, text=True)
    assert good.returncode == 0 and "pixel_accuracy" in good.stdout
    bad = subprocess.run([*command, str(folder / "nowhere")], capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stderr.startswith("error: ") and bad.stderr.count("\n") == 1


@pytest.mark.shared_data
@pytest.mark.skipif(
    not (SHARED / "isbi2012").is_dir(), reason="needs the ISBI 2012 sections in ../shared/data/isbi2012"
)
def test_real_sections(tmp_path):
    UNet(1, 2, base_channels=1, depth=1).save(tmp_path / "model.npz")
    evaluate.main(
        [
            "--model",
            str(tmp_path / "model.npz"),
            "--data",
            str(SHARED / "isbi2012"),
            "--held-out",
            "1",
            "--json",
            str(tmp_path / "scores.json"),
        ]
    )
    row = json.loads((tmp_path / "scores.json").read_text())["per_image"][0]
    assert all(0 <= row[name] <= 1 for name in ("pixel_accuracy", *scoring.CHALLENGE))


def test_scores_need_a_prediction_for_each_image():
    samples = datasets.synthetic(2, 32).samples
    one = [np.full((32, 32, 2), 0.5, np.float32)]
    for score in (scoring.held_out_loss, lambda *both: choose_cutting.choose_cutting(*both)):
        with pytest.raises(ValueError, match="shorter"):
            score(samples, one)
