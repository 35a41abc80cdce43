"""The track "Build it yourself" (lessons/build): its oracles are npunet's formulas, right answers pass, wrong ones are
told what is wrong with them, nothing can be borrowed, and the reader's files are never overwritten."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npunet
from lessons.build import answers, network, oracles, training
from lessons.build.__main__ import check_all
from lessons.build.course import BY_NAME, FILES, STEPS
from lessons.build.solutions.mistakes import MISTAKES, mistaken
from npunet import augmentation, loss, ops, tiling
from npunet.metrics import rand_f_score
from npunet.weight_map import weight_map

nbformat = pytest.importorskip("nbformat", reason="notebooks are read with nbformat; pip install nbformat")

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "lessons" / "build"
SOLUTIONS = {file: (BUILD / "solutions" / f"{file}.py").read_text(encoding="utf-8") for file in FILES}


def rng(seed=0):
    return np.random.default_rng(seed)


# The oracles


def test_oracles_of_convolutions_are_npunets():
    x, weight, bias = rng().standard_normal((2, 6, 5, 3)), rng(1).standard_normal((3, 3, 3, 2)), rng(2).random(2)
    y, ctx = ops.conv2d(x, weight, bias)
    np.testing.assert_allclose(oracles.conv2d(x, weight, bias), y, atol=1e-12)
    dy = rng(3).standard_normal(y.shape)
    for mine, right in zip(oracles.conv2d_gradients(dy, x, weight), ops.conv2d_backward(dy, ctx), strict=True):
        np.testing.assert_allclose(mine, right, atol=1e-12)
    weight = rng(4).standard_normal((2, 2, 3, 2))
    y, ctx = ops.up_conv2d(x, weight, bias)
    np.testing.assert_allclose(oracles.up_conv(x, weight, bias), y, atol=1e-12)
    dy = rng(5).standard_normal(y.shape)
    for mine, right in zip(oracles.up_conv_gradients(dy, x, weight), ops.up_conv2d_backward(dy, ctx), strict=True):
        np.testing.assert_allclose(mine, right, atol=1e-12)


def test_oracles_of_pooling_and_concatenation_are_npunets():
    x = np.maximum(rng().integers(-2, 3, (2, 6, 4, 3)), 0).astype(float)  # many ties
    y, ctx = ops.max_pool2d(x)
    dy = rng(1).standard_normal(y.shape)
    np.testing.assert_array_equal(oracles.max_pool(x)[0], y)
    np.testing.assert_array_equal(oracles.max_pool_gradient(dy, x), ops.max_pool2d_backward(dy, ctx))
    upsampled, skip = rng(2).standard_normal((2, 3, 4, 2)), rng(3).standard_normal((2, 6, 9, 3))
    y, ctx = ops.crop_concat(upsampled, skip)
    dy = rng(4).standard_normal(y.shape)
    np.testing.assert_array_equal(oracles.crop_concat(upsampled, skip), y)
    for mine, right in zip(oracles.crop_concat_gradients(dy, 2, skip.shape), ops.crop_concat_backward(dy, ctx)):
        np.testing.assert_array_equal(mine, right)


def test_oracles_of_the_energy_and_the_weights_are_npunets():
    logits, labels, weights = (
        rng().standard_normal((2, 3, 4, 3)),
        rng(1).integers(0, 3, (2, 3, 4)),
        rng(2).random((2, 3, 4)),
    )
    mine, right = oracles.energy(logits, labels, weights), loss.weighted_cross_entropy(logits, labels, weights)
    np.testing.assert_allclose(oracles.softmax(logits), loss.softmax(logits), rtol=1e-12)
    np.testing.assert_allclose(mine[0], right[0], rtol=1e-12)
    np.testing.assert_allclose(mine[1], right[1], atol=1e-15)
    instances = np.zeros((12, 15), int)
    instances[1:5, 1:6], instances[7:11, 2:7], instances[2:10, 9:14] = 1, 2, 3
    np.testing.assert_allclose(oracles.weight_map(instances, 4.0, 2.0), weight_map(instances, 4.0, 2.0), rtol=1e-6)


def test_the_other_oracles_are_npunets():
    vectors = rng().standard_normal((2, 3, 3))
    for size in (5, 8):
        mine = oracles.displacement_field(vectors, size)
        np.testing.assert_allclose(mine, augmentation.displacement_field(vectors, size), atol=1e-12)
    for length in (2, 3, 7):
        mine = [oracles.mirrored(position, length) for position in range(-9, 16)]
        np.testing.assert_array_equal(mine, tiling.mirrored(-9, 16, length))
    regions, truth = rng(1).integers(0, 4, (7, 8)), rng(2).integers(0, 4, (7, 8))
    assert oracles.v_rand(regions, truth) == pytest.approx(rand_f_score(regions, truth))


@pytest.mark.parametrize("depth, tile", [(1, 20), (2, 44)])
def test_the_network_of_the_oracles_is_npunets(depth, tile):
    net = npunet.UNet(1, 2, base_channels=2, depth=depth, dropout=0.0, dtype="float64")
    parameters = network.random_parameters(2, depth, rng())
    assert list(parameters) == list(net.parameters)
    for name, parameter in net.parameters.items():
        assert parameter.value.shape == parameters[name].shape
        parameter.value = parameters[name]
    x = rng(1).standard_normal((2, tile, tile, 1))
    logits, kept = network.forward(x, parameters, depth)
    np.testing.assert_allclose(logits, net.forward(x, train=True), atol=1e-10)
    dlogits = rng(2).standard_normal(logits.shape)
    net.backward(dlogits)
    for name, gradient in network.backward(dlogits, parameters, depth, kept).items():
        np.testing.assert_allclose(gradient, net.parameters[name].grad, atol=1e-9, err_msg=name)


# Answers


def test_every_form_is_empty_and_every_function_has_a_lesson():
    forms = {path.stem: path.read_text(encoding="utf-8") for path in (BUILD / "forms").glob("*.py")}
    assert sorted(forms) == sorted(FILES)
    for step in STEPS:
        assert step.name in answers.functions(forms[step.file])
    assert {state for state, _ in check_all("my_unet", sources=forms).values()} == {"to write", "waits"}


@pytest.mark.parametrize("lesson", sorted({step.lesson for step in STEPS}))
def test_the_sections_that_the_checks_name_exist(lesson):
    cells = nbformat.read(ROOT / "lessons" / f"{lesson}.ipynb", as_version=4).cells
    headings = {
        line.lstrip("# ")
        for cell in cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("#")
    }
    missing = {step.section for step in STEPS if step.lesson == lesson} - headings
    assert not missing, f"lessons/build/course.py names sections that lesson {lesson} does not have: {missing}"


def run(*arguments):
    command = [sys.executable, "-m", "lessons.build", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_the_solutions_pass_by_the_readers_own_command(tmp_path):
    for file, text in SOLUTIONS.items():
        (tmp_path / f"{file}.py").write_text(text, encoding="utf-8")
    result = run("--folder", tmp_path, "--no-training")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert f"{len(STEPS)} of {len(STEPS)} functions" in result.stdout


def test_the_first_run_makes_the_forms_and_says_what_comes_first(tmp_path):
    result = run("--folder", tmp_path / "new")
    assert result.returncode == 1 and "made convolution.py" in result.stdout
    assert re.search(r"0 of \d+ functions.*\nnext: write conv2d in .*convolution\.py; .* lesson 2", result.stdout)
    assert run("--folder", tmp_path / "new", "conv3d").returncode == 2


@pytest.mark.parametrize("function", list(MISTAKES))
def test_wrong_answers_are_told_what_is_wrong(function):
    assert len(MISTAKES[function]) >= 4
    file = BY_NAME[function].file
    for old, new, diagnosis in MISTAKES[function]:
        wrong = SOLUTIONS | {file: mistaken(SOLUTIONS[file], function, old, new)}
        state, message = check_all("my_unet", [function], wrong)[function]
        assert state == "wrong", f"{function} with {new!r} is {state}"
        assert re.search(diagnosis, message), f"{function} with {new!r}: {message}"


def test_every_function_has_wrong_answers():
    assert set(MISTAKES) == set(BY_NAME)
    assert sum(map(len, MISTAKES.values())) >= 80


def test_a_loop_over_pixels_is_right_but_too_slow():
    loops = """
