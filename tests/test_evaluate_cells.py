"""npunet.evaluate on numbered cells: AP, SEG and counts, classes, CSV, JSON and pictures, the worst image first."""

import csv
import json

import numpy as np
import pytest

from npunet import UNet, evaluate, metrics, tiling
from npunet.commands import cell_scores, evaluation_report
from npunet.files import images
from npunet.instances.cutting import Cutting


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images whose grey value tells the cells; in the second a cell is split, in the third one is not drawn."""
    root, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(2)
    y, x = np.mgrid[:40, :48]
    for number in range(3):
        cells = np.zeros((40, 48), np.int32)
        for k, (v, u) in enumerate([(9, 10), (10, 34), (29, 12), (28, 36)], start=1):
            cells[np.hypot(y - v, x - u) < 6] = k
        grey = 0.1 + 0.8 * (cells > 0)
        if number == 1:
            grey[7:11, 28:41] = 0.1
        if number == 2:
            cells[cells == 4] = 0
        images.write_labels(root / "masks" / f"{number}.tif", cells)
        images.write_image(root / "images" / f"{number}.png", np.clip(grey + rng.normal(0, 0.01, grey.shape), 0, 1))
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network made by hand that answers with the grey value: p(cell) = sigmoid(20 (grey - 1/2))."""
    net = UNet(1, 2, base_channels=2, depth=1, dropout=0)
    for name, parameter in net.parameters.items():
        parameter.value[...] = 0
        if name in ("contracting.0.conv1.weight", "contracting.0.conv2.weight", "expansive.0.conv2.weight"):
            parameter.value[1, 1, 0, 0] = 1
    net.parameters["expansive.0.conv1.weight"].value[1, 1, 2, 0] = 1  # the skip connection comes second
    net.parameters["output.weight"].value[0, 0, 0] = -10, 10
    net.parameters["output.bias"].value[...] = 5, -5
    net.cutting = Cutting(0.4, 0.6, 5).as_dict()
    path = tmp_path_factory.mktemp("model") / "model.npz"
    net.save(path)
    return path


def run(model, folder, *options):
    evaluate.main(["--model", str(model), "--data", str(folder), "--labels", "instances", "--tile", "76", *options])


def test_scores_of_cells(model, folder, tmp_path, capsys):
    out = tmp_path / "scores.json"
    run(model, folder, "--json", str(out), "--csv", str(tmp_path / "s.csv"), "--pictures", str(tmp_path / "pictures"))
    scores, said = json.loads(out.read_text()), capsys.readouterr().out
    cells = scores["cells"]
    assert [cells[name] for name in ("true", "found", "merged", "split", "missed", "invented")] == [11, 13, 0, 1, 1, 1]
    assert cells["ap50"] == pytest.approx(10 / 14)  # ten matches, three found and one true cell without one
    assert scores["worst_first"] == ["1", "0", "2"] and scores["per_image"][2]["seg"] == 1
    assert scores["per_image"][1]["ap50"] == 3 / 6 and "v_rand" not in scores["mean"]
    for words in ("AP at IoU", "11 true, 13 found", "SEG", "worst images first: 1, 0, 2", "precision", "found 1"):
        assert words in said, words
    with open(tmp_path / "s.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == ["1", "0", "2"] and int(lines[0]["split"]) == 1
    pictures = sorted(entry.name for entry in (tmp_path / "pictures").iterdir())
    assert pictures == [f"0{r}_{n}{kind}.png" for r, n in ((1, 1), (2, 0), (3, 2)) for kind in ("", "_cells")]


def test_classes_are_those_of_all_pixels(model, folder, tmp_path):
    run(model, folder, "--json", str(tmp_path / "s.json"))
    scores = json.loads((tmp_path / "s.json").read_text())
    net = UNet.load(model)
    found = np.stack(
        [tiling.predict(net, images.read_image(folder / "images" / f"{n}.png")[0], 76)[..., 1] > 0.5 for n in range(3)]
    )
    truth = np.stack([images.read_labels(folder / "masks" / f"{n}.tif")[0] > 0 for n in range(3)])
    assert scores["confusion"] == [[int(np.sum((truth == t) & (found == f))) for f in (0, 1)] for t in (0, 1)]
    assert scores["classes"]["recall"][1] == pytest.approx(found[truth].mean())
    assert scores["classes"]["precision"][1] == pytest.approx(truth[found].mean())
    assert scores["classes"]["iou"][1] == pytest.approx(metrics.iou(found, truth))


def test_the_challenges_scores_come_when_asked(model, folder, tmp_path):
    run(model, folder, "--json", str(tmp_path / "s.json"), "--challenge", "--held-out", "1")
    assert "v_rand" in json.loads((tmp_path / "s.json").read_text())["mean"]


def test_totals_count_all_cells_together(rng):
    from npunet.datasets import Sample

    samples, probabilities = [], []
    for cells in (2, 5):
        instances = np.zeros((8, 40), np.int32)
        for k in range(cells):
            instances[1:7, 1 + 7 * k : 6 + 7 * k] = k + 1
        p = (instances > 1).astype(np.float32)  # the first cell is missed
        samples.append(Sample("a", np.zeros((8, 40, 1)), (instances > 0).astype(int), instances))
        probabilities.append(np.stack([1 - p, p], axis=-1))
    rows, totals, _ = cell_scores.score_cells(Cutting(), samples, probabilities)
    assert [row["ap50"] for row in rows] == [1 / 2, 4 / 5] and totals["ap50"] == 5 / 7
    assert totals["seg"] == 5 / 7 and totals["iou"] == pytest.approx((1 / 2 + 4 / 5) / 2)


def test_worst_first_puts_images_without_a_score_last():
    assert evaluation_report.worst_first([{"seg": 0.5}, {"seg": float("nan")}, {"seg": 0.1}]) == [2, 0, 1]
    assert evaluation_report.worst_first([{"mean_iou": 0.5}, {"mean_iou": 0.1}]) == [1, 0]


def test_a_table_of_one_image(tmp_path):
    evaluation_report.write_csv(tmp_path / "one.csv", ["a"], [{"iou": 0.5, "seg": float("nan")}], [0])
    assert (tmp_path / "one.csv").read_text().splitlines() == ["image,iou,seg", "a,0.5,"]
