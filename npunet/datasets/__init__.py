"""Where training pictures come from:
drawn by the program, folders of several layouts, public sets by name (§4, the data).
"""

from collections.abc import Sequence
from pathlib import Path

from npunet.datasets import named
from npunet.datasets.dataset import Dataset, Sample, describe
from npunet.datasets.folders import load_folder
from npunet.datasets.layouts import find_layout
from npunet.datasets.synthetic import synthetic
from npunet.errors import InputError
from npunet.files.images import GreyRule

__all__ = ["Dataset", "Sample", "describe", "load", "synthetic"]


def load(
    source: str | Path,
    *,
    labels: str = "auto",
    class_values: Sequence[int] | None = None,
    rule: GreyRule = GreyRule(),
    n_sections: int = 12,
    size: int = 512,
    seed: int = 0,
) -> Dataset:
    """A data set by name or path.

    source: "synthetic" (then n_sections, size and seed say what is drawn); a folder that holds images/ and masks/, or
    train-volume.tif and train-labels.tif, or the cell tracking challenge's 01/ and 01_GT/, or one folder an image as in
    the 2018 Data Science Bowl; or one of the names in `npunet.datasets.named`, which is downloaded if it is not there.
    labels: what the values of the masks mean, "auto", "binary", "instances" or "classes" (the rules are those of
    `npunet.datasets.labels`); class_values: the mask values of class 0, 1, .. where a model trained on another folder
    fixes them; rule: how grey values are scaled that are not of 8 bits. Returns a `Dataset`; raises InputError naming
    the file that is at fault.
    """
    if str(source) == "synthetic":
        return synthetic(n_sections=n_sections, size=size, seed=seed)
    folder = Path(source)
    if not folder.exists() and str(source) in named.SETS:
        dataset = load(named.find_or_fetch(str(source)), labels=labels, class_values=class_values, rule=rule)
        dataset.name = str(source)
        return dataset
    if not folder.is_dir():
        there = "is a file" if folder.is_file() else "is neither a folder nor a file"
        what = there if folder.exists() else "does not exist"
        raise InputError(
            f"data {source}: {what}; expected a folder with images/ and masks/ or with train-volume.tif and "
            f"train-labels.tif, "
            f"or one of synthetic, {', '.join(named.SETS)}"
        )
    folder, reader = find_layout(folder) or (folder, load_folder)  # load_folder explains what is missing
    dataset = reader(folder, labels, class_values, rule)
    dataset.grey_rule = rule.as_dict()
    return dataset
