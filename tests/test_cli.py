"""What all commands share: --tf32 and Ctrl-C, asked for once and alike; ranges of options."""

import io
import math
import os
import signal
import subprocess
import sys

import pytest
from style_helpers import small_vgg

import npunet
from npunet import InputError, UNet, evaluate, predict, stylize, train
from npunet.commands import cli, ranges
from npunet.commands.interrupt import Interruptible
from npunet.files import images
from npunet.style import Generator

COMMANDS = {
    "train": (train.main, "--data pictures --base-channels 2 --depth 1 --tile 36 --steps 1"),
    "predict": (predict.main, "--model net.npz --input a.png --output found"),
    "evaluate": (evaluate.main, "--model net.npz --data pictures"),
    "stylize train": (stylize.main, "train --content a.png --style a.png --size 32 --base-channels 2"),
    "stylize optimize": (stylize.main, "optimize --content a.png --style a.png --size 32"),
    "stylize apply": (stylize.main, "apply --model painter.npz --input a.png --output found"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    small_vgg(monkeypatch)
    UNet(base_channels=2, depth=1).save("net.npz")
    Generator(2, 1).save("painter.npz")
    images.write_image(tmp_path / "a.png", rng.random((32, 32, 3)))
    for name in "bc":
        images.write_image(tmp_path / "pictures" / "images" / f"{name}.png", rng.random((48, 48)))
        images.write_mask(tmp_path / "pictures" / "masks" / f"{name}.png", rng.integers(0, 2, (48, 48)))


@pytest.mark.parametrize("name", COMMANDS)
def test_tf32_needs_a_gpu(folder, monkeypatch, name):
    main, arguments = COMMANDS[name]
    for asked in ["--tf32"], ["--precision", "bf16"]:
        if asked[0] == "--precision" and name in ("stylize train", "stylize optimize"):
            continue
        needs = f"^{' '.join(asked)} needs the tensor cores of a GPU; give --device gpu or auto with it$"
        with pytest.raises(InputError, match=needs):
            main([*arguments.split(), *asked])


class Asked(Exception):
    pass


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_asks_before_it_computes(folder, monkeypatch, name):
    def asked(*arguments):
        raise Asked(*arguments)

    monkeypatch.setattr(cli, "set_tf32", asked)
    monkeypatch.setattr("npunet.ops.conv2d", None)  # whoever computes first fails on this
    main, arguments = COMMANDS[name]
    for given, on in (["--tf32"], True), ([], False):
        with pytest.raises(Asked) as error:
            main([*arguments.split(), *given])
        assert error.value.args[:3] == (on, "cpu", "cpu")


def test_it_is_set_on_a_gpu_only(monkeypatch):
    found = []
    monkeypatch.setattr(cli, "use_precision", found.append)
    (
        cli.set_tf32(True, "gpu", "gpu"),
        cli.set_tf32(False, "auto", "gpu"),
        cli.set_tf32(True, "auto", "cpu"),
        cli.set_tf32(False, "cpu", "cpu"),
        cli.set_tf32(False, "gpu", "gpu", "bf16"),
        cli.set_tf32(True, "gpu", "gpu", "bf16"),
    )
    assert found == ["tf32", "float32", "bf16", "bf16"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_goes_away_unless_it_is_told_to_stay(monkeypatch, terminal):
    """The bar of a training run stays, that of the images of a command makes room for what the command prints."""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with cli.progress_bar(total=2) as bar, cli.progress_bar(total=2, leave=True) as staying:
        assert not bar.leave and staying.leave
    run = Interruptible()
    run.listen(3, 1)
    run.stop_listening()
    assert run.bar.leave and (run.bar.total, run.bar.n, run.bar.unit) == (3, 1, "step")


@pytest.mark.parametrize(
    "words, ours",
    [
        (["python", "-m", "npunet.train", "--data", "synthetic"], True),
        (["python", "/usr/bin/npunet", "train"], True),
        (["python", "-X", "dev", "-m", "npunet"], True),
        (["python", "/usr/bin/pytest", "npunet"], False),
        (["python", "-m", "pytest", "npunet"], False),
        (["python", "-m", "npunets"], False),
        (["python"], False),
    ],
)
def test_ctrl_c_while_modules_are_imported_is_ours_in_our_commands_only(words, ours, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(sys, "orig_argv", words)
    try:
        npunet._end_quietly_at_ctrl_c()
        end = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert getattr(end, "of_imports", False) == ours
    if ours:
        done = []
        monkeypatch.setattr(os, "write", lambda *what: done.append(what))
        monkeypatch.setattr(os, "_exit", done.append)
        end(signal.SIGINT, None)
        monkeypatch.undo()
        assert done == [(2, b"interrupted\n"), 130]


@pytest.mark.parametrize(
    "of, words, inside, outside",
    [
        (ranges.Range(1, 10**6), "at least 1 and at most 1e+06", [1, 10**6], [0, 10**6 + 1, math.nan, math.inf]),
        (ranges.Range(0, 1, open_high=True), "at least 0 and below 1", [0, 0.999], [-1e-9, 1]),
        (ranges.Range(0, 1, open_low=True), "a number above 0, at most 1", [1e-9, 1], [0, 1.001]),
        (ranges.Range(0, open_low=True), "a number above 0", [1e-9, 1e300], [0, math.inf]),
        (ranges.Range(), "at least 0", [0, 1e300], [-1, -math.inf]),
    ],
)
def test_a_range_says_what_it_holds(of, words, inside, outside):
    assert str(of) == words
    assert all(map(of.holds, inside)) and not any(map(of.holds, outside))


@pytest.mark.parametrize(
    "words, ends",
    [(["python", "-m", "npunet.train"], 130), (["python", "/bin/npunet", "train"], 130), (["python", "mine.py"], 1)],
)
def test_ctrl_c_while_a_command_is_imported_is_one_line(words, ends):
    """The package has begun to load; a program of somebody else keeps its own way of ending."""
    program = (
        f"import os, signal, sys, time; signal.signal(2, signal.default_int_handler); sys.orig_argv = {words!r}\n"
        "import npunet\n"
        "try:\n"
        "    os.kill(os.getpid(), 2); time.sleep(5)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(1)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (ends, "interrupted\n" if ends == 130 else "")


def test_a_command_that_has_begun_takes_ctrl_c_back():
    program = (
        "import os, signal, sys, time; signal.signal(2, signal.default_int_handler)\n"
        "sys.orig_argv = ['python', '-m', 'npunet.train']\n"
        "from npunet.commands import cli\n"
        "cli.run(lambda: (os.kill(os.getpid(), 2), time.sleep(5)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")
