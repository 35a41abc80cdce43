"""Where training pictures come from: drawn by the program, a folder, the ISBI pair of TIFF stacks (§4, the data)."""

from pathlib import Path

from npunet.datasets.dataset import Dataset, Sample, describe
from npunet.datasets.folders import is_isbi_pair, load_folder, load_isbi_pair
from npunet.datasets.synthetic import synthetic
from npunet.errors import InputError

__all__ = ["Dataset", "Sample", "describe", "load", "synthetic"]


def load(source, *, labels="auto", class_values=None, n_sections=12, size=512, seed=0):
    """A data set by name or path.

    source: "synthetic" (then n_sections, size and seed say what is drawn), or a folder that holds images/ and masks/, or
    train-volume.tif and train-labels.tif. labels: what the values of the masks mean, "auto", "binary", "instances" or
    "classes" (the rules are those of `npunet.datasets.labels`); class_values: the mask values of class 0, 1, .. where a
    model trained on another folder fixes them. Returns a `Dataset`; raises InputError naming the file that is at fault.
    """
    if str(source) == "synthetic":
        return synthetic(n_sections=n_sections, size=size, seed=seed)
    folder = Path(source)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"data {source}: {what}; expected 'synthetic', or a folder with images/ and masks/ or train-volume.tif and train-labels.tif")
    reader = load_isbi_pair if is_isbi_pair(folder) else load_folder
    return reader(folder, labels, class_values)
