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

from npunet import images, stylize, torch_files
from npunet.errors import InputError
from npunet.style import Generator, vgg, weights
from npunet.style.pictures import fitted, random_square, read_picture


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


TRAIN = "train --content content.png --style style.png --weights vgg.pth --size 48 --base-channels 2 --style-weight 100 --out out"
OPTIMIZE = "optimize --content content.png --style style.png --weights vgg.pth --size 48 --style-weight 100 --out out"


def run(*texts):
    stylize.main(" ".join(texts).split())


def losses(path="out"):
    return [json.loads(line) for line in Path(path, "losses.jsonl").read_text().splitlines()]


def test_train_and_apply(folder, capsys):
    run(TRAIN, "--steps 16 --learning-rate 0.01 --variation-weight 0.1")
    records = losses()
    assert [record["step"] for record in records] == list(range(1, 17))
    assert set(records[0]) == {"step", "total", "content", "style", "variation", "seconds"}
    assert records[-1]["total"] < records[0]["total"]
    assert {path.name for path in Path("out").iterdir()} == {"picture.png", "contact_sheet.png", "losses.png", "losses.jsonl", "model.npz"}
    assert "done after step 16" in capsys.readouterr().out
    assert read_picture("out/picture.png").shape == (48, 32, 3), "60 x 41 to 48, on the pooling grid"
    run("apply --model out/model.npz --input content.png many --output painted")
    assert {path.name for path in Path("painted").iterdir()} == {"content.png", "0.png", "1.png"}
    assert read_picture("painted/0.png").shape == (50, 70, 3)
    found = Generator.load("out/model.npz").paint(read_picture("content.png"))
    assert abs(found - read_picture("painted/content.png")).max() < 0.6 / 255
    run("apply --model out/model.npz --input content.png --output small --size 30")
    assert read_picture("small/content.png").shape == (30, 20, 3)


def test_the_contact_sheet_shows_the_way(folder, monkeypatch):
    shown = []
    monkeypatch.setattr(stylize, "contact_sheet", lambda path, named: shown.append(list(named)))
    run(TRAIN, "--steps 16")
    assert shown[-1] == ["content", "style", *(f"step {step}" for step in range(2, 17, 2))]


def test_train_on_a_folder_is_repeatable(folder):
    for out in ("a", "b"):
        run(TRAIN.replace("content.png", "many"), f"--batch 2 --steps 3 --out {out}")
    one, other = (Generator.load(f"{out}/model.npz").net.parameters for out in "ab")
    assert all(np.array_equal(one[name].value, other[name].value) for name in one)
    assert len({record["content"] for record in losses("a")}) == 3


def test_settings(folder, monkeypatch):
    run(TRAIN, "--steps 1")
    better = Generator.load("out/model.npz")
    assert better.colours == "full" and better.net.bilinear
    monkeypatch.setitem(stylize.FAITHFUL, "base_channels", 2)
    run(TRAIN.replace("--base-channels 2", "").replace("--size 48", ""), "--faithful --size 32 --steps 1 --out faithful")
    faithful = Generator.load("faithful/model.npz")
    assert faithful.colours == "normalised" and not faithful.net.bilinear and faithful.info["size"] == 32


@pytest.mark.parametrize("more", ["--method lbfgs", "--method adam --start noise", "--content-layers none --style-layers relu1_1,conv3_1"])
def test_optimize(folder, more):
    run(OPTIMIZE, "--steps 8", more)
    assert read_picture("out/picture.png").shape == (48, 33, 3) and not Path("out/model.npz").exists()
    assert losses()[-1]["total"] < losses()[0]["total"]


def test_without_weights_it_says_what_to_expect(folder, monkeypatch, capsys):
    run(OPTIMIZE.replace("--weights vgg.pth", ""), "--steps 1")
    assert "random weights" in capsys.readouterr().err


