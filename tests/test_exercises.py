"""The exercises of the lessons: right answers pass, empty forms and wrong answers do not, and a wrong one is told why.

The tests look at the forms and solutions of this checkout, never at lessons/my_exercises/, where the reader's answers
are.
"""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lessons.compare import Wrong
from lessons.exercises.solutions.mistakes import MISTAKES

ROOT = Path(__file__).parents[1]
EXERCISES = ROOT / "lessons" / "exercises"
NAMES = sorted(path.stem for path in EXERCISES.glob("[0-9]*.py"))


def run(answers, *arguments):
    """pytest lessons/exercises as a student runs it, in a process of its own, on the answers of another folder."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    environment |= {"NPUNET_ANSWERS": str(answers), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "lessons/exercises", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)


def test_every_exercise_has_a_check_a_solution_and_wrong_answers():
    assert NAMES and set(NAMES) == set(MISTAKES)
    for name in NAMES:
        assert (EXERCISES / f"test_{name}.py").is_file() and (EXERCISES / "solutions" / f"{name}.py").is_file()
        assert len(MISTAKES[name]) >= 4


def test_the_solutions_pass():
    result = run(EXERCISES / "solutions")
    assert result.returncode == 0, result.stdout[-3000:]
    assert re.search(r"^\d+ passed in", result.stdout.splitlines()[-1]), "passed, all of them, and none skipped"


def test_the_empty_forms_do_not_pass_and_are_copied_for_the_reader(tmp_path):
    result = run(tmp_path / "mine")
    assert result.returncode == 1 and re.search(r"^\d+ failed in", result.stdout.splitlines()[-1]), result.stdout[
        -3000:
    ]
    for name in NAMES:
        assert f"not written yet: lessons/my_exercises/{name}.py" in result.stdout
        assert (tmp_path / "mine" / f"{name}.py").read_bytes() == (EXERCISES / f"{name}.py").read_bytes()


def test_one_exercise_is_chosen_by_its_number_and_an_answer_is_kept(tmp_path):
    answer = (EXERCISES / "solutions" / "03_pooling_and_up_convolution.py").read_text(encoding="utf-8")
    (tmp_path / "03_pooling_and_up_convolution.py").write_text(answer, encoding="utf-8")
    result = run(tmp_path, "-k", "03")
    assert result.returncode == 0 and "2 passed" in result.stdout, result.stdout[-2000:]
    assert (tmp_path / "03_pooling_and_up_convolution.py").read_text(encoding="utf-8") == answer


def complaints(name, folder, monkeypatch):
    """What the check of an exercise says about the answers in `folder`."""
    monkeypatch.syspath_prepend(str(EXERCISES))
    monkeypatch.setenv("NPUNET_ANSWERS", str(folder))
    module, found = importlib.import_module(f"test_{name}"), []
    for check in [value for key, value in vars(module).items() if key.startswith("test_")]:
        marks = getattr(check, "pytestmark", [])
        for arguments in [(value,) for value in marks[0].args[1]] if marks else [()]:
            try:
                check(*arguments)
            except Wrong as wrong:
                found.append(str(wrong))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_are_told_what_is_wrong(name, tmp_path, monkeypatch):
    right = (EXERCISES / "solutions" / f"{name}.py").read_text(encoding="utf-8")
    for old, new, diagnosis in MISTAKES[name]:
        assert old in right, f"the solution has no {old!r}"
        (tmp_path / f"{name}.py").write_text(right.replace(old, new, 1), encoding="utf-8")
        said = complaints(name, tmp_path, monkeypatch)
        assert said, f"{new!r} passes"
        assert any(re.search(diagnosis, message) for message in said), f"{new!r}: {said}"


def test_kernels_of_3_x_3_alone_are_not_enough(tmp_path, monkeypatch):
    """The hole that exercise 2 once had: loops over 3 x 3 places, whatever the shape of the weight."""
    (tmp_path / "02_convolution.py").write_text(THREE_BY_THREE, encoding="utf-8")
    forward, backward = complaints("02_convolution", tmp_path, monkeypatch)
    assert "do not write 3" in forward and "do not write 3" in backward


THREE_BY_THREE = """
import numpy as np

def strided_conv2d(x, weight):
    height, width = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    y = np.zeros((len(x), height, width, weight.shape[3]))
    for u in range(3):
        for v in range(3):
            y += x[:, u : u + 2 * height - 1 : 2, v : v + 2 * width - 1 : 2] @ weight[u, v]
    return y, (x, weight)

def strided_conv2d_backward(dy, ctx):
    x, weight = ctx
    dx, dweight, (height, width) = np.zeros(x.shape), np.zeros(weight.shape), dy.shape[1:3]
    for u in range(3):
        for v in range(3):
            window = slice(None), slice(u, u + 2 * height - 1, 2), slice(v, v + 2 * width - 1, 2)
            dx[window] += dy @ weight[u, v].T
            dweight[u, v] = x[window].reshape(-1, x.shape[3]).T @ dy.reshape(-1, dy.shape[3])
    return dx, dweight
"""
