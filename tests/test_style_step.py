"""benchmarks/style_step.py at a tiny size: both sides begin with the same loss, so they compute the same step."""

import json
import re

import pytest
from style_helpers import small_vgg

pytest.importorskip(
    "torch", reason='PyTorch is not installed; pip install "npunet[torch]" adds it as an oracle for tests'
)

from benchmarks import style_step  # noqa: E402


@pytest.mark.parametrize("faithful", [[], ["--faithful"]], ids=["better", "faithful"])
def test_both_sides_begin_with_the_same_loss_and_learn(tmp_path, monkeypatch, capsys, faithful):
    small_vgg(monkeypatch)
    monkeypatch.setattr(style_step, "PAUSE", 0)
    style_step.main(
        ["--size", "32", "--base-channels", "2", "--rounds", "1", "--out", str(tmp_path / "found.json"), *faithful]
    )
    output = capsys.readouterr().out
    assert re.search(
        f"^32 x 32, 2 base channels, {'up' if faithful else 'resize'}-convolutions, ", output, re.MULTILINE
    )
    ours, *theirs = map(float, re.search(r"first losses (\S+), (\S+), (\S+)$", output, re.MULTILINE).groups())
    assert theirs == pytest.approx([ours, ours], rel=1e-4) and ours > 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name: len(times) for name, times in found["seconds"].items()} == {
        "npunet": 1,
        "PyTorch": 1,
        "PyTorch channels-last": 1,
    }
    assert found["ratio"] == found["medians"]["npunet"] / min(
        found["medians"]["PyTorch"], found["medians"]["PyTorch channels-last"]
    )


def test_the_losses_of_five_steps_stay_together(monkeypatch):
    """The whole step, Adam and fixed targets included; a slip in one of them shows in the losses that follow."""
    small_vgg(monkeypatch)
    options = style_step.parser().parse_args(["--size", "32", "--base-channels", "2"])
    ours, *theirs = (
        style_step.our_step(options),
        style_step.their_step(options, False),
        style_step.their_step(options, True),
    )
    expected = [ours() for _ in range(5)]
    for step in theirs:
        assert [step() for _ in range(5)] == pytest.approx(expected, rel=1e-3)
    assert expected[-1] < expected[0]


def test_memory_runs_npunet_alone(monkeypatch, capsys):
    small_vgg(monkeypatch)
    monkeypatch.setattr(style_step, "their_step", None)
    style_step.main(["--size", "32", "--base-channels", "2", "--memory"])
    assert re.fullmatch(
        r"32 x 32, 2 base channels, resize-convolutions: peak of the process \S+ GB, \S+ GB of it before the first "
        r"array\n",
        capsys.readouterr().out,
    )
