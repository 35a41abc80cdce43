"""The measures of §4: of the ISBI 2012 challenge (Table 1), of the cell tracking challenge (Table 2), and the usual
overlaps.

"The evaluation is done by thresholding the map at 10 different levels and computation of the 'warping error', the 'Rand
error' and the 'pixel error'" (§4).

    v_rand, v_info  clustering.py   Rand and information scores inside the true cells, borders thinned (ISBI's ranking)
    rand_error      clustering.py   1 - the same Rand score without thinning (Table 1)
    warping_error   warping.py      pixels that are wrong beyond any shift of a boundary (Table 1)
    pixel_error     overlap.py      1 - F-score of the pixels (Table 1); pixel_accuracy: the share of right pixels
    iou, dice       overlap.py      overlap of two masks
    seg             overlap.py      mean overlap of each true cell with its match (Table 2)
    count_errors    counting.py     cells merged, split, missed, invented
    average_precision  matching.py  AP(t) = TP / (TP + FP + FN) of cells that match by an IoU above t
    confusion_matrix   confusion.py pixels of each class that were found as each; precision, recall, Dice, IoU of it

The five of Table 1 take the probability of "interior" for a stack of sections, try the thresholds 0, 0.1 .. 1 as the
challenge does, and return (score, threshold): the mean over the sections at the best threshold. `per_section` has the
scores behind that mean.
"""

from npunet.metrics.clustering import (
    contingency_table,
    information_f_score,
    rand_error,
    rand_f_score,
    thin_borders,
    v_info,
    v_rand,
)
from npunet.metrics.confusion import class_scores, confusion_matrix
from npunet.metrics.counting import count_errors, touching_cells
from npunet.metrics.matching import IOU_THRESHOLDS, average_precision, match_counts, pair_ious, precision_of_counts
from npunet.metrics.overlap import cell_ious, dice, iou, pixel_accuracy, pixel_error, pixel_f_score, seg
from npunet.metrics.threshold_sweep import THRESHOLDS, per_section, sweep
from npunet.metrics.warping import is_simple_table, warp, warping_error

__all__ = [
    "IOU_THRESHOLDS",
    "THRESHOLDS",
    "average_precision",
    "cell_ious",
    "class_scores",
    "confusion_matrix",
    "contingency_table",
    "count_errors",
    "dice",
    "information_f_score",
    "iou",
    "is_simple_table",
    "match_counts",
    "pair_ious",
    "per_section",
    "pixel_accuracy",
    "pixel_error",
    "pixel_f_score",
    "precision_of_counts",
    "rand_error",
    "rand_f_score",
    "seg",
    "sweep",
    "thin_borders",
    "touching_cells",
    "v_info",
    "v_rand",
    "warp",
    "warping_error",
]
