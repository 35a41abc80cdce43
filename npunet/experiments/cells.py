"""How good the cells of a run are (§1: "the separation of touching objects of the same class"; §4, Table 2)."""

import numpy as np

from npunet import metrics
from npunet.instances.cutting import Cutting


def score_cells(cutting, samples, probabilities):
    """Scores of the cells against the masks as they are, without the gaps that training puts in: (rows, totals, cells).

    rows      a dict for each sample: iou and dice of the mask, seg, seg_touching (cells that come within two pixels of
              another),
              seg_components (of the components above 1/2), and the counts of `metrics.count_errors`
    totals    the same over all: iou and dice are means over the samples, seg is the mean over all cells, counts are
              sums
    cells     the (H, W) cell numbers found in each
    """
    rows, found_cells, ious, ious_touching, ious_components = [], [], [], [], []
    plain = Cutting(0.5, 0.5, cutting.min_size)
    for sample, probability in zip(samples, probabilities, strict=True):
        found = cutting.cells(probability, sample.ignore)
        numbers, of_cells = metrics.cell_ious(found, sample.instances)
        of_touching = of_cells[np.isin(numbers, metrics.touching_cells(sample.instances))]
        pieces = plain.cells(cutting.foreground(probability), sample.ignore)
        ious_components.append(metrics.cell_ious(pieces, sample.instances)[1])
        counted = ~sample.ignored
        mask, truth = (found > 0)[counted], (sample.instances > 0)[counted]
        rows.append(
            {
                "iou": metrics.iou(mask, truth),
                "dice": metrics.dice(mask, truth),
                "seg": _mean(of_cells),
                "seg_touching": _mean(of_touching),
                "seg_components": _mean(ious_components[-1]),
                **metrics.count_errors(found, sample.instances),
                "touching": len(of_touching),
            }
        )
        ious.append(of_cells)
        ious_touching.append(of_touching)
        found_cells.append(found)
    totals = {name: sum(row[name] for row in rows) for name in rows[0]}
    totals |= {name: float(np.mean([row[name] for row in rows])) for name in ("iou", "dice")}
    totals |= {
        name: _mean(np.concatenate(of_all))
        for name, of_all in (("seg", ious), ("seg_touching", ious_touching), ("seg_components", ious_components))
    }
    return rows, totals, found_cells


def _mean(values):
    return float(values.mean()) if values.size else float("nan")
