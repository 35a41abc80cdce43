"""Progress bars end where they said, and the first of several processes shows them alone."""

import types

import numpy as np
import pytest
from test_datasets_download import server  # noqa: F401  (a fixture)
from tqdm import tqdm

from npunet import UNet, datasets, evaluate, predict, stylize
from npunet.commands.interrupt import Interruptible
from npunet.files import download, images
from npunet.machine import ranks
from npunet.slides.work import Work
from npunet.style import Generator


def test_the_first_process_shows_the_bar(monkeypatch):
    bars = []
    monkeypatch.setattr(
        "npunet.commands.interrupt.progress_bar", lambda **how: bars.append(how) or types.SimpleNamespace(close=int)
    )
    one = Interruptible()
    for rank in (0, 1):
        monkeypatch.setattr(ranks, "rank", lambda: rank)
        one.listen(3, 0)
        one.stop_listening()
    assert [bar["disable"] for bar in bars] == [False, True]


@pytest.fixture
def bars(monkeypatch):
    """All progress bars that are made, in their order."""
    made = []

    class Kept(tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr("npunet.commands.cli.tqdm", Kept)
    monkeypatch.setattr(download, "tqdm", Kept)
    return made


def ends(bars):
    """(steps done, steps announced, unit) of each bar."""
    return [(bar.n, bar.total, bar.unit) for bar in bars]


def test_bars_of_commands_end_where_they_said(tmp_path, bars):
    UNet(1, 2, base_channels=2, depth=1, seed=0).save(tmp_path / "net.npz")
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number, sample in enumerate(datasets.synthetic(3, 60, seed=1).samples):
        images.write_image(tmp_path / "data/images" / f"{number}.png", sample.image)
        images.write_mask(tmp_path / "data/masks" / f"{number}.png", sample.labels)
    model, data = ["--model", str(tmp_path / "net.npz")], str(tmp_path / "data")
    output = ["--output", str(tmp_path / "out"), "--tile", "36"]
    predict.main([*model, *output, "--input", str(tmp_path / "data/images/0.png")])
    assert ends(bars) == [(9, 9, "tile")]  # 36 pixels become 20, a third of 60
    bars.clear()
    evaluate.main([*model, "--data", data, "--tile", "36", "--held-out", "all"])
    assert ends(bars) == [(3, 3, "image")]


def test_the_bar_of_painted_pictures_ends_where_it_said(tmp_path, bars):
    Generator(2, depth=1, seed=0).save(tmp_path / "model.npz")
    for name in "ab":
        images.write_image(tmp_path / f"{name}.png", np.zeros((32, 32, 3), np.float32))
    paths = [str(tmp_path / f"{name}.png") for name in "ab"]
    stylize.main(["apply", "--model", str(tmp_path / "model.npz"), "--input", *paths, "--output", str(tmp_path / "o")])
    assert ends(bars) == [(2, 2, "picture")]


def test_the_bar_of_a_download_counts_bytes_also_those_of_an_earlier_try(server, tmp_path, bars):  # noqa: F811
    server.breaks = [300_000]
    download.download(server.url, tmp_path / "file")
    assert (bars[0].n, bars[0].total) == (300_000, 700_000)
    assert bars[1].initial > 0 and (bars[1].n, bars[1].total) == (700_000, 700_000)


@pytest.mark.parametrize("done", [0, 2])
def test_the_bar_of_a_slide_counts_blocks_also_those_of_an_earlier_run(tmp_path, monkeypatch, bars, done):
    monkeypatch.setattr("npunet.slides.work.progress_bar", lambda **how: bars.append(tqdm(**how)) or bars[-1])
    work = Work.__new__(Work)
    work.path = tmp_path
    pieces = [type("Piece", (), {"index": index})() for index in range(5)]
    work.share("block", pieces[:done], lambda piece: {"x": np.zeros(1)}, "blocks")
    bars.clear()
    work.share("block", pieces, lambda piece: {"x": np.zeros(1)}, "blocks")
    assert (bars[0].initial, bars[0].n, bars[0].total) == (done, 5, 5)