import numpy as np
def conv2d(x, weight, bias):
    kh, kw, _, outputs = weight.shape
    y = np.zeros((len(x), x.shape[1] - kh + 1, x.shape[2] - kw + 1, outputs), x.dtype)
    for n, i, j, k in np.ndindex(y.shape):
        y[n, i, j, k] = (x[n, i : i + kh, j : j + kw] * weight[..., k]).sum() + bias[k]
    return y
"""
    state, message = check_all("my_unet", ["conv2d"], {"convolution": loops})["conv2d"]
    assert state == "wrong" and ("too slow" in message or "was stopped" in message) and "nine places" in message


# Borrowed functions


@pytest.mark.parametrize(
    "borrowing",
    [
        "from npunet.ops import conv2d as theirs",
        "import npunet",
        "import scipy.ndimage",
        "from scipy.signal import convolve2d",
        "import torch",
        "import importlib",
        "import sys",
        "import os, subprocess",
        "from lessons.build.oracles import conv2d as theirs",
        "from ..solutions import convolution",
        "theirs = __import__('npunet')",
        "theirs = eval('1')",
        "theirs = np.lib.npyio.os.sys.modules",
        "theirs = np.__builtins__",
        "theirs = (1).__class__.__base__.__subclasses__()",
        "def later():\n    import npunet",
    ],
)
def test_nothing_can_be_borrowed(borrowing):
    text = SOLUTIONS["convolution"].replace("import numpy as np\n", f"import numpy as np\n{borrowing}\n", 1)
    state, message = check_all("my_unet", ["conv2d"], {"convolution": text})["conv2d"]
    assert state == "wrong" and "convolution.py, line 4 uses" in message.replace("line 5", "line 4"), message


def test_the_command_shuts_npunet_out_even_through_numpy(tmp_path):
    """A way around the list of imports still finds nothing: this process cannot import npunet."""
    sneaky = "import numpy as np\nload = getattr(np.lib, 'npyio', None) or np\n"
    sneaky += "imports = getattr(np.testing, '__buil' + 'tins__')['__import__']\ntheirs = imports('npunet')\n"
    (tmp_path / "relu.py").write_text(sneaky, encoding="utf-8")
    result = run("--folder", tmp_path, "relu")
    assert result.returncode == 1 and "halted" in result.stdout, result.stdout


# The reader's files


@pytest.fixture
def forms(tmp_path, monkeypatch):
    folder = tmp_path / "forms"
    folder.mkdir()
    (folder / "relu.py").write_text('"""One."""\n\n\ndef relu(x):\n    raise NotImplementedError("write relu")\n')
    monkeypatch.setattr(answers, "FORMS", folder)
    return folder / "relu.py"


NEWER = '"""2."""\n\n\ndef relu(x):\n    raise NotImplementedError\n\n\ndef leaky(x):\n    raise NotImplementedError\n'


def test_answers_survive_an_update(forms, tmp_path):
    mine = tmp_path / "mine" / "relu.py"
    assert answers.start(mine.parent) == ["made relu.py"]
    mine.write_text("def relu(x):\n    return x * (x > 0)\n")
    assert answers.start(mine.parent) == []
    forms.write_text(NEWER)
    said = "\n".join(answers.start(mine.parent))
    assert '-"""One."""' in said and '+"""2."""' in said and "1 new function" in said
    assert mine.read_text().startswith("def relu(x):\n    return x * (x > 0)\n\n\ndef leaky(x):")
    assert answers.start(mine.parent) == []


def test_a_form_without_answers_follows_an_update(forms, tmp_path):
    mine = tmp_path / "mine" / "relu.py"
    answers.start(mine.parent)
    forms.write_text(NEWER)
    assert "nothing of yours" in answers.start(mine.parent)[0] and mine.read_text() == NEWER


def test_git_does_not_see_the_answers():
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    for path in ("lessons/my_unet/relu.py", "lessons/my_exercises/01_a_tour.py"):
        assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0
    assert subprocess.run(["git", "check-ignore", "-q", "lessons/build/README.md"], cwd=ROOT).returncode == 1


# The training at the end


def test_a_few_steps_of_the_training(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(training, "STEPS_OF_TRAINING", 2)
    for file, text in SOLUTIONS.items():
        (tmp_path / f"{file}.py").write_text(text, encoding="utf-8")
    assert training.main(tmp_path) == 1  # two steps do not reach the goal
    said = capfd.readouterr().out
    assert "ranking of the section never seen: grey value 0.820" in said and "V_rand" in said
    assert re.search(r"the same logits, largest relative difference \de-0[5-9]", said)
    assert (tmp_path / "prediction.png").stat().st_size > 10_000
