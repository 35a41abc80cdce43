"""What no other test looked at in the engine, as faults planted by tests/mutants.py showed (see test_edges.py)."""

import signal
import sys

import numpy as np
import pytest

import npunet
from npunet import training
from npunet.augmentation import NO_AUGMENTATION
from npunet.datasets import synthetic
from npunet.instances.cutting import ClassComponents


def test_a_pixel_is_doubtful_where_the_second_class_is_near():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (6, 5))
    doubtful = ClassComponents().doubtful(probabilities, 0.1)
    for pixel in np.ndindex(6, 5):
        second, first = sorted(probabilities[pixel])[-2:]
        assert doubtful[pixel] == (first - second <= 0.2)
    assert 0 < doubtful.sum() < doubtful.size


def test_each_batch_is_drawn_once_and_one_ahead(monkeypatch):
    drawn = []
    monkeypatch.setattr(training, "draw_batch", lambda *arguments, settings: drawn.append(arguments[-1]) or arguments)
    recipe, samples = training.Recipe(steps=6, tile=36), synthetic(1, 64).samples
    for step, batch in enumerate(training.batches(samples, recipe, 20, 2, NO_AUGMENTATION), start=2):
        assert batch == (samples, recipe, 20, step)
        assert drawn in (list(range(2, step + 1)), list(range(2, min(step + 2, 6))))
    assert drawn == [2, 3, 4, 5]


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
        assert getattr(signal.getsignal(signal.SIGINT), "of_imports", False) == ours
    finally:
        signal.signal(signal.SIGINT, before)
