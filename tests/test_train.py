"""The train command: its run folder, resume to the same bits, Ctrl-C, bad input, and a network that has learned."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from npunet import InputError, UNet, train
from npunet.commands import memory_needs, train_options
from npunet.datasets import synthetic
from npunet.files import checkpoint, images
from npunet.machine.backend import free_memory, gpu_problem

without_pictures = pytest.mark.usefixtures("without_pictures")

SMALL = "--base-channels 2 --depth 1 --tile 36 --held-out 1 --evaluate-every 2 --threads 1".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four small images and masks, as a user has them."""
    root = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for sample in synthetic(n_sections=4, size=48, seed=2).samples:
        images.write_mask(root / "masks" / f"{sample.name}.png", sample.labels.astype(np.uint8))
        images.write_mask(root / "images" / f"{sample.name}.png", (sample.image[..., 0] > 0.5).astype(np.uint8))
    return root


def command(*arguments, **keywords):
    return subprocess.run(
        [sys.executable, "-m", "npunet.train", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **keywords,
    )


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_it_promises(folder, tmp_path, capsys):
    run = tmp_path / "run"
    train.main(["--data", str(folder), "--out", str(run), "--steps", "4", *SMALL])
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "newest.npz",
        "best.npz",
        "loss.png",
        "panel.png",
    }
    records = metrics(run)
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3, 4]
    assert [record["step"] for record in records if "held_out" in record] == [2, 4]
    assert {"pixel_accuracy", "mean_iou", "iou", "dice"} <= records[-1]["held_out"].keys()
    assert json.loads((run / "config.json").read_text())["options"]["steps"] == 4
    for picture in ("loss.png", "panel.png"):
        assert images.read_image(run / picture)[0].std() > 0.01
    assert UNet.load(run / "best.npz").config["base_channels"] == 2
    output = capsys.readouterr().out
    assert "processes" not in output
    assert str(run) in output and "pixel accuracy" in output and "held out" in output


@without_pictures
def test_a_run_that_was_stopped_and_resumed_has_the_same_bits(folder, tmp_path, monkeypatch):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    options = ["--data", str(folder), "--steps", "6", *SMALL]
    train.main([*options, "--out", str(straight)])

    step = train.Session.step

    def stop_at_the_third(session, number, batch):
        session.stop_requested = number == 2
        return step(session, number, batch)

    monkeypatch.setattr(train.Session, "step", stop_at_the_third)
    with pytest.raises(SystemExit) as stop:
        train.main([*options, "--out", str(stopped)])
    assert stop.value.code == 130 and checkpoint.load(stopped / "newest.npz")["header"]["progress"]["step"] == 3
    monkeypatch.undo()
    train.main(["--resume", str(stopped)])

    first, second = checkpoint.load(straight / "newest.npz"), checkpoint.load(stopped / "newest.npz")
    assert first.keys() == second.keys() and first["header"] == second["header"]
    for name in first.keys() - {"header"}:
        assert first[name].tobytes() == second[name].tobytes(), name
    without_time = [
        [{key: value for key, value in record.items() if key != "seconds"} for record in metrics(run)]
        for run in (straight, stopped)
    ]
    assert without_time[0] == without_time[1]


def test_ctrl_c_saves_what_was_done(folder, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "npunet.train",
            "--data",
            str(folder),
            "--out",
            str(run),
            "--steps",
            "100000",
            *SMALL,
            "--evaluate-every",
            "100000",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"--resume {run}" in output
    done = checkpoint.load(run / "newest.npz")["header"]["progress"]["step"]
    assert done == metrics(run)[-1]["step"] >= 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--tile", "570", "--depth", "4"], "tile 570 is not a valid input size; nearest are 556 and 572"),
        (["--data", "nowhere"], "nowhere"),
        (["--device", "gpu"], "install"),
    ],
    ids=["tile", "data", "device"],
)
def test_bad_options_end_with_one_line_and_status_2(folder, tmp_path, arguments, words):
    if "gpu" in arguments and gpu_problem() is None:
        pytest.skip("this machine has a usable GPU")
    run = tmp_path / "run"
    result = command("--data", folder, "--out", run, *SMALL, *arguments)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and words in result.stderr, result.stderr
    assert not run.exists()


