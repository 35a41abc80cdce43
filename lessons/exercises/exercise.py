"""Finds the reader's answer to an exercise, and calls it for a check.

Answers stand in lessons/my_exercises/, which git does not see; the form NN_name.py of this folder is copied there when
it is first asked for. NPUNET_ANSWERS names another folder, such as lessons/exercises/solutions.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from lessons.checking import Check

HERE = Path(__file__).parent


def load(name):
    """The module of exercise `name`, such as "02_convolution" (a name that begins with a digit cannot be imported)."""
    folder = Path(os.environ.get("NPUNET_ANSWERS") or HERE.parent / "my_exercises")
    path = folder / f"{name}.py"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / f"{name}.py", path)
        print(f"made {path}: write your answer there")
    spec = importlib.util.spec_from_file_location("exercise_" + name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_of(name, function, read):
    """A `Check` of one function of an exercise; `read` says where its derivation stands."""
    return Check(function, getattr(load(name), function), read)