@pytest.mark.parametrize("command", [TRAIN, OPTIMIZE])
def test_interrupted_runs_keep_the_newest(folder, command, monkeypatch, capsys):
    def report_and_interrupt(self, step, terms, paint, original=stylize.Run.report):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, step, terms, paint)

    monkeypatch.setattr(stylize.Run, "report", report_and_interrupt)
    with pytest.raises(SystemExit) as ended:
        run(command, "--steps 40")
    assert ended.value.code == 130 and len(losses()) == 3
    assert "stopped after step 3" in capsys.readouterr().out
    assert read_picture("out/picture.png").size and Path("out/model.npz").exists() == (command == TRAIN)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("arguments, message", [
    (TRAIN.replace("content.png", "none.png"), "none.png: no such file"),
    (TRAIN.replace("vgg.pth", "style.png"), "style.png: is not a file that torch.save"),
    (TRAIN + " --size 50", "--size is 50; expected a multiple of 16"),
    (TRAIN + " --steps 0", "--steps is 0; expected a number above 0"),
    (TRAIN + " --batch 2", "--batch 2 needs a folder of pictures"),
    (TRAIN + " --style-layers conv7_1", "layer conv7_1: vgg19 has none of that name"),
    (TRAIN + " --style-weight -1", "--style-weight is -1.0; expected a number, 0 or more"),
    (TRAIN + " --out content.png", "--out content.png: the folder cannot be made"),
    (OPTIMIZE + " --learning-rate nan", "--learning-rate is nan"),
    (OPTIMIZE + " --size 4", "pixels are too small for"),
    ("apply --model style.png --input content.png --output out", "style.png cannot be read as a checkpoint"),
    ("apply --model none.npz --input content.png --output .", "content.png would overwrite the input"),
])
def test_bad_input_is_one_line(arguments, message, folder):
    with pytest.raises(InputError) as error:
        run(arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_loss_that_is_not_finite_ends_the_run(folder, monkeypatch):
    monkeypatch.setattr(stylize, "generator_step", lambda *arguments: {"total": np.nan})
    with pytest.raises(InputError, match="step 1: the loss is nan; try a tenth of --learning-rate"):
        run(TRAIN)


def test_a_run_is_not_overwritten(folder):
    run(OPTIMIZE, "--steps 1")
    with pytest.raises(InputError, match="--out out holds a run already"):
        run(TRAIN)


def test_exit_status_and_help(folder):
    def command(*arguments):
        return subprocess.run([sys.executable, "-m", "npunet.stylize", *arguments], capture_output=True, text=True)

    found = command("apply", "--model", "none.npz", "--input", "content.png", "--output", "out")
    assert found.returncode == 2 and found.stderr.startswith("error: none.npz does not exist") and found.stderr.count("\n") == 1
    assert command("train", "--help").returncode == 0


# Pictures ------------------------------------------------------------------------------------------------------------

def test_sizes(rng):
    picture = rng.random((30, 45, 3), np.float32)
    assert fitted(picture, 90).shape == (60, 90, 3) and fitted(picture, 48, 16).shape == (32, 48, 3)
    flat = np.full((50, 20, 3), 0.25, np.float32)
    assert np.allclose(fitted(flat, 16, 16), 0.25) and fitted(flat, 16, 16).shape == (16, 16, 3)
    for _ in range(5):
        assert random_square(picture, 32, rng).shape == (32, 32, 3)
    assert random_square(picture[:30, :30], 30, rng).mean() == pytest.approx(picture[:30, :30].mean(), abs=1e-3)


def test_grey_pictures_and_stacks(tmp_path, rng):
    images.write_image(tmp_path / "grey.png", rng.random((8, 9)))
    assert read_picture(tmp_path / "grey.png").shape == (8, 9, 3)
    images.write_mask(tmp_path / "stack.tif", np.zeros((3, 8, 9), int))
    with pytest.raises(InputError, match="holds 3 pages; expected a picture of one page"):
        read_picture(tmp_path / "stack.tif")


# Downloads -----------------------------------------------------------------------------------------------------------

def test_download(server, tmp_path, monkeypatch):                          # noqa: F811
    sum_ = hashlib.sha256(server.content).hexdigest()
    monkeypatch.setitem(weights.FILES, "vgg16", f"vgg16-{sum_[:8]}.pth")
    server.breaks = [300_000]                             # breaks off once, and goes on from there
    path = weights.fetch("vgg16", tmp_path / "new", server.url + "/")
    assert path.read_bytes() == server.content and [*path.parent.iterdir()] == [path] and server.asked == [None, "bytes=300000-"]
    assert weights.fetch("vgg16", tmp_path / "new", server.url + "/") == path and len(server.asked) == 2, "what is there is not fetched again"


def test_a_download_with_another_check_sum_is_refused(server, tmp_path):   # noqa: F811
    with pytest.raises(InputError, match="expected one that begins with dcbb9e9d"):
        weights.fetch("vgg19", tmp_path, server.url + "/")
    assert not list(tmp_path.iterdir())


def test_the_download_command(server, tmp_path, monkeypatch, capsys):      # noqa: F811
    monkeypatch.setitem(weights.FILES, "vgg19", f"vgg19-{hashlib.sha256(server.content).hexdigest()[:8]}.pth")
    monkeypatch.setattr(weights.fetch, "__defaults__", (server.url + "/",))
    stylize.main(["download", "vgg19", "--out", str(tmp_path)])
    assert "use them with --weights" in capsys.readouterr().out and len(list(tmp_path.iterdir())) == 1