def test_a_tile_that_is_no_number(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--tile", "large"])
    assert (
        stop.value.code == 2
        and "argument --tile: 'large'; expected a number of pixels, or auto" in capsys.readouterr().err
    )


@without_pictures
def test_an_earlier_run_is_never_overwritten(folder, tmp_path):
    run = tmp_path / "run"
    train.main(["--data", str(folder), "--out", str(run), "--steps", "1", *SMALL])
    before = (run / "newest.npz").read_bytes()
    with pytest.raises(InputError, match="holds a run already.*--resume"):
        train.main(["--data", str(folder), "--out", str(run), "--steps", "1", *SMALL])
    assert (run / "newest.npz").read_bytes() == before


@without_pictures
def test_resume_refuses_what_is_no_run_and_what_cannot_change(folder, tmp_path):
    with pytest.raises(InputError, match="config.json cannot be read"):
        train.main(["--resume", str(tmp_path)])
    run = tmp_path / "run"
    train.main(["--data", str(folder), "--out", str(run), "--steps", "1", *SMALL])
    with pytest.raises(InputError, match="--base-channels cannot change"):
        train.main(["--resume", str(run), "--base-channels", "4"])
    (run / "newest.npz").write_bytes((run / "newest.npz").read_bytes()[:1000])
    with pytest.raises(InputError, match="newest.npz"):
        train.main(["--resume", str(run), "--steps", "2"])
    (run / "newest.npz").unlink()
    with pytest.raises(InputError, match="newest.npz does not exist: the run stopped before its first checkpoint"):
        train.main(["--resume", str(run)])
    for text in ("{}", "[1]", '{"options": {}}'):
        (run / "config.json").write_text(text)
        with pytest.raises(InputError, match="--resume .*: that is no run of npunet.train"):
            train.main(["--resume", str(run)])


@without_pictures
def test_resume_goes_on_with_the_same_images_and_not_back(folder, tmp_path):
    run, more = tmp_path / "run", tmp_path / "more"
    train.main(["--data", str(folder), "--out", str(run), "--steps", "4", *SMALL])
    with pytest.raises(InputError, match="--steps 3, but the run in .* has done 4"):
        train.main(["--resume", str(run), "--steps", "3"])
    shutil.copytree(folder, more)
    for kind in ("images", "masks"):  # a fifth image: the held-out fourth would be trained on
        shutil.copy(more / kind / "section3.png", more / kind / "section4.png")
    with pytest.raises(
        InputError, match="the last 1 images are section4 to section4, but this run holds out section3 to section3"
    ):
        train.main(["--resume", str(run), "--data", str(more), "--steps", "6"])
    moved = folder.rename(tmp_path / "moved")
    try:
        train.main(["--resume", str(run), "--data", str(moved), "--steps", "6"])
    finally:
        moved.rename(folder)


@without_pictures
def test_a_run_that_has_done_its_steps_unscored_is_said_so(folder, tmp_path, capsys):
    run = tmp_path / "run"
    train.main(["--data", str(folder), "--out", str(run), "--steps", "2", *SMALL])
    (run / "metrics.jsonl").unlink()
    train.main(["--resume", str(run)])
    assert "none was scored" in capsys.readouterr().out


@without_pictures
def test_a_run_that_failed_before_its_first_step_can_be_repeated(folder, tmp_path, monkeypatch):
    def out_of_memory(session):
        raise MemoryError

    arguments, run = ["--data", str(folder), "--steps", "1", *SMALL, "--out", str(tmp_path / "run")], tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(train.Session, "train", out_of_memory)
        with pytest.raises(InputError, match="out of memory"):
            train.main(arguments)
    assert [path.name for path in run.iterdir()] == ["config.json"]
    train.main(arguments)
    (run / "newest.npz").unlink()
    with pytest.raises(InputError, match="holds a run without a checkpoint"):
        train.main(arguments)


def test_a_folder_that_cannot_be_written_is_one_line(folder, tmp_path):
    run = tmp_path / "run"
    (run / "loss.png").mkdir(parents=True)
    with pytest.raises(InputError, match=r"run/ cannot be written \(.*\); check the folder") as error:
        train.main(["--data", str(folder), "--out", str(run), "--steps", "2", *SMALL])
    assert "\n" not in str(error.value) and not [path for path in run.iterdir() if "part" in path.name]


def test_a_single_image_is_not_enough(folder, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        shutil.copy(folder / kind / "section0.png", tmp_path / kind)
    with pytest.raises(InputError, match="has one image; expected at least two"):
        train.main(["--data", str(tmp_path), "--out", str(tmp_path / "run"), *SMALL])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow is the point
def test_a_loss_that_explodes_stops_the_run_and_keeps_the_last_good_checkpoint(folder, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"step \d+: loss .* largest activation .* learning rate"):
        train.main(
            [
                "--data",
                str(folder),
                "--out",
                str(run),
                "--steps",
                "200",
                *SMALL,
                "--learning-rate",
                "1e20",
                "--clip",
                "0",
                "--warmup",
                "60",
            ]
        )
    if (run / "newest.npz").exists():
        for name, parameter in UNet.load(run / "newest.npz").parameters.items():
            assert np.isfinite(parameter.value).all(), name


PYTORCH_UNET = "--variant pytorch-unet --base-channels 2 --depth 1 --tile 30 --held-out 1 --threads 1".split()


@without_pictures
def test_the_recipe_of_pytorch_unet(folder, tmp_path, capsys):
    """One class, bilinear, RMSprop, Dice, plateau, scale, recomputation; stopped after one epoch and resumed."""
    run = tmp_path / "run"
    train.main(
        [
            "--data",
            str(folder),
            "--out",
            str(run),
            *PYTORCH_UNET,
            "--bilinear",
            "--classes",
            "1",
            "--optimizer",
            "rmsprop",
            "--momentum",
            "0.9",
            "--weight-decay",
            "1e-8",
            "--loss",
            "cross-entropy+dice",
            "--schedule",
            "plateau",
            "--learning-rate",
            "1e-4",
            "--scale",
            "0.5",
            "--epochs",
            "2",
            "--evaluate-every",
            "2",
            "--recompute",
        ]
    )
    net = UNet.load(run / "best.npz")
    assert (net.n_classes, net.bilinear, net.mask_values, net.input_mean, net.recompute) == (
        1,
        True,
        [0, 255],
        0,
        False,
    )
    records = metrics(run)
    assert max(record["step"] for record in records) == 6  # two epochs of three images
    header = checkpoint.load(run / "newest.npz")["header"]
    assert header["progress"]["plateau"]["factor"] == 1.0 and header["network"]["bilinear"]
    train.main(["--resume", str(run), "--steps", "8", "--evaluate-every", "2"])
    assert max(record["step"] for record in metrics(run)) == 8
    net.save(run / "best.pth")
    assert UNet.load(run / "best.pth").mask_values == [0, 255]


@without_pictures
def test_recomputation_trains_the_same_network(folder, tmp_path):
    for name, more in (("plain", []), ("again", ["--recompute"])):
        train.main(["--data", str(folder), "--out", str(tmp_path / name), "--steps", "3", *PYTORCH_UNET, *more])
    plain, again = (checkpoint.load(tmp_path / name / "newest.npz") for name in ("plain", "again"))
    for name in plain.keys() - {"header"}:
        np.testing.assert_array_equal(plain[name], again[name])


@without_pictures
@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_training_starts_from_loaded_weights(folder, tmp_path, suffix):
    """At a learning rate of next to nothing the weights stay; the file decides variant and sizes."""
    net = UNet(1, 2, 3, 2, variant="pytorch-unet", seed=9)
    net.save(tmp_path / f"given{suffix}")
    train.main(
        [
            "--data",
            str(folder),
            "--out",
            str(tmp_path / "run"),
            "--load",
            str(tmp_path / f"given{suffix}"),
            "--steps",
            "1",
            "--tile",
            "32",
            "--held-out",
            "1",
            "--learning-rate",
            "1e-30",
        ]
    )
    trained = UNet.load(tmp_path / "run" / "newest.npz")
    assert trained.config["variant"] == "pytorch-unet" and trained.config["base_channels"] == 3
    for name, parameter in net.parameters.items():
        np.testing.assert_allclose(trained.parameters[name].value, parameter.value, rtol=0, atol=1e-30)
    assert trained.statistics["bottleneck.norm1.batches"].value == 1
    with pytest.raises(InputError, match="given"):
        train.main(
            [
                "--data",
                str(folder),
                "--out",
                str(tmp_path / "other"),
                "--load",
                str(tmp_path / f"given{suffix}"),
                "--base-channels",
                "4",
            ]
        )


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--steps", "0"], "--steps is 0"),
        (["--momentum", "1"], "--momentum is 1.0"),
        (["--seed", "-1"], "--seed is -1; expected at least 0"),
        (["--scale", "0"], "--scale is 0.0"),
        (["--scale", "1.5"], "--scale is 1.5"),
        (["--weight-decay", "-1"], "--weight-decay is -1.0"),
        (["--variant", "pytorch-unet", "--tile", "1"], "the smallest is 2"),
        (["--bilinear"], "bilinear"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--load", "nowhere.pth"], "nowhere.pth"),
        (["--scale", "0.01"], "leaves nothing"),
        *(
            (["--" + name, value], f"--{name} is .*; expected")
            for name, value in (
                ("w0", "nan"),
                ("w0", "-1"),
                ("sigma", "0"),
                ("sigma", "nan"),
                ("elastic", "nan"),
                ("grey", "-1"),
                ("rotation", "inf"),
                ("clip", "-1"),
                ("warmup", "-3"),
                ("dropout", "1"),
                ("learning-rate", "inf"),
                ("weight-decay", "nan"),
                ("minutes", "inf"),
                ("evaluate-every", "0"),
                ("threads", "0"),
                ("gap", "-1"),
            )
        ),
        (["--steps", "3", "--minutes", "1"], "--steps and --minutes all say how long"),
    ],
)
def test_more_bad_options(folder, tmp_path, arguments, words):
    with pytest.raises(InputError, match=words) as error:
        train.main(["--data", str(folder), "--out", str(tmp_path / "run"), *SMALL, *arguments])
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_too_little_memory_is_said_before_starting_with_what_would_fit(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: 400_000_000)
    with pytest.raises(
        InputError,
        match=r"tile 572 with 32 base channels needs about \d\.\d GB, but 0\.4 GB are free; --tile \d+ or "
        r"--base-channels \d+ would fit",
    ):
        large = ["--base-channels", "32", "--tile", "572", "--held-out", "1"]
        train.main(["--data", str(folder), "--out", str(tmp_path / "run"), *large])
    assert not (tmp_path / "run").exists()


def test_free_memory_is_a_plausible_number():
    free = free_memory("cpu")
    assert free is None or 1e6 < free < 1e14


@without_pictures
def test_minutes_become_steps_that_repeat_the_run(folder, tmp_path, capsys):
    timed, counted = tmp_path / "timed", tmp_path / "counted"
    rarely = [*SMALL, "--evaluate-every", "1000"]
    train.main(["--data", str(folder), "--out", str(timed), "--minutes", "0.002", *rarely])
    found = json.loads((timed / "config.json").read_text())["options"]["steps"]
    assert (
        1 <= found == checkpoint.load(timed / "newest.npz")["header"]["progress"]["step"]
        and f"--steps {found}" in capsys.readouterr().out
    )
    train.main(["--data", str(folder), "--out", str(counted), "--steps", str(found), *rarely])
    first, second = (checkpoint.load(run / "newest.npz") for run in (timed, counted))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first.keys() - {"header"})


