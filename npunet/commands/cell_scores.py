"""How good the cells are that were found (§1: "the separation of touching objects of the same class"; §4, Table 2)."""

from collections.abc import Sequence

import numpy as np

from npunet import metrics
from npunet.datasets.dataset import Sample
from npunet.instances.cutting import Cutting

AP_NAMES = tuple(f"ap{round(100 * threshold)}" for threshold in metrics.IOU_THRESHOLDS)  # ap50, ap55, .. ap90
COUNTS = ("true", "found", "merged", "split", "missed", "invented", "touching")
MEANS = ("iou", "dice")


def score_cells(
    cutting: Cutting, samples: Sequence[Sample], probabilities: Sequence[np.ndarray]
) -> tuple[list[dict], dict, list[np.ndarray]]:
    """Scores of the cells against the masks as they are, without the gaps that training puts in: (rows, totals, cells).

    rows      a dict for each sample: iou and dice of the mask, seg, seg_touching (cells that come within two pixels of
              another), seg_components (of the components above 1/2), ap50 .. ap90 and ap_mean, and the counts of
              `metrics.count_errors`
    totals    the same over all: iou and dice are means over the samples, seg is the mean over all cells, ap is of all
              cells together, counts are sums
    cells     the (H, W) cell numbers found in each
    """
    rows, cells, ious, counts = [], [], {name: [] for name in ("seg", "seg_touching", "seg_components")}, []
    plain = Cutting(0.5, 0.5, cutting.min_size)
    for sample, probability in zip(samples, probabilities, strict=True):
        found, truth = cutting.cells(probability, sample.ignore), sample.instances
        pieces = plain.cells(cutting.foreground(probability), sample.ignore)
        numbers, of_cells = metrics.cell_ious(found, truth)
        ious["seg"].append(of_cells)
        ious["seg_touching"].append(of_cells[np.isin(numbers, metrics.touching_cells(truth))])
        ious["seg_components"].append(metrics.cell_ious(pieces, truth)[1])
        counts.append(metrics.match_counts(found, truth))  # (thresholds, 3)
        cells.append(found)
        counted = ~sample.ignored
        rows.append(
            {"iou": metrics.iou(found[counted], truth[counted]), "dice": metrics.dice(found[counted], truth[counted])}
            | {name: _mean(of_all[-1]) for name, of_all in ious.items()}
            | _precisions(counts[-1])
            | metrics.count_errors(found, truth)
            | {"touching": len(ious["seg_touching"][-1])}
        )
    totals = {name: sum(row[name] for row in rows) for name in COUNTS}
    totals |= {name: float(np.mean([row[name] for row in rows])) for name in MEANS} | _precisions(sum(counts))
    totals |= {name: _mean(np.concatenate(of_all)) for name, of_all in ious.items()}
    return rows, {name: totals[name] for name in rows[0]}, cells


def _precisions(counts):
    """{"ap50": .., "ap90", "ap_mean"} of counts (thresholds, 3)."""
    values = metrics.precision_of_counts(counts)
    return dict(zip(AP_NAMES, values.tolist(), strict=True)) | {"ap_mean": float(values.mean())}


def _mean(values):
    return float(values.mean()) if values.size else float("nan")
