"""The experiments command on small drawn data:
train, go on, report on a run that is there, ablations, and cells from probabilities.
"""

import json
import re

import numpy as np
import pytest

from npunet import InputError, UNet, metrics, train
from npunet.commands import cell_pictures, cell_scores, choose_cutting, train_options
from npunet.datasets import Sample
from npunet.experiments import __main__ as command
from npunet.experiments import recipes, report, running
from npunet.experiments.recipes import ABLATIONS
from npunet.files import images
from npunet.instances.cutting import Cutting

SMALL = "--base-channels 2 --depth 1 --tile 36 --held-out 2 --steps 4 --evaluate-every 2 --threads 1".split()


def discs(rng, touching=False):
    """A sample of bright discs on dark ground, (48, 48); with `touching` in pairs without a gap."""
    y, x = np.mgrid[:48, :48]
    instances = np.zeros((48, 48), np.int32)
    for number, (v, u) in enumerate(
        [(12, 10), (12, 22), (35, 12), (34, 36)] if touching else [(12, 12), (12, 36), (35, 12), (34, 36)], start=1
    ):
        instances[(np.hypot(y - v, x - u) < 6.5) & (instances == 0)] = number
    image = np.clip(0.2 + 0.5 * (instances > 0) + rng.normal(0, 0.05, (48, 48)), 0, 1).astype(np.float32)[..., None]
    return Sample("discs", image, (instances > 0).astype(np.int64), instances)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five images of touching discs with instance masks."""
    root, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(3)
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for number in range(5):
        sample = discs(rng, touching=number > 1)
        images.write_mask(root / "masks" / f"{number}.png", sample.instances.astype(np.uint8), n_classes=256)
        images.write_image(root / "images" / f"{number}.png", sample.image[..., 0])
    return root


@pytest.fixture(autouse=True)
def instance_masks(monkeypatch):
    """Four cells an image are too few for "auto" to see that they are instances."""
    for name, experiment in recipes.EXPERIMENTS.items():
        labels = {"labels": "instances"} if experiment.cells else {"labels": "binary"}
        monkeypatch.setitem(
            recipes.EXPERIMENTS, name, recipes.Experiment(**vars(experiment) | {"train": experiment.train | labels})
        )


def test_cells_from_data_to_report(folder, tmp_path, capsys):
    out = tmp_path / "out"
    command.main(["nuclei", "--data", str(folder), "--out", str(out), *SMALL])
    text = (out / "report.md").read_text()
    shown = re.findall(r"\]\((.*?)\)", text)
    assert sorted(shown) == ["best.png", "cells_best.png", "cells_worst.png", "curves.png", "worst.png"]
    for name in shown:
        assert images.read_image(out / name)[0].std() > 0.01
    scores = json.loads((out / "scores.json").read_text())
    assert (
        [row["name"] for row in scores["per_image"]] == ["3", "4"]
        and scores["mean"]["true"] == 8
        and scores["mean"]["touching"] == 4
    )
    # four cells in each
    assert scores["mean"]["seg"] == pytest.approx(np.mean([row["seg"] for row in scores["per_image"]]))
    for words in (
        "SEG",
        "merged",
        "4 steps",
        "chosen on training images",
        "python -m npunet.train",
        "--depth 1",
        "4 steps; scored",
    ):
        assert words in text, words
    for written in (text, (out / "scores.json").read_text()):  # no paths of the machine
        assert str(tmp_path) not in written and str(folder) not in written
    assert "report.md" in capsys.readouterr().out


@pytest.mark.usefixtures("without_pictures")
def test_an_interrupted_run_goes_on_and_a_finished_one_is_only_scored(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    arguments = ["isbi2012", "--data", str(folder), "--out", str(out), "--plain", *SMALL]
    step = train.Session.step

    def stop(session, number, batch):
        session.stop_requested = number == 2
        return step(session, number, batch)

    monkeypatch.setattr(train.Session, "step", stop)
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 130 and not (out / "report.md").exists()
    monkeypatch.setattr(train.Session, "step", step)
    command.main(arguments)
    assert "going on from step 3" in capsys.readouterr().out
    records = running.read_records(out / "run")
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4]
    first = (out / "scores.json").read_text()

    monkeypatch.setattr(train.Session, "train", lambda session: pytest.fail("trained again"))
    command.main(["isbi2012", "--out", str(out), "--plain"])
    assert (out / "scores.json").read_text() == first
    for score in ("v_rand", "v_info", "rand_error", "pixel_error", "warping_error"):
        assert (
            f"{score} " in (out / "report.md").read_text().replace("\n", " ")
            and score in json.loads(first)["thresholds"]
        )
    assert "0.000353" in (out / "report.md").read_text() and "not comparable" in (out / "report.md").read_text()
    for words, complaint in (
        (["--base-channels", "3"], "base_channels 2, not 3"),
        (["--no-weight-map"], "w0 10.0, not 0.0"),
    ):
        with pytest.raises(InputError, match=f"holds a run with {complaint}"):
            command.main(["isbi2012", "--out", str(out), *words])


def test_report_on_a_run_that_is_there(folder, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    train.main(["--data", str(folder), "--labels", "instances", "--out", str(run), *SMALL])
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # another process is still writing
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    command.main(["phase_contrast", "--run", str(run), "--out", str(out), "--no-pictures"])
    assert {path.name for path in out.iterdir()} == {"report.md", "scores.json", "curves.png"}
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}
    assert "0.9203" in (out / "report.md").read_text() and "--run run" in (out / "report.md").read_text()
    with pytest.raises(InputError, match="--run reports on a run as it is"):
        command.main(["phase_contrast", "--run", str(run), "--steps", "9"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/ cannot be written \(File exists\)"):
        command.main(["phase_contrast", "--run", str(run), "--out", str(tmp_path / "file"), "--no-pictures", "--plain"])
    with pytest.raises(InputError, match="--minutes is 0.0; expected a number above 0"):
        command.main(["phase_contrast", "--minutes", "0", "--out", str(tmp_path / "new")])
    (run / "newest.npz").unlink()
    with pytest.raises(InputError, match="holds no newest.npz yet"):
        command.main(["phase_contrast", "--run", str(run)])
    with pytest.raises(InputError, match="nowhere"):
        command.main(["phase_contrast", "--run", str(tmp_path / "nowhere")])


@pytest.mark.usefixtures("without_pictures")
def test_ablations_change_one_thing_each_and_come_into_one_table(folder, tmp_path):
    out = tmp_path / "out"
    command.main(
        [
            "phase_contrast",
            "--data",
            str(folder),
            "--out",
            str(out),
            "--plain",
            "--ablation",
            "no-weight-map",
            "padded",
            *SMALL,
            "--evaluate-every",
            "4",
        ]
    )
    configs = {
        name: json.loads((out / name / "run" / "config.json").read_text())["options"]
        for name in (".", "no-weight-map", "padded")
    }
    recipe = configs.pop(".")
    assert recipe["w0"] == 10 and recipe["gap"] == 1
    differing = {
        name: {key: options[key] for key in options if options[key] != recipe[key] and key != "out"}
        for name, options in configs.items()
    }
    assert differing == {"no-weight-map": {"w0": 0.0}, "padded": {"variant": "padded", "tile": 20}}
    rows = (out / "ablations.md").read_text().split("\n| ")[3:]
    assert len(rows) == 3 and "padded/report.md" in rows[2] and "weight map off" in rows[1]
    assert UNet.load(out / "padded" / "run" / "newest.npz").output_size(20) == 20
    assert recipes.changed(recipe, ["base-3", "no-dropout"])["base_channels"] == 3


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--ablation", "no-such"], "'no-such' is not known; expected no-weight-map"),
        (["--weight-map"], "changes nothing: w0 is 10.0, class_balance is True"),
        (["--ablation", "base-16"], "base_channels is 16 already"),
    ],
)
def test_ablations_that_cannot_be(tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        command.main(["isbi2012", "--out", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_pictures")
def test_minutes_set_the_steps_of_all(folder, tmp_path):
    out = tmp_path / "out"
    small = [*SMALL[: SMALL.index("--steps")], "--evaluate-every", "1000", "--minutes", "0.001", "--plain"]
    command.main(["nuclei", "--data", str(folder), "--out", str(out), *small, "--ablation", "no-elastic"])
    steps = [
        json.loads((out / name / "run" / "config.json").read_text())["options"]["steps"] for name in (".", "no-elastic")
    ]
    assert steps[0] == steps[1] >= 1


def test_recipes_are_options_of_train():
    for experiment in recipes.EXPERIMENTS.values():
        words = running.arguments_of(experiment.train)
        parsed = vars(train_options.parser().parse_args(words))
        assert parsed == experiment.train
        train_options.check(train_options.DEFAULTS | parsed)


def test_the_paper_s_scores_are_shares():
    figures = [figure for experiment in recipes.EXPERIMENTS.values() for figure in experiment.figures]
    printed = [figure for figure in figures if figure.paper is not None]
    assert len(printed) >= 6 and all(0 < figure.paper < 1 for figure in printed)


def likely(instances, inside=0.95, between=None):
    """A probability that knows the cells; `between` in the pixels of a cell beside another one."""
    probability = np.where(instances > 0, inside, 0.02).astype(np.float32)
    if between is not None:
        for axis in (0, 1):
            other = np.roll(instances, 1, axis)
            contact = (instances > 0) & (other > 0) & (other != instances)
            probability[contact | np.roll(contact, -1, axis)] = between
    return np.stack([1 - probability, probability], axis=-1)


def test_cutting_is_chosen_so_that_touching_cells_part(rng):
    sample = discs(rng, touching=True)
    probability = likely(sample.instances, between=0.65)
    cutting, score = choose_cutting.choose_cutting([sample], [probability])
    assert cutting.threshold < 0.65 <= cutting.seed_threshold and score > 0.95
    rows, totals, found = cell_scores.score_cells(cutting, [sample], [probability])
    assert (
        totals["merged"],
        totals["split"],
        totals["missed"],
        totals["invented"],
        totals["true"],
        totals["touching"],
    ) == (0, 0, 0, 0, 4, 2)
    assert totals["seg"] == metrics.seg(found[0], sample.instances) > 0.95 and totals["iou"] == 1
    merged = cell_scores.score_cells(Cutting(0.5, 0.5, 1), [sample], [probability])[1]
    assert (
        merged["merged"] == 1
        and merged["seg"] < 0.8
        and merged["seg_touching"] < 0.6
        and merged["seg_components"] == totals["seg_components"] == merged["seg"]
        and merged["iou"] == 1
    )


def test_invented_cells_count_in_the_choice(rng):
    """A faint blob that is no cell: SEG alone would not mind it."""
    sample = discs(rng)
    probability = likely(sample.instances)
    probability[19:29, 19:29] = 0.45, 0.55  # larger than the smallest size, 66 pixels
    cutting, _ = choose_cutting.choose_cutting([sample], [probability])
    assert cell_scores.score_cells(cutting, [sample], [probability])[1]["invented"] == 0
    assert cell_scores.score_cells(Cutting(0.5, 0.5, 1), [sample], [probability])[1]["invented"] == 1


def test_cells_without_annotation_are_left_out(rng):
    sample = discs(rng)
    ignore = np.zeros((48, 48), bool)
    ignore[18:30, 18:30] = True
    probability = likely(sample.instances)[..., 1]
    probability[20:28, 20:28] = 0.9
    assert Cutting(0.5, 0.5, 1).cells(probability).max() == 5
    found = Cutting(0.5, 0.5, 1).cells(probability, ignore)
    assert not found[20:28, 20:28].any() and len(np.unique(found)) == 5


def test_found_cells_have_the_colours_of_true_ones():
    truth, found = np.array([[1, 1, 2, 2, 0, 0]]), np.array([[4, 4, 4, 2, 0, 3]])
    assert cell_pictures.in_colours_of(found, truth).tolist() == [[1, 1, 1, 2, 0, 3]]
    assert len(np.unique(cell_pictures.palette(60).round(3), axis=0)) == 61


def test_numbers_for_people():
    assert [
        report.number("merged", 3),
        report.number("seg", 0.91234),
        report.number("warping_error", 0.000353),
        report.number("seg", float("nan")),
    ] == ["3", "0.9123", "0.000353", "-"]


def test_an_ablation_turns_off_what_its_name_says():
    assert ABLATIONS["no-elastic"].change({}) == {"elastic": 0.0}
    assert ABLATIONS["no-dropout"].change({}) == {"dropout": 0.0}
    assert ABLATIONS["no-weight-map"].change({}) == {"w0": 0.0, "class_balance": False}