def test_more_minutes_are_more_steps(folder, monkeypatch):
    """A step of two seconds and evaluations of three, by a clock that is told so:
    (0.95 * 600 - 17) / (2 + 3 / 2) and (0.95 * 600 - 17 - 30) / 2.
    """
    options = train_options.DEFAULTS | dict(base_channels=2, depth=1, tile=36, evaluate_every=2)
    training, held_out = synthetic(n_sections=2, size=48, seed=2).split(1)
    clock = [0.0]

    def wait(seconds, result=None):
        clock[0] += seconds
        return result

    monkeypatch.setattr(train.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(train, "training_step", lambda *arguments, **keywords: wait(2))
    monkeypatch.setattr(train, "evaluate", lambda *arguments, **keywords: wait(3))
    net = UNet(base_channels=2, depth=1)
    assert train.steps_in(600, net, training, held_out, options) == int((570 - 17) / 3.5)
    clock[0] = 0.0
    assert train.steps_in(600, net, training, held_out, options | dict(evaluate_every=None)) == int((570 - 17 - 30) / 2)
    assert train.steps_in(1, net, training, held_out, options) == 1


@without_pictures
def test_auto_tile_is_a_number_in_the_run(folder, tmp_path):
    """48 pixels at depth 1: an output of 48, from 64."""
    run = tmp_path / "run"
    small = ["auto" if word == "36" else word for word in SMALL]
    train.main(["--data", str(folder), "--out", str(run), "--steps", "1", *small])
    assert json.loads((run / "config.json").read_text())["options"]["tile"] == 64


@pytest.mark.parametrize("gap, expected", [(None, 2), (0, 0), (2, 4)])
def test_touching_cells_are_trained_with_a_gap(tmp_path, monkeypatch, gap, expected):
    """Two numbered cells side by side in each mask: one pixel of each becomes background, unless told otherwise;
    held-out ones stay.
    """
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(2):
        mask = np.zeros((48, 48), np.uint8)
        mask[10:30, 10:20], mask[10:30, 20:30] = 1, 2
        images.write_mask(tmp_path / "masks" / f"{number}.png", mask, n_classes=256)
        images.write_mask(tmp_path / "images" / f"{number}.png", (mask > 0).astype(np.uint8))
    seen = []
    monkeypatch.setattr(train.Session, "train", lambda session: seen.append(session) or True)
    train.main(
        [
            "--data",
            str(tmp_path),
            "--labels",
            "instances",
            "--out",
            str(tmp_path / "run"),
            *SMALL,
            *(() if gap is None else ("--gap", str(gap))),
        ]
    )
    background = [int((sample.labels[15, 10:30] == 0).sum()) for sample in (seen[0].training[0], seen[0].held_out[0])]
    assert background == [expected, 0]
