"""What npunet.evaluate says: tables for the terminal, CSV, and pictures of the worst images."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npunet import metrics, tiling
from npunet.commands import run_pictures
from npunet.commands.cell_pictures import cells_panel
from npunet.commands.cell_scores import AP_NAMES, COUNTS
from npunet.datasets.dataset import Sample
from npunet.files.whole_file import written_whole


def class_matrix(samples: Sequence[Sample], probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """The confusion matrix of all annotated pixels: (K, K) int64, true classes down, found ones across."""
    return sum(
        metrics.confusion_matrix(tiling.classify(p), sample.labels, p.shape[-1], sample.ignore)
        for sample, p in zip(samples, probabilities, strict=True)
    )


def classes_table(matrix: np.ndarray) -> str:
    """Precision, recall, Dice and IoU of each class, and where its pixels went."""
    scores, pixels = metrics.class_scores(matrix), max(1, matrix.sum())
    names = [f"found {k}" for k in range(len(matrix))]
    lines = ["class  pixels  " + "  ".join(scores) + "    of its pixels: " + "  ".join(names)]
    for k, row in enumerate(matrix):
        values = "  ".join(f"{values[k]:{len(name)}.3f}" for name, values in scores.items())
        went = "  ".join(f"{share:{len(name)}.3f}" for share, name in zip(row / max(1, row.sum()), names, strict=True))
        lines.append(f"{k:<5}  {row.sum() / pixels:6.1%}  {values}                   {went}")
    return "\n".join(lines)


def cells_table(totals: dict, cutting) -> str:
    """Counts, AP and SEG of the cells of all images."""
    counted = ", ".join(f"{totals[name]} {name}" for name in COUNTS[:-1])
    precisions = "  ".join(f"{name[2:]}: {totals[name]:.3f}" for name in AP_NAMES)
    return (
        f"cells ({cutting}): {counted}\n"
        f"AP at IoU 0.xx   {precisions}  mean: {totals['ap_mean']:.3f}\n"
        f"SEG {totals['seg']:.3f}, of cells that touch another {totals['seg_touching']:.3f}, "
        f"of plain components above 1/2 {totals['seg_components']:.3f}"
    )


def worst_first(rows: Sequence[dict]) -> list[int]:
    """Indices of the images, the one with the lowest score first: SEG where there are cells, else the mean IoU."""
    name = "seg" if "seg" in rows[0] else "mean_iou"
    values = np.array([row[name] for row in rows])
    return np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable").tolist()


def write_csv(path: str | Path, names: Sequence[str], rows: Sequence[dict], order: Sequence[int]) -> None:
    """One line an image, in this order; scores that do not exist are left empty."""
    with written_whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image", *rows[0]])
        writer.writeheader()
        for index in order:
            known = {name: value for name, value in rows[index].items() if not np.isnan(value)}
            writer.writerow({"image": names[index]} | known)


def write_pictures(
    folder: str | Path, samples, probabilities, found, order: Sequence[int], most: int = 10
) -> list[str]:
    """Image, truth, probability and error of the worst images, and their cells where there are any; names in order."""
    names = []
    for rank, index in enumerate(order[:most], start=1):
        name = f"{rank:02d}_{samples[index].name.replace('/', '_')}"
        run_pictures.prediction_panel(Path(folder) / f"{name}.png", [samples[index]], [probabilities[index]])
        names.append(f"{name}.png")
        if found is not None:
            cells_panel(Path(folder) / f"{name}_cells.png", samples[index], found[index])
            names.append(f"{name}_cells.png")
    return names
