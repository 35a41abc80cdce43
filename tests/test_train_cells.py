"""npunet.train on numbered cells: heads, the cutting that is kept, early stop, and what follows the images."""

import json
import math

import numpy as np
import pytest
from scipy import ndimage

from npunet import InputError, UNet, datasets, metrics, predict, train
from npunet.commands import choose_cutting, scoring
from npunet.datasets import heads
from npunet.files import checkpoint, images
from npunet.instances.cutting import Cutting, cutting_of

without_pictures = pytest.mark.usefixtures("without_pictures")

FAST = ["--base-channels", "2", "--depth", "1", "--tile", "44", "--threads", "1", "--labels", "instances"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four images of bright discs, some touching, with numbered cells."""
    root, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(1)
    y, x = np.mgrid[:40, :40]
    for number in range(4):
        cells = np.zeros((40, 40), np.int32)
        for k, (v, u) in enumerate([(10, 9), (10, 20), (29, 12), (28, 30)], start=1):
            cells[(np.hypot(y - v, x - u) < 6) & (cells == 0)] = k
        images.write_labels(root / "masks" / f"{number}.tif", cells)
        images.write_image(
            root / "images" / f"{number}.png", np.clip(0.2 + 0.6 * (cells > 0) + rng.normal(0, 0.02, y.shape), 0, 1)
        )
    return root


def run(folder, out, *options):
    train.main(["--data", str(folder), "--out", str(out), *FAST, *options])
    return json.loads((out / "config.json").read_text())["options"]


def records(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("head", heads.HEADS)
def test_every_head_trains_and_keeps_its_cutting(folder, tmp_path, head, capsys):
    run(folder, tmp_path / "run", "--head", head, "--steps", "20", "--evaluate-every", "10", "--learning-rate", "0.01")
    said = capsys.readouterr().out
    for name in ("best", "newest"):
        net = UNet.load(tmp_path / "run" / f"{name}.npz")
        cutting = cutting_of(net)
        assert net.n_labels == len(heads.HEADS[head]) + 2 and cutting.head == head
        assert cutting.threshold in choose_cutting.GRIDS[head][0] and f"{name}.npz: cells are cut by {cutting}" in said
        assert cutting.min_size in (54, 108)  # half of a disc, or a disc; the touching ones are not smaller
    predict.main(
        [
            "--model",
            str(tmp_path / "run" / "best.npz"),
            "--input",
            str(folder / "images"),
            "--output",
            str(tmp_path / "out"),
        ]
    )
    assert (tmp_path / "out" / "3_cells.tif").exists()
    scores = [record["held_out"] for record in records(tmp_path / "run") if "held_out" in record]
    p = net.predict(images.read_image(folder / "images" / "3.png")[0], 44)  # of the newest network, held out
    inside = images.read_labels(folder / "masks" / "3.tif")[0] > 0
    assert scores[-1]["iou"] == pytest.approx(metrics.iou(p[..., 0] < 0.5, inside))  # cells or not, whatever the head


def test_classes_of_heads_by_hand():
    cells = np.zeros((5, 9), np.int32)
    cells[1:4, 1:8] = 1
    cells[1:4, 5:8] = 2
    border = heads.classes_of(cells, "border")
    assert border.tolist()[2] == [0, 1, 2, 2, 1, 1, 2, 1, 0] and border.tolist()[1] == [0, 1, 1, 1, 1, 1, 1, 1, 0]
    np.testing.assert_array_equal(heads.classes_of(cells, "mask"), cells > 0)
    assert heads.classes_of(np.ones((3, 3), np.int32), "border").tolist() == [[2] * 3] * 3  # no outside in the image


@pytest.mark.parametrize("seed", range(2))
def test_classes_of_heads_are_steps_of_the_distance(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 50)), 3)
    cells = ndimage.label(noise > 0)[0].astype(np.int32)
    depth, border = heads.classes_of(cells, "depth"), heads.classes_of(cells, "border")
    for number in range(1, cells.max() + 1):
        outside = np.argwhere(cells != number)
        pixels = np.argwhere(cells == number)
        distance = np.sqrt(((pixels[:, None] - outside[None]) ** 2).sum(axis=2).min(axis=1))
        np.testing.assert_array_equal(border[cells == number], np.where(distance > 1.5, 2, 1))
        share = distance / distance.max()
        np.testing.assert_array_equal(depth[cells == number], 1 + (share > 1 / 3) + (share > 2 / 3))


def test_heads_need_numbered_cells():
    with pytest.raises(InputError, match="--head border") as error:
        heads.with_head(datasets.synthetic(n_sections=1, size=48), "border")
    assert "\n" not in str(error.value)


def test_depth_is_the_mean_class():
    p = np.array([[[0.2, 0.3, 0.5], [1, 0, 0]]], np.float32)
    assert Cutting(head="border").cells(p).tolist() == [[1, 0]]
    np.testing.assert_allclose(scoring.classes_scored(_net("border"), [p])[0], [[[0.2, 0.8], [1, 0]]])
    assert scoring.classes_scored(_net("mask"), [p])[0] is p


def _net(head):
    net = UNet(n_classes=3, base_channels=1, depth=1)
    net.cutting = Cutting(head=head).as_dict()
    return net


@without_pictures
def test_the_shared_network_carries_no_optimiser(folder, tmp_path):
    run(folder, tmp_path / "run", "--steps", "2")
    assert not [name for name in checkpoint.load(tmp_path / "run" / "best.npz") if name.startswith("optimizer")]
    assert [name for name in checkpoint.load(tmp_path / "run" / "newest.npz") if name.startswith("optimizer")]


def give_scores(monkeypatch, *values):
    """Each evaluation of a training run gets the next of the values as its mean IoU."""
    evaluate, values = train.Session.evaluate.__globals__["evaluate"], iter(values)

    def scripted(*arguments, **options):
        scores, probabilities = evaluate(*arguments, **options)
        return scores | {"mean_iou": next(values)}, probabilities

    monkeypatch.setitem(train.Session.evaluate.__globals__, "evaluate", scripted)


@without_pictures
def test_early_stop_and_going_on(folder, tmp_path, monkeypatch, capsys):
    give_scores(monkeypatch, 0.5, 0.7, 0.6, 0.65, 0.9)
    run(folder, tmp_path / "run", "--steps", "10", "--evaluate-every", "2", "--patience", "2")
    assert records(tmp_path / "run")[-1]["step"] == 8 and "stopped early" in capsys.readouterr().out
    train.main(["--resume", str(tmp_path / "run")])
    assert records(tmp_path / "run")[-1]["step"] == 10


@without_pictures
def test_early_stop_waits_while_nothing_can_be_scored(folder, tmp_path, monkeypatch, capsys):
    give_scores(monkeypatch, math.nan, math.nan, math.nan, 0.7, math.nan, 0.6, 0.9)
    run(folder, tmp_path / "run", "--steps", "7", "--evaluate-every", "1", "--patience", "2")
    assert records(tmp_path / "run")[-1]["step"] == 6 and "stopped early" in capsys.readouterr().out


def test_the_held_out_loss_is_minus_the_mean_logarithm(folder):
    sample = datasets.load(folder, labels="instances").samples[0]
    p = np.random.default_rng(0).dirichlet([1, 1], sample.labels.shape).astype(np.float32)
    expected = -np.mean([np.log(p[y, x, sample.labels[y, x]]) for y in range(40) for x in range(40)])
    assert scoring.held_out_loss([sample], [p]) == pytest.approx(expected, rel=1e-5)


@without_pictures
@pytest.mark.parametrize(
    "size, given, depth, tile",
    [(60, [], 2, 100), (60, ["--depth", "1"], 1, 76), (172, [], 3, 260), (40, ["--tile", "204"], 4, 204)],
)
def test_tile_and_depth_follow_the_images(tmp_path, size, given, depth, tile):
    for number in range(2):
        mask = np.zeros((size, size), np.uint8)
        mask[5:20, 5:20] = 1
        images.write_mask(tmp_path / "data" / "masks" / f"{number}.png", mask)
        images.write_image(tmp_path / "data" / "images" / f"{number}.png", mask * 0.5)
    options = ["--base-channels", "1", "--steps", "1", "--threads", "1", *given]
    train.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *options])
    options = json.loads((tmp_path / "run" / "config.json").read_text())["options"]
    assert (options["depth"], options["tile"]) == (depth, tile)


@pytest.mark.parametrize("count, every", [(10, 1), (11, 2), (25, 3)])
def test_at_most_ten_images_choose_a_cutting(count, every):
    assert choose_cutting.tuning_samples(list(range(count))) == list(range(0, count, every))


def test_thresholds_that_are_tried_are_probabilities_and_seeds_lie_higher():
    for head, (thresholds, seeds) in choose_cutting.GRIDS.items():
        both = [*thresholds, *seeds]
        assert both == sorted(both) and 0 < both[0] and both[-1] < 1, head
