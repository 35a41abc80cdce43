"""How the cells of one network are cut out: a few numbers that belong to it and travel in its file.

Every head that the project compares (`npunet.datasets.heads`) says the same thing in other words: how deep inside a
cell a pixel lies. Its classes 0 .. K - 1 are in this order, and their mean

    depth(pixel) = sum_k k p_k / (K - 1)        0 outside, 1 well inside

is the probability of class 1 for two classes. A seeded watershed of the depth gives the cells. Its numbers are chosen
on training images (`npunet.commands.choose_cutting`), never on the images that are scored.

A network of several classes that are no depths, such as three kinds of tissue, is cut into the connected components of
each class.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from npunet.errors import InputError
from npunet.instances.strips import cut_classes, cut_ranks, ranks_of
from npunet.instances.watershed import levels


@dataclass(frozen=True)
class Cutting:
    """Seeded watershed of the depth. seed_threshold = threshold: connected components.

    head    what the classes of the network mean, a name of `npunet.datasets.heads.HEADS`
    """

    threshold: float = 0.5
    seed_threshold: float = 0.5
    min_size: int = 1
    head: str = "mask"

    def marks(self, probabilities: np.ndarray) -> np.ndarray:
        """What a pixel's cell depends on, one byte: (H, W, K) probabilities -> (H, W) uint8 ranks of the depth."""
        return ranks_of(depth(probabilities), self.threshold, self.seed_threshold)

    def doubtful(self, probabilities: np.ndarray, tolerance: float) -> np.ndarray:
        """(H, W) bool: pixels whose mark would be another one if the depth changed by `tolerance`."""
        value, ascending = depth(probabilities), levels(self.threshold, self.seed_threshold)
        return np.searchsorted(ascending, value - tolerance) != np.searchsorted(ascending, value + tolerance)

    def cut(self, marks: np.ndarray, cells: np.ndarray) -> int:
        """Fill cells (H, W) int32 with cell numbers; both may be memory maps. Returns how many cells there are."""
        return cut_ranks(marks, cells, self.min_size)

    def cells(self, probabilities: np.ndarray, ignore: np.ndarray | None = None) -> np.ndarray:
        """(H, W, K) probabilities, or (H, W) of being inside -> (H, W) int32 cell numbers.

        Cells that lie for the most part on `ignore`, pixels without annotation, are left out: nothing is known of
        them.
        """
        return _cells(self, probabilities, ignore)

    def foreground(self, probabilities: np.ndarray) -> np.ndarray:
        """(..., K) -> (..., 2): not in a cell, in a cell."""
        return np.stack([probabilities[..., 0], 1 - probabilities[..., 0]], axis=-1)

    def as_dict(self) -> dict:
        """Plain numbers and words, for `net.cutting` and so for the network's file; `cutting_of` reads them."""
        return asdict(self)

    def __str__(self):
        how = (
            f"connected components above {self.threshold:g}"
            if self.seed_threshold == self.threshold
            else f"watershed from seeds above {self.seed_threshold:g} down to {self.threshold:g}"
        )
        return f"{how}, at least {self.min_size} pixels"


@dataclass(frozen=True)
class ClassComponents:
    """Connected components of every class but the first, for networks whose classes are kinds of things."""

    min_size: int = 1

    def marks(self, probabilities: np.ndarray) -> np.ndarray:
        """The most likely class of each pixel: (H, W, K) -> (H, W) uint8."""
        return probabilities.argmax(axis=-1).astype(np.uint8)

    def doubtful(self, probabilities: np.ndarray, tolerance: float) -> np.ndarray:
        """(H, W) bool: pixels where a second class is within `tolerance` of the most likely one."""
        best = np.partition(probabilities, -2, axis=-1)
        return best[..., -1] - best[..., -2] <= 2 * tolerance

    def cut(self, marks: np.ndarray, cells: np.ndarray) -> int:
        return cut_classes(marks, cells, self.min_size)

    def cells(self, probabilities: np.ndarray, ignore: np.ndarray | None = None) -> np.ndarray:
        return _cells(self, probabilities, ignore)

    def __str__(self):
        return f"connected components of each class but 0, at least {self.min_size} pixels"


def depth(probabilities: np.ndarray) -> np.ndarray:
    """(H, W, K) probabilities -> (H, W) float32 in 0..1, see the top of this file; (H, W) is a depth already."""
    if probabilities.ndim == 2:
        return probabilities
    if probabilities.shape[-1] == 2:
        return probabilities[..., 1]
    n_classes = probabilities.shape[-1]
    weights = (np.arange(n_classes) / (n_classes - 1)).astype(probabilities.dtype)
    return (probabilities * weights).sum(axis=-1)


def cutting_of(net: Any) -> Cutting | ClassComponents:
    """What the file of a network, npunet.UNet, says (`net.cutting`), or a plain one: components above 1/2, or of each
    class.

    Raises InputError if the file says nothing that can be used.
    """
    if net.cutting is None:
        return Cutting() if net.n_labels == 2 else ClassComponents()
    try:
        cutting = Cutting(**net.cutting)
        ordered = 0 <= cutting.threshold <= cutting.seed_threshold <= 1 and cutting.min_size >= 0
    except TypeError as error:
        raise InputError(f"the model says of its cells {net.cutting} ({error}); expected {asdict(Cutting())}") from None
    if not ordered:
        raise InputError(f"the model says of its cells {net.cutting}; expected thresholds in 0..1 in ascending order")
    return cutting


def _cells(cutting, probabilities, ignore):
    cells = np.empty(probabilities.shape[:2], np.int32)
    cutting.cut(cutting.marks(probabilities), cells)
    if ignore is not None and ignore.any():
        known = 2 * np.bincount(cells[ignore], minlength=cells.max() + 1) <= np.bincount(cells.ravel())
        cells = np.where(known[cells], cells, 0)
    return cells
