"""python -m npunet.stylize: what it writes, what it refuses, Ctrl-C, downloads from 127.0.0.1."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from style_helpers import small_vgg
from test_datasets_download import server  # noqa: F401  (a fixture)

from npunet import stylize
from npunet.errors import InputError
from npunet.files import checkpoint, images, torch_files
from npunet.machine import threads
from npunet.style import VGG, Generator, Objective, options, vgg, weights
from npunet.style import options as style_options
from npunet.style import run as style_run
from npunet.style.losses import STYLE_WEIGHT
from npunet.style.photographs import Photographs
from npunet.style.pictures import fitted, read_picture


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A small VGG as a file of PyTorch, a style picture, a content picture and a folder of two."""
    eye = small_vgg(monkeypatch, dtype="float32")
    tensors = {}
    for name, number in vgg.chain("vgg19"):
        if name in eye.weights:
            weight, bias = eye.weights[name]
            tensors |= {f"features.{number}.weight": weight.transpose(3, 2, 0, 1), f"features.{number}.bias": bias}
    torch_files.save_torch(tmp_path / "vgg.pth", tensors)
    images.write_image(tmp_path / "content.png", rng.random((60, 41, 3)))
    images.write_image(tmp_path / "style.png", rng.random((40, 50, 3)) * [1, 0.5, 0.2])
    (tmp_path / "many").mkdir()
    for number, shape in enumerate([(50, 70, 3), (90, 40, 3)]):
        images.write_image(tmp_path / "many" / f"{number}.png", rng.random(shape))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """Contact sheets are not drawn, which takes longer than training here; the last one's pictures by name."""
    sheet = {}
    monkeypatch.setattr(style_run, "contact_sheet", lambda path, named: sheet.clear() or sheet.update(named))
    monkeypatch.setattr(style_run, "loss_curves", lambda path, records: None)
    return sheet


TRAIN = (
    "train --content content.png --style style.png --weights vgg.pth --size 48 "
    "--base-channels 2 --style-weight 100 --out out"
)
OPTIMIZE = "optimize --content content.png --style style.png --weights vgg.pth --size 48 --style-weight 100 --out out"


def run(*texts):
    stylize.main(" ".join(texts).split())


def losses(path="out"):
    return [json.loads(line) for line in Path(path, "losses.jsonl").read_text().splitlines()]


def test_train_and_apply(folder, capsys):
    run(TRAIN, "--steps 8 --learning-rate 0.01 --variation-weight 0.1")
    records = losses()
    assert [record["step"] for record in records] == list(range(1, 9))
    assert set(records[0]) == {"step", "total", "content", "style", "variation", "seconds"}
    assert records[-1]["total"] < records[0]["total"]
    assert all(0 < record["seconds"] == round(record["seconds"], 4) for record in records)
    assert {path.name for path in Path("out").iterdir()} == {
        "config.json",
        "picture.png",
        "steps",
        "contact_sheet.png",
        "losses.png",
        "losses.jsonl",
        "model.npz",
        "newest.npz",
    }
    assert {path.name for path in Path("out/steps").iterdir()} == {f"{step}.png" for step in range(1, 9)}
    output = capsys.readouterr().out
    assert "done after step 8" in output and "--resume" not in output
    assert read_picture("out/picture.png").shape == (64, 48, 3), "60 x 41 to a shorter side of 48, on the pooling grid"
    run("apply --model out/model.npz --input content.png many --output painted")
    assert {path.name for path in Path("painted").iterdir()} == {"content.png", "0.png", "1.png"}
    assert read_picture("painted/0.png").shape == (50, 70, 3)
    found = Generator.load("out/model.npz").paint(read_picture("content.png"))
    assert abs(found - read_picture("painted/content.png")).max() < 0.6 / 255
    run("apply --model out/model.npz --input content.png --output small --size 30")
    assert read_picture("small/content.png").shape == (44, 30, 3)


def test_the_contact_sheet_shows_the_way(folder, undrawn):
    run(TRAIN, "--steps 16")
    assert list(undrawn) == ["content", "style", *(f"step {step}" for step in range(2, 17, 2))]


