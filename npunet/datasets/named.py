"""The public data sets of §4 by name: where each comes from, on what terms, and where it is looked for.

They live in the folder that the environment variable NPUNET_DATA names, else in ~/.cache/npunet, as NAME/ or under the
name of the unpacked archive. What is not there is downloaded from its publisher's address.

The SHA-256 sums of the two cell tracking archives are those that torch-em and micro-sam (Computational Cell Analytics)
check, and that independent users noted in 2026. For the other two no published sum is known to us: there the zip
archive's own check sums are all that is checked, and the sum that was found is noted in SOURCE.txt beside the data.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from npunet.datasets.layouts import find_layout
from npunet.errors import InputError
from npunet.files import download


@dataclass(frozen=True)
class Source:
    """url may be None: then the data must be fetched by hand from `page`. sha256 is None where none is published."""

    name: str
    title: str
    page: str
    url: str | None
    sha256: str | None
    terms: str
    cite: str
    by_hand: str  # what has to be put into the folder, for the error message
    also_called: tuple  # other names of the folder

    def about(self):
        return (
            f"{self.name}: {self.title}\n  from   {self.url or 'by hand'}\n  page   {self.page}\n"
            f"  terms  {self.terms}\n  cite   {self.cite}"
        )


_CELL_TRACKING = {
    "page": "https://celltrackingchallenge.net/2d-datasets/",
    "terms": "free for work on the challenge; for other scientific and for commercial use see the conditions on the "
    "page",
    "cite": "Maska et al. 2023, Nature Methods 20, doi:10.1038/s41592-023-01879-y; Ulman et al. 2017, "
    "doi:10.1038/nmeth.4473",
}
_TRAINING_SETS = "https://data.celltrackingchallenge.net/training-datasets/"

SETS = {
    source.name: source
    for source in (
        Source(
            "isbi2012",
            "30 sections of Drosophila larva nerve cord, serial-section transmission EM, 512 x 512 (Table 1)",
            page="https://imagej.net/events/isbi-2012-segmentation-challenge",
            url="https://downloads.imagej.net/ISBI-2012-challenge.zip",
            sha256=None,
            terms="free for generating or testing non-commercial image segmentation software",
            cite="Cardona et al. 2010, doi:10.1371/journal.pbio.1000502; Arganda-Carreras et al. 2015, "
            "doi:10.3389/fnana.2015.00142",
            by_hand="train-volume.tif and train-labels.tif",
            also_called=("ISBI-2012-challenge",),
        ),
        Source(
            "phc-u373",
            "U373 glioblastoma cells, phase contrast, 2 sequences of 115 frames, 34 of them with truth (Table 2)",
            url=_TRAINING_SETS + "PhC-C2DH-U373.zip",
            sha256="b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
            by_hand="01, 01_GT, 02 and 02_GT",
            also_called=("PhC-C2DH-U373",),
            **_CELL_TRACKING,
        ),
        Source(
            "dic-hela",
            "HeLa cells on flat glass, differential interference contrast, 2 sequences of 84 frames (Table 2)",
            url=_TRAINING_SETS + "DIC-C2DH-HeLa.zip",
            sha256="832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
            by_hand="01, 01_GT, 02 and 02_GT",
            also_called=("DIC-C2DH-HeLa",),
            **_CELL_TRACKING,
        ),
        Source(
            "dsb2018",
            "nuclei in 670 images of many kinds, 2018 Data Science Bowl, stage 1 training set (BBBC038v1)",
            page="https://bbbc.broadinstitute.org/BBBC038",
            url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
            sha256=None,
            terms="CC0 (public domain)",
            cite="Caicedo et al. 2019, Nature Methods 16, doi:10.1038/s41592-019-0612-7",
            by_hand="the unpacked stage1_train.zip",
            also_called=("stage1_train", "dsb2018_nuclei", "BBBC038"),
        ),
        Source(
            "usiigaci",
            "NIH/3T3 fibroblasts that touch, phase contrast, 10 frames with hand-made instance masks",
            page="https://github.com/oist/Usiigaci",
            url=None,
            sha256=None,
            terms="MIT",
            cite="Tsai et al. 2019, preprint doi:10.1101/524041",
            by_hand="images/ and masks/ (frames and instance masks under the same names)",
            also_called=("phase_contrast", "Usiigaci"),
        ),
    )
}


def get(name):
    if name not in SETS:
        raise InputError(f"data set {name!r} is not known; expected one of {', '.join(SETS)}")
    return SETS[name]


def data_folder():
    """Where named data sets are kept."""
    return Path(os.environ.get("NPUNET_DATA") or Path.home() / ".cache" / "npunet")


def find(name):
    """The folder of a named set that is there already and looks complete, or None."""
    for called in (name, *get(name).also_called):
        folder = data_folder() / called
        if folder.is_dir() and (layout := find_layout(folder)):
            return layout[0]
    return None


def find_or_fetch(name):
    """The folder of a named set, downloaded first if need be; says then what it is and on which terms.

    Raises InputError.
    """
    folder = find(name)
    if folder is None:
        print(SETS[name].about(), flush=True)
        download.fetch(SETS[name], data_folder())
        folder = find(name)
        if folder is None:
            raise InputError(
                f"{data_folder() / name}: unpacked, but there is no {SETS[name].by_hand} in it; "
                f"the archive may have changed, see {SETS[name].page}"
            )
    return folder
