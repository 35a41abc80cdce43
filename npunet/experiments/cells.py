"""Cells from probabilities, and how good they are (§1: "the separation of touching objects of the same class";
§4, Table 2).

How a probability is cut into cells has three numbers. They must not be chosen by looking at the held-out images, so
they are chosen on training images, with the network's own predictions there:

    threshold, seed_threshold    of `instances.seeded_watershed`; equal ones mean connected components. All pairs of a
                                 small grid are
                                 tried; the best has the highest SEG if every invented cell counts as one more cell with
                                 IoU 0
    min_size                     half the size that 95 % of the training cells exceed
"""

from dataclasses import dataclass

import numpy as np

from npunet import instances, metrics

THRESHOLDS = (0.3, 0.4, 0.5, 0.6)
SEED_THRESHOLDS = (0.7, 0.85, 0.95)


@dataclass(frozen=True)
class Cutting:
    """From (H, W) probabilities to cells. seed_threshold = threshold: connected components."""

    threshold: float
    seed_threshold: float
    min_size: int

    def cells(self, probability, ignore=None):
        """(H, W) int32 cell numbers;
        cells that lie for the most part on pixels without annotation are left out, nothing is known of them.
        """
        found = instances.seeded_watershed(probability, self.threshold, self.seed_threshold, self.min_size)
        if ignore is not None and ignore.any():
            known = 2 * np.bincount(found[ignore], minlength=found.max() + 1) <= np.bincount(found.ravel())
            found = np.where(known[found], found, 0)
        return found

    def __str__(self):
        how = (
            f"connected components above {self.threshold:g}"
            if self.seed_threshold == self.threshold
            else f"watershed from seeds above {self.seed_threshold:g} down to {self.threshold:g}"
        )
        return f"{how}, at least {self.min_size} pixels"


def choose_cutting(samples, probabilities):
    """The `Cutting` that does best on these samples, which should be training ones; (cutting, its score)."""
    sizes = np.concatenate([np.bincount(sample.instances.ravel())[1:] for sample in samples])
    sizes = sizes[sizes > 0]
    min_size = max(1, int(np.quantile(sizes, 0.05) / 2)) if sizes.size else 1
    candidates = list(
        dict.fromkeys(
            Cutting(threshold, seed, min_size)
            for threshold in THRESHOLDS
            for seed in (threshold, *SEED_THRESHOLDS)
            if seed >= threshold
        )
    )
    scores = [_score(cutting, samples, probabilities) for cutting in candidates]
    best = int(np.argmax(scores))  # the first of equally good ones
    return candidates[best], scores[best]


def _score(cutting, samples, probabilities):
    """Sum of the IoUs / (true cells + invented cells)."""
    total, cells = 0.0, 0
    for sample, probability in zip(samples, probabilities, strict=True):
        found = cutting.cells(probability[..., 1], sample.ignore)
        numbers, ious = metrics.cell_ious(found, sample.instances)
        total, cells = (
            total + ious.sum(),
            cells + len(numbers) + metrics.count_errors(found, sample.instances)["invented"],
        )
    return total / max(1, cells)


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
        found = cutting.cells(probability[..., 1], sample.ignore)
        numbers, of_cells = metrics.cell_ious(found, sample.instances)
        of_touching = of_cells[np.isin(numbers, metrics.touching_cells(sample.instances))]
        ious_components.append(metrics.cell_ious(plain.cells(probability[..., 1], sample.ignore), sample.instances)[1])
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