def test_the_last_picture_is_painted_once(folder, undrawn, monkeypatch):
    """Three steps, each on the sheet: three pictures, not a fourth of the last step when the run ends."""
    painted, paint = [], Generator.paint
    monkeypatch.setattr(Generator, "paint", lambda self, *rest: painted.append(self) or paint(self, *rest))
    run(TRAIN, "--steps 3")
    assert len(painted) == 3


def test_train_on_a_folder_is_repeatable(folder, undrawn):
    for out in ("a", "b"):
        run(TRAIN.replace("content.png", "many"), f"--batch 2 --steps 3 --out {out}")
    one, other = (Generator.load(f"{out}/model.npz").net.parameters for out in "ab")
    assert all(np.array_equal(one[name].value, other[name].value) for name in one)
    assert len({record["content"] for record in losses("a")}) == 3


@pytest.mark.parametrize("content, squares", [("content.png", 1), ("many", 8)])
def test_the_style_weight_comes_from_the_style(folder, undrawn, capsys, content, squares):
    """Who gives none gets the weight that makes the style loss of the photographs, as they are, 150 in the median."""
    given = TRAIN.replace("content.png", content).replace("--style-weight 100 ", "")
    run(given, "--steps 2")
    weight = json.loads(Path("out/config.json").read_text())["options"]["style_weight"]
    assert f"style weight {weight:g}: " in capsys.readouterr().out
    assert Generator.load("out/model.npz").info["style_weight"] == weight
    objective = Objective(VGG.load("vgg.pth")).set_style(fitted(read_picture("style.png"), 48)[None])
    shown = [fitted(read_picture("content.png"), 48, 16)[None]] * squares
    if content == "many":
        photographs = Photographs(sorted(Path("many").iterdir()), 48, 48)
        shown = [photographs.batch(1, 0, step) for step in range(squares)]
    of_photographs = np.median([objective(x, objective.content_targets(x))[0]["style"] for x in shown]) / STYLE_WEIGHT
    assert weight == pytest.approx(150 / of_photographs, rel=0.05)  # two digits
    run(given, f"--style-weight {weight!r} --steps 2 --out again")
    assert [record["total"] for record in losses()] == [record["total"] for record in losses("again")]


def test_photographs_in_the_style_already_have_gatys_weight(folder, undrawn):
    run(TRAIN.replace("style.png", "content.png").replace("--style-weight 100", "--style-layers none"), "--steps 1")
    assert json.loads(Path("out/config.json").read_text())["options"]["style_weight"] == STYLE_WEIGHT


def test_settings(folder, monkeypatch):
    run(TRAIN, "--steps 1")
    better = Generator.load("out/model.npz")
    assert better.colours == "full" and better.net.bilinear
    monkeypatch.setitem(options.FAITHFUL, "base_channels", 2)
    run(
        TRAIN.replace("--base-channels 2", "").replace("--size 48", ""), "--faithful --size 32 --steps 1 --out faithful"
    )
    faithful = Generator.load("faithful/model.npz")
    assert faithful.colours == "normalised" and not faithful.net.bilinear and faithful.info["size"] == 32


@pytest.mark.parametrize(
    "more", ["--method lbfgs", "--method adam --start noise", "--content-layers none --style-layers relu1_1,conv3_1"]
)
def test_optimize(folder, undrawn, more):
    run(OPTIMIZE, "--steps 8", more)
    assert read_picture("out/picture.png").shape == (70, 48, 3) and not Path("out/model.npz").exists()
    assert losses()[-1]["total"] < losses()[0]["total"]


def test_without_weights_it_says_what_to_expect(folder, monkeypatch, capsys):
    run(OPTIMIZE.replace("--weights vgg.pth", ""), "--steps 1")
    assert "random weights" in capsys.readouterr().err


