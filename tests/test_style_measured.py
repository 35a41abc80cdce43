"""The benchmarks of style transfer at tiny sizes: generator beside direct optimisation, report of faithful runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from style_helpers import small_vgg

from benchmarks import draw_style, style_faithful, style_generator, style_layer_scale
from npunet.errors import InputError
from npunet.files import images
from npunet.files.torch_files import save_torch
from npunet.style import VGG, Generator, Objective, vgg
from npunet.style.pictures import fitted, read_picture


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


def test_the_report_of_faithful_runs(tmp_path, rng, capsys):
    pytest.importorskip("skimage", reason="scikit-image is not installed; it measures structural similarity")
    content = rng.random((40, 50, 3), np.float32)
    images.write_image(tmp_path / "content.png", content)
    run = tmp_path / "run"
    run.mkdir()
    totals = [100, 50, 9, 8, 30, 7, 6]
    (run / "losses.jsonl").write_text("".join(json.dumps({"step": 1, "total": total}) + "\n" for total in totals))
    images.write_image(run / "picture.png", fitted(read_picture(tmp_path / "content.png"), 32, square=True))
    shared = ["--content", tmp_path / "content.png", "--reference", run / "picture.png", "--out", tmp_path / "report"]
    style_faithful.main([str(word) for word in (run, *shared)])
    table, reference = capsys.readouterr().out.strip().split("\n\n")
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells == ["run", "7", "100", "3", "1", "6 at 7", "6 (0.060)", "1.00"]
    assert reference == "author's result: SSIM 1.00"
    text = (tmp_path / "report" / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 3 and "the author&#x27;s result" in text


def test_similarity_falls_with_what_is_lost(rng):
    pytest.importorskip("skimage", reason="scikit-image is not installed; it measures structural similarity")
    content = rng.random((32, 32, 3), np.float32)
    grey = np.full_like(content, content.mean())
    assert style_faithful.similarity(content, content) == pytest.approx(1)
    mixed = style_faithful.similarity(0.5 * content + 0.5 * grey, content)
    assert style_faithful.similarity(grey, content) < 0.1 < mixed < 0.95


def test_the_style_picture_is_drawn_again_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_style, "STROKES", 50)
    draw_style.main([str(tmp_path / "a.png"), "--size", "48"])
    found = read_picture(tmp_path / "a.png")
    assert found.shape == (48, 48, 3) and found.std() > 0.1
    assert np.array_equal(draw_style.draw(48), draw_style.draw(48)) and not np.array_equal(
        draw_style.draw(48), draw_style.draw(48, seed=2)
    )


def test_one_layer_becomes_weaker_and_the_later_ones_stay(tmp_path, monkeypatch, rng):
    eye = small_vgg(monkeypatch, dtype="float32")
    tensors = {}
    for name, number in vgg.chain("vgg19"):
        if name.startswith("conv"):
            weight, bias = eye.weights[name]
            tensors[f"features.{number}.weight"] = np.ascontiguousarray(weight.transpose(3, 2, 0, 1))  # PyTorch's order
            tensors[f"features.{number}.bias"] = bias
    save_torch(tmp_path / "vgg.pth", tensors)
    words = [str(tmp_path / "vgg.pth"), "--style-loss", "16", "--out", str(tmp_path / "weaker.pth")]
    style_layer_scale.main(words)
    picture, layers = rng.random((1, 32, 32, 3), np.float32), ["conv1_1", "conv1_2", "conv2_1", "conv4_2"]
    found, expected = (one.forward(picture, layers) for one in (VGG.load(tmp_path / "weaker.pth"), eye))
    for name in layers:
        assert np.allclose(found[name], expected[name] / (2 if name == "conv1_2" else 1), rtol=1e-4, atol=1e-6), name
    for wrong, said in ((["--layer", "conv5_4"], "conv5_4"), (["--style-loss", "0"], "above 0")):
        with pytest.raises(InputError, match=said):
            style_layer_scale.main(words + wrong)
