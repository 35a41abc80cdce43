"""benchmarks/style_generator.py at a tiny size: both painters are held against the same losses; a run goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
from style_helpers import small_vgg

from benchmarks import style_generator
from npunet.files import images
from npunet.style import Generator, Objective
from npunet.style.pictures import read_picture


def test_the_ratio_is_that_of_the_two_losses(tmp_path, monkeypatch, rng, capsys):
    eye = small_vgg(monkeypatch, dtype="float32")
    monkeypatch.setattr(style_generator.VGG, "load", lambda path: eye)
    for name in ("a", "b", "style"):
        images.write_image(tmp_path / f"{name}.png", rng.random((32, 48, 3)))
    generator = Generator(2)
    losses = dict(content_weight=1.0, style_weight=10.0, variation_weight=0.5)
    generator.info = {"content_layers": "conv2_1", "style_layers": "conv1_1,conv2_2"} | losses
    generator.save(tmp_path / "model.npz")
    monkeypatch.chdir(tmp_path)
    shared = "--model model.npz --style style.png --weights none --size 32 --steps 5 --out found.jsonl".split()
    style_generator.main(["a.png", *shared])
    style_generator.main(["a.png", "b.png", *shared])
    first, second = lines = [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]
    assert (first["photograph"], second["photograph"]) == ("a.png", "b.png")
    objective = Objective(eye, ("conv2_1",), ("conv1_1", "conv2_2"), **losses)
    objective.set_style(read_picture("style.png")[None])
    content = read_picture("a.png")
    expected = objective(generator.paint(content)[None], objective.content_targets(content[None]))[0]
    assert first["generator"] == pytest.approx(expected, abs=1e-3)
    for line in lines:
        assert line["direct"]["total"] < line["untouched"]["total"]
        assert line["ratio"] == pytest.approx(line["generator"]["total"] / line["direct"]["total"], rel=0.01)
    mean = np.sqrt(first["ratio"] * second["ratio"])
    assert capsys.readouterr().out.splitlines()[-1] == f"2 photographs, 32 pixels: ratio {mean:.2f}"