def stop_at(number, monkeypatch):
    """From now on a Ctrl-C comes during this step."""

    def report_and_interrupt(self, step, terms, paint, original=style_run.Run.report, **more):
        if step == number:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, step, terms, paint, **more)

    monkeypatch.setattr(style_run.Run, "report", report_and_interrupt)


@pytest.mark.parametrize("command", [TRAIN, OPTIMIZE])
def test_interrupted_runs_keep_the_newest(folder, command, monkeypatch, capsys):
    stop_at(3, monkeypatch)
    before = signal.getsignal(signal.SIGINT)  # pytest in the background has it ignored
    with pytest.raises(SystemExit) as ended:
        run(command, "--steps 40")
    assert ended.value.code == 130 and len(losses()) == 3
    output = capsys.readouterr().out
    assert "stopped after step 3" in output and (
        "go on with: python -m npunet.stylize train --resume out" in output
    ) == (command == TRAIN)
    assert read_picture("out/picture.png").size and Path("out/model.npz").exists() == (command == TRAIN)
    assert signal.getsignal(signal.SIGINT) is before


# Going on -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, last",
    [("", 5), ("--faithful", 4), ("--content many --batch 2 --variation-weight 0.1", 5)],
    ids=["better, between pictures", "faithful, at a picture", "folder"],
)
def test_a_run_that_was_stopped_and_resumed_has_the_same_bits(folder, undrawn, monkeypatch, more, last):
    command = f"{TRAIN} {more} --steps 16 --learning-rate 0.01"
    run(command, "--out straight")
    with monkeypatch.context() as during, pytest.raises(SystemExit):
        stop_at(last, during)
        run(command, "--out stopped")
    run("train --resume stopped")
    straight, resumed = (
        [{name: value for name, value in record.items() if name != "seconds"} for record in losses(path)]
        for path in ("straight", "stopped")
    )
    assert straight == resumed and len(straight) == 16
    for name in ("newest.npz", "model.npz"):
        one, other = (checkpoint.load(Path(path, name)) for path in ("straight", "stopped"))
        assert one.keys() == other.keys() and one["header"] == other["header"]
        for entry in one.keys() - {"header"}:
            assert one[entry].tobytes() == other[entry].tobytes(), (name, entry)
    for picture in ("picture.png", "steps/4.png", "steps/16.png"):
        assert Path("straight", picture).read_bytes() == Path("stopped", picture).read_bytes()
    assert list(undrawn) == ["content", "style", *(f"step {step}" for step in range(2, 17, 2))], "and no step 5"
    assert np.array_equal(undrawn["step 2"], read_picture("straight/steps/2.png"))


def test_a_killed_run_goes_on_from_its_last_checkpoint(folder, undrawn, monkeypatch):
    """Step 5 is done again; the line that was being written is dropped."""

    def killed(self, step, terms, paint, original=style_run.Run.report, **more):
        if step == 6:
            raise KeyboardInterrupt
        return original(self, step, terms, paint, **more)

    run(TRAIN, "--steps 8 --out straight")
    with monkeypatch.context() as during, pytest.raises(KeyboardInterrupt):
        during.setattr(style_run.Run, "report", killed)
        during.setattr(style_run, "SHEET", 2)  # a checkpoint at 4, none at 5
        run(TRAIN, "--steps 8")
    assert [record["step"] for record in losses()] == [1, 2, 3, 4, 5]
    with open("out/losses.jsonl", "a") as file:
        file.write('{"step": 6, "to')
    run("train --resume out")
    assert [record["step"] for record in losses()] == list(range(1, 9))
    assert [record["total"] for record in losses()] == [record["total"] for record in losses("straight")]


def test_more_steps_after_the_end(folder, undrawn):
    run(TRAIN, "--schedule constant --steps 6 --out straight")
    run(TRAIN, "--schedule constant --steps 3")
    with pytest.raises(InputError, match="^--resume out: it is at step 3 of 3 already; give more --steps to go on$"):
        run("train --resume out")
    Path("content.png").rename("moved.png")
    run("train --resume out --steps 6 --content moved.png")
    assert [record["total"] for record in losses()] == [record["total"] for record in losses("straight")]
    assert Generator.load("out/model.npz").info["steps"] == 6


