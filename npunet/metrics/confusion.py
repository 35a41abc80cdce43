"""The confusion matrix and what is read from it: precision, recall, Dice and IoU of each class (§4).

matrix[t, f] = pixels of true class t that were found to be class f

precision  of the pixels found to be class k, the share that is       matrix[k, k] / column k
recall     of the pixels that are class k, the share that was found   matrix[k, k] / row k
Dice       their harmonic mean                                        2 matrix[k, k] / (row k + column k)
IoU        intersection over union                                    matrix[k, k] / (row k + column k - matrix[k, k])
"""

import numpy as np

from npunet.errors import InputError


def confusion_matrix(
    found: np.ndarray, truth: np.ndarray, n_classes: int, ignore: np.ndarray | None = None
) -> np.ndarray:
    """(n_classes, n_classes) int64 of two arrays of classes of one shape. ignore: pixels that do not count, bool.

    Raises InputError if shapes differ or a class lies outside 0 .. n_classes - 1.
    """
    if found.shape != truth.shape:
        raise InputError(f"found classes have shape {found.shape}, true ones {truth.shape}; expected one shape")
    if ignore is not None:
        found, truth = found[~ignore], truth[~ignore]  # (pixels,)
    for classes in (found, truth):
        if classes.size and not 0 <= classes.min() <= classes.max() < n_classes:
            raise InputError(f"classes {classes.min()} to {classes.max()}; expected 0 to {n_classes - 1}")
    pairs = truth.astype(np.intp).ravel() * n_classes + found.ravel()
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def class_scores(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """{"precision", "recall", "dice", "iou"}: (K,) float64 each, of a confusion matrix (K, K); NaN for 0 / 0."""
    right = np.diagonal(matrix).astype(np.float64)
    true, found = matrix.sum(axis=1), matrix.sum(axis=0)

    def share(part, whole):
        return np.divide(part, whole, out=np.full(len(right), np.nan), where=whole > 0)

    return {
        "precision": share(right, found),
        "recall": share(right, true),
        "dice": share(2 * right, true + found),
        "iou": share(right, true + found - right),
    }
