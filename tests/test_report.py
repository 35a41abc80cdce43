"""npunet.report: one HTML file about a run on one's own images, with scores, pictures and commands."""

import base64
import html.parser
import io
import json
import re
import shutil
import types

import numpy as np
import pytest
import tifffile
from PIL import Image

from npunet import InputError, report, train
from npunet.doctor import __main__ as doctor
from npunet.experiments import running
from npunet.files import images, schema


def make_data(root, numbered):
    rng, (y, x) = np.random.default_rng(1), np.mgrid[:40, :40]
    for number in range(4):
        cells = np.zeros((40, 40), np.int32)
        for k, (v, u) in enumerate([(10, 9), (10, 24), (29, 12), (28, 30)], start=1):
            cells[(np.hypot(y - v, x - u) < 6) & (cells == 0)] = k if numbered else 1
        images.write_labels(root / "masks" / f"<{number}>.tif", cells)
        grey = np.clip(0.2 + 0.6 * (cells > 0) + rng.normal(0, 0.02, y.shape), 0, 1)
        images.write_image(root / "images" / f"<{number}>.png", grey)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(numbered): the folder of a run, made when the first test wants it; "my data" lies beside it."""
    known = {}

    def run_of(numbered):
        if numbered not in known:
            root = tmp_path_factory.mktemp("report")
            data = make_data(root / "my data", numbered)
            options = "--base-channels 2 --depth 1 --tile 44 --threads 1 --steps 4 --held-out 2 --labels".split()
            kind = "instances" if numbered else "binary"
            train.main(["--data", str(data), "--out", str(root / "run"), *options, kind])
            known[numbered] = root / "run"
        return known[numbered]

    return run_of


class Checker(html.parser.HTMLParser):
    """Every tag is closed in its turn."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("numbered", [True, False])
def test_one_file_with_everything(trained, tmp_path, numbered, capsys):
    run = shutil.copytree(trained(numbered), tmp_path / "run")
    report.main([str(run), "--title", "Mine & <yours>"])
    text = (run / "report.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert not checker.open and "Mine &amp; &lt;yours&gt;" in text and "&lt;2&gt;" in text and "<2>" not in text
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == 1 + 2 * (1 + numbered)
    for picture in pictures:
        assert np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).std() > 1
    words = (
        "python -m npunet.train",
        "--depth 1",
        "python -m npunet.predict",
        "4 steps",
        "Curves",
        "worst first",
        "--out runs/run",
        "(newest.npz)",
        "best.npz was chosen by its score on them",
        "--model runs/run/newest.npz",
    )
    for word in words + (("SEG", "AP at IoU 0.5", "merged", "true cells", "cut by") if numbered else ("mean IoU",)):
        assert word in text, word
    assert 'src="http' not in text  # nothing to fetch
    for folder in (tmp_path, trained(numbered).parent):  # no paths of the machine
        assert str(folder) not in text
    said = capsys.readouterr().out
    assert str(run / "report.html") in said and "scored: newest.npz" in said
    assert ("\nSEG: 0." if numbered else "\nmean IoU of the classes: 0.") in said


def test_the_four_worst_images_are_shown_and_the_best(monkeypatch):
    shown, drawn = [], []
    monkeypatch.setattr(report.html_report, "document", lambda *parts: "")
    monkeypatch.setattr(report.html_report, "curves", lambda folder, of: drawn.append(of) or "")
    monkeypatch.setattr(report.html_report, "sample", lambda folder, outcome, *rest: shown.append(rest) or "")
    scores = (0.6, 0.1, 0.7, 0.3, 0.5, 0.2)
    samples = [types.SimpleNamespace(name=str(number)) for number in range(6)]
    rows = [dict.fromkeys(report.OF_PIXELS, score) for score in scores]
    outcome = types.SimpleNamespace(rows=rows, mean=rows[0], samples=samples, cutting=None)
    experiment = types.SimpleNamespace(cells=False, figures=report.figures_of(False), title="")
    for name in ("how_trained", "commands"):
        monkeypatch.setattr(report, name, lambda *about: "")
    report.page(experiment, outcome, types.SimpleNamespace(no_pictures=False))
    worst = [(number, "mean_iou", False) for number in (1, 5, 3, 4)]
    assert shown == [*worst, (2, "mean_iou", True)] and drawn == [outcome]


def test_no_pictures_of_the_data(trained, tmp_path):
    report.main([str(trained(True)), "--no-pictures", "--out", str(tmp_path / "r.html")])
    assert (tmp_path / "r.html").read_text().count("data:image/png") == 1


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="expected the --out folder"):
        report.main([str(tmp_path)])


@pytest.mark.parametrize("asked", [["--tf32"], ["--precision", "bf16"]])
def test_a_precision_is_not_ignored(trained, asked):
    with pytest.raises(InputError, match=f"^{' '.join(asked)} needs the tensor cores of a GPU"):
        report.main([str(trained(False)), *asked])


def test_grey_values_are_scaled_as_the_training_run_was_told(tmp_path):
    """16 bits, `--normalise type`: 0.5 stays 0.5, and is not stretched to 1 by the percentiles of its file."""
    data = make_data(tmp_path / "data", False)
    for path in sorted((data / "images").iterdir()):
        tifffile.imwrite(path.with_suffix(".tif"), np.asarray(Image.open(path), np.uint16) * 128)
        path.unlink()
    small = "--base-channels 2 --depth 1 --tile 44 --steps 1 --threads 1 --normalise type".split()
    train.main(["--data", str(data), "--out", str(tmp_path / "run"), *small])
    experiment = types.SimpleNamespace(cells=False)
    outcome = running.score_run(tmp_path / "run", experiment, symmetries=False)
    assert outcome.samples[0].image.max() < 0.51


@pytest.mark.parametrize("name, value", [("tile", 10**9), ("tile", "wide"), ("frobnicate", 1)])
def test_a_run_of_a_stranger_is_refused_at_once(trained, tmp_path, name, value):
    run = shutil.copytree(trained(False), tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["options"][name] = value
    (run / "config.json").write_text(json.dumps(config))
    for command in (report, doctor):
        with pytest.raises(InputError, match=f"{name} is "):
            command.main([str(run)])


def test_numbers_in_config_json_have_limits():
    config = {"options": {}, "network": {}, "held_out": []}
    good = [{"threads": 1}, {"threads": 10**6}, {"data": {"labels": "x", "class_values": [0, 2**40]}}]
    bad = [{"threads": 0}, {"threads": 10**6 + 1}, {"data": {"labels": "x", "class_values": [2**40 + 1]}}]
    found = [schema.problem(config | more, schema.TRAINING_CONFIG) for more in (*good, *bad)]
    assert found[:3] == [None] * 3 and all(found[3:]), found