def test_what_cannot_be_resumed_is_one_line(folder, undrawn):
    run(TRAIN, "--steps 2 --out trained")
    run(OPTIMIZE, "--steps 2 --out direct")
    for path, text in (
        ("other", '{"options": {}, "network": {}}'),
        ("list", "[]"),
        ("broken", "{"),
        ("empty", '{"command": "train", "options": {}}'),
    ):
        Path(path).mkdir()
        Path(path, "config.json").write_text(text)
    Path("gone").mkdir()
    Path("gone/config.json").write_text(Path("trained/config.json").read_text())
    images.write_image("other.png", np.zeros((60, 41, 3)))
    for name, channels in (("wider", 3), ("huge", 5000)):
        Path(name).mkdir()
        text = Path("trained/config.json").read_text().replace('"base_channels": 2', f'"base_channels": {channels}')
        Path(name, "config.json").write_text(text)
        Path(name, "newest.npz").write_bytes(Path("trained/newest.npz").read_bytes())
    before = Path("trained/newest.npz").read_bytes(), Path("trained/losses.jsonl").read_text()
    for arguments, message in [
        ("nowhere", "--resume nowhere: nowhere/config.json cannot be read"),
        ("broken", "--resume broken: broken/config.json cannot be read"),
        ("other", "--resume other: that is no run of npunet.stylize train"),
        ("list", "--resume list: that is no run of npunet.stylize train"),
        ("direct", "--resume direct: that is no run of npunet.stylize train"),
        ("empty", "--content is missing; expected a picture or a folder"),
        ("gone --steps 4", "newest.npz does not exist"),
        ("wider --steps 4", "newest.npz does not belong to the network in"),
        ("huge --steps 4", "its header describes a network of at least 14,400,030,000 weights"),
        (
            "trained --style-weight 7",
            "--style-weight cannot change when a run is resumed; only --content, --style, --weights, --steps,",
        ),
        ("trained --out new", "--out cannot change"),
        ("trained --faithful", "--faithful cannot change"),
        ("trained --steps 4 --content other.png", "--content: not what the run in trained began with"),
        ("trained --steps 4 --content many", "--content: not what the run in trained began with"),
        ("trained --steps 4 --style other.png", "--style: not what the run in trained began with"),
        ("trained --steps 4 --weights content.png", "--weights: not what the run in trained began with"),
        ("trained", "it is at step 2 of 2 already"),
        ("trained --steps 1", "it is at step 2 of 1 already"),
    ]:
        with pytest.raises(InputError) as error:
            run("train --resume", arguments)
        assert message in str(error.value) and "\n" not in str(error.value)
    assert before == (Path("trained/newest.npz").read_bytes(), Path("trained/losses.jsonl").read_text())


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        (TRAIN.replace("content.png", "none.png"), "none.png: no such file"),
        (TRAIN.replace("vgg.pth", "style.png"), "style.png: is not a file that torch.save"),
        (TRAIN + " --size 50", "--size is 50; expected a multiple of 16"),
        (TRAIN + " --steps 0", "--steps is 0; expected at least 1"),
        (TRAIN + " --batch 2", "--batch 2 needs a folder of pictures"),
        (TRAIN + " --style-layers conv7_1", "layer conv7_1: vgg19 has none of that name"),
        (TRAIN + " --style-weight -1", "--style-weight is -1.0; expected at least 0"),
        (TRAIN + " --out content.png", "--out content.png: the folder cannot be made"),
        ("train --style style.png", "--content is missing; expected a picture or a folder of them"),
        ("optimize --content content.png", "--style is missing; expected a picture"),
        (OPTIMIZE + " --learning-rate nan", "--learning-rate is nan"),
        (TRAIN + " --seed -1", "--seed is -1; expected at least 0"),
        (TRAIN + " --threads 0", "--threads is 0; expected at least 1"),
        (TRAIN + " --style-size 0", "--style-size is 0; expected at least 1"),
        (OPTIMIZE.replace("style.png", "content.png"), "no step from the content made the loss smaller"),
        (OPTIMIZE + " --size 4", "pixels are too small for"),
        ("apply --model style.png --input content.png --output out", "style.png is not an npunet checkpoint"),
        ("apply --model none.npz --input content.png --output .", "content.png would overwrite the input"),
    ],
)
def test_bad_input_is_one_line(arguments, message, folder):
    with pytest.raises(InputError) as error:
        run(arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_loss_that_is_not_finite_ends_the_run(folder, monkeypatch):
    monkeypatch.setattr(stylize, "generator_step", lambda *arguments: {"total": np.nan})
    with pytest.raises(InputError, match="step 1: the loss is nan; try a tenth of --learning-rate"):
        run(TRAIN)


@pytest.mark.parametrize("first", [TRAIN, OPTIMIZE])
@pytest.mark.parametrize("second", [TRAIN, OPTIMIZE])
def test_a_run_is_not_overwritten(folder, undrawn, first, second):
    run(first, "--steps 1")
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    with pytest.raises(InputError, match="^out holds a run already; give another --out"):
        run(second)
    assert before == {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}


def test_exit_status_and_help(folder):
    def command(*arguments):
        return subprocess.run([sys.executable, "-m", "npunet.stylize", *arguments], capture_output=True, text=True)

    found = command("apply", "--model", "none.npz", "--input", "content.png", "--output", "out")
    assert (
        found.returncode == 2
        and found.stderr.startswith("error: none.npz does not exist")
        and found.stderr.count("\n") == 1
    )
    assert command("train", "--help").returncode == 0 == command("optimize", "--help").returncode


# Pictures ------------------------------------------------------------------------------------------------------------


# Downloads -----------------------------------------------------------------------------------------------------------


def test_download(server, tmp_path, monkeypatch):  # noqa: F811
    sum_ = hashlib.sha256(server.content).hexdigest()
    monkeypatch.setitem(weights.FILES, "vgg16", f"vgg16-{sum_[:8]}.pth")
    server.breaks = [300_000]  # breaks off once, and goes on from there
    path = weights.fetch("vgg16", tmp_path / "new", server.url + "/")
    assert (
        path.read_bytes() == server.content
        and [*path.parent.iterdir()] == [path]
        and server.asked == [None, "bytes=300000-"]
    )
    assert weights.fetch("vgg16", tmp_path / "new", server.url + "/") == path and len(server.asked) == 2, (
        "what is there is not fetched again"
    )


def test_a_download_with_another_check_sum_is_refused(server, tmp_path):  # noqa: F811
    with pytest.raises(InputError, match="expected one that begins with dcbb9e9d"):
        weights.fetch("vgg19", tmp_path, server.url + "/")
    assert not list(tmp_path.iterdir())


def test_the_download_command(server, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setitem(weights.FILES, "vgg19", f"vgg19-{hashlib.sha256(server.content).hexdigest()[:8]}.pth")
    monkeypatch.setattr(weights.fetch, "__defaults__", (server.url + "/",))
    stylize.main(["download", "vgg19", "--out", str(tmp_path)])
    assert "use them with --weights" in capsys.readouterr().out and len(list(tmp_path.iterdir())) == 1


def test_steps_that_nobody_asked_for():
    assert (style_options.DEFAULTS["train"]["steps"], style_options.DEFAULTS["optimize"]["steps"]) == (500, 200)


def test_the_number_of_threads_is_set_before_anything_is_read(tmp_path, monkeypatch):
    for command in (
        f"train --content {tmp_path}/no --style {tmp_path}/no --out {tmp_path}/out",
        f"optimize --content {tmp_path}/no --style {tmp_path}/no --out {tmp_path}/out",
        f"apply --model {tmp_path}/no --input {tmp_path}/no --output {tmp_path}/out",
    ):
        threads.set_num_threads(1)
        with pytest.raises(InputError):
            stylize.main([*command.split(), "--threads", "3"])
        assert threads.get_num_threads() == 3
