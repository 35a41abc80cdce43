"""What each experiment is, as a row:
its data, its training, the paper's figures and why ours are others (§4, Tables 1 and 2).
"""

from collections.abc import Callable
from dataclasses import dataclass

from npunet import geometry
from npunet.errors import InputError

CHECKPOINT = "newest.npz"  # the network after the last step; best.npz was picked by its score on the held-out images


@dataclass(frozen=True)
class Figure:
    """One line of a table: our score, what it is called there, the paper's value (None if it has none) and a remark."""

    score: str
    title: str
    paper: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Experiment:
    """train: options of npunet.train. cells: whether single cells are found and scored. figures:
    the table of the report, by data set.
    """

    name: str
    title: str
    table: str  # which of the paper's tables, in words
    train: dict
    cells: bool
    figures: tuple
    differences: tuple  # what makes our figures others than the paper's


MINUTES = (
    "We train for minutes with {base_channels} channels in the first level; "
    "the paper's 64 channels were trained for ten hours on a GPU."
)
RECIPE = (
    "Learning rate, steps and optimiser are not in the paper. Here: {optimizer}, learning rate {learning_rate:g}, "
    "{steps} steps; scored is the "
    "network after the last step, not the one that scored best on the way."
)
SEG_IS_IOU = (
    "Table 2's \"average IOU\" is the challenge's SEG: for each true cell the IoU with the found cell that covers "
    "more than half of it, 0 without "
    "one, mean over all true cells. IoU of the mask, below it, is that of all cell pixels of an image together, mean "
    "over the images."
)
CUTTING = (
    "Cells come from the probability by a threshold and a seeded watershed; both thresholds and the smallest size are "
    "chosen on training "
    "images. The paper does not say how it did that."
)
CELLS = (
    Figure("iou", "IoU of the mask"),
    Figure("dice", "Dice of the mask"),
    Figure("ap50", "AP at IoU 0.5"),
    Figure("ap_mean", "AP, mean of IoU 0.5 to 0.9"),
    Figure("seg_touching", "SEG of touching cells"),
    Figure("seg_components", "SEG of plain components", None, "connected components above 1/2, no watershed"),
    Figure("merged", "merged: walls missing"),
    Figure("split", "split: walls too many"),
    Figure("missed", "missed cells"),
    Figure("invented", "invented cells"),
)

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "isbi2012",
            "Membranes in electron microscopy: the ISBI 2012 challenge",
            "Table 1 (6 March 2015), and the challenge's later ranking",
            train=dict(
                data="isbi2012",
                held_out=4,
                base_channels=16,
                steps=2300,
                evaluate_every=230,
                w0=10.0,
                class_balance=True,
            ),
            cells=False,
            figures=(
                Figure(
                    "warping_error",
                    "warping error",
                    0.000353,
                    "not comparable: ours counts every mismatch that is not a shifted boundary, "
                    "the challenge only splits and mergers",
                ),
                Figure("rand_error", "Rand error", 0.0382, "no thinning of borders"),
                Figure("pixel_error", "pixel error", 0.0611, "1 - F-score of the pixels"),
                Figure("v_rand", "V_rand", 0.9728, "not in the paper: later ranking, border thinning"),
                Figure("v_info", "V_info", 0.9866, "not in the paper: later ranking, border thinning"),
                Figure("pixel_accuracy", "pixel accuracy"),
            ),
            differences=(
                "The paper's figures are of the 30 test sections, whose labels only the challenge's server has, after "
                "training on all 30 training sections. "
                "Ours are of {held_out} training sections that were held out, after training on the other {training}. "
                "They are the last of the stack in "
                "one block: the sections next to them look alike.",
                "Thresholds are the best of 0, 0.1 .. 1 for each measure, as the challenge defines it. With so few "
                "sections that flatters a little.",
                "Many ground-truth membranes break off or blur; two people who label these sections differ, too.",
                "Eq. 2 is on in full, w0 and w_c (`--no-weight-map` puts both off). Membrane then counts some ten "
                "times as much as cell, so probabilities lean to it: the "
                "thresholds above take that back, pixel accuracy at 1/2 does not.",
                MINUTES,
                RECIPE,
            ),
        ),
        Experiment(
            "phase_contrast",
            "Touching cells in phase contrast: the cell tracking challenge",
            "Table 2 (ISBI cell tracking challenge 2015)",
            train=dict(
                data="usiigaci",
                held_out=3,
                base_channels=16,
                steps=1000,
                tile=572,
                grey=0.05,
                w0=10.0,
                sigma=5.0,
                gap=1,
            ),
            cells=True,
            figures=(Figure("seg", "IoU of Table 2 = SEG", 0.9203, "the paper's: PhC-U373; DIC-HeLa 0.7756"), *CELLS),
            differences=(
                "Other cells: NIH/3T3 fibroblasts (oist/Usiigaci) that spread and touch, where the paper has U373 "
                "glioblastoma cells that mostly lie apart. "
                "`--data phc-u373` and `--data dic-hela` fetch and train the paper's own two sets.",
                SEG_IS_IOU,
                "The paper's figures are of the challenge's secret test sequences; ours of {held_out} held-out "
                "frames, trained on {training}.",
                CUTTING,
                MINUTES,
                RECIPE,
            ),
        ),
        Experiment(
            "nuclei",
            "Nuclei in fluorescence: 2018 Data Science Bowl",
            "none: this set came three years after the paper; Table 2's measure",
            # Fluorescence is dark, background 0.01 to 0.06, faint nuclei 0.1: an offset of grey values by 0.1 would
            # drown them. So it varies little.
            train=dict(
                data="dsb2018",
                held_out=10,
                base_channels=16,
                depth=3,
                tile=348,
                steps=2000,
                grey=0.03,
                w0=5.0,
                sigma=3.0,
                gap=1,
            ),
            cells=True,
            figures=(Figure("seg", "SEG (Table 2's IoU)"), *CELLS),
            differences=(
                "Not in the paper; 256 x 256 images need less context, hence three poolings and tiles that just cover "
                "an image.",
                SEG_IS_IOU,
                CUTTING,
                MINUTES,
                RECIPE,
            ),
        ),
    )
}


@dataclass(frozen=True)
class Ablation:
    """One thing changed. change: options of npunet.train -> the ones that differ."""

    title: str
    change: Callable[[dict], dict]


def padded(options):
    """The same number of labelled pixels a step:
    a padded tile is as large as the valid one's output, to the nearest multiple of 16.
    """
    grid = 2 ** options["depth"]
    output = geometry.output_size(options["tile"], options["depth"])
    return dict(variant="padded", tile=max(1, round(output / grid)) * grid)


ABLATIONS = {
    "no-weight-map": Ablation(
        "weight map off (w0 = 0 and w_c = 1 in Eq. 2)", lambda options: dict(w0=0.0, class_balance=False)
    ),
    "weight-map": Ablation(
        "weight map on (w0 = 10 and w_c in Eq. 2)", lambda options: dict(w0=10.0, class_balance=True)
    ),
    "no-elastic": Ablation("elastic deformation off (§3.1)", lambda options: dict(elastic=0.0)),
    "no-dropout": Ablation("dropout off (§3.1)", lambda options: dict(dropout=0.0)),
    "padded": Ablation("padded instead of valid convolutions (§2)", padded),
}


def changed(options, names):
    """The training options with the ablations of these names.

    Raises InputError for one that is unknown or would change nothing.
    """
    for name in names:
        if name.startswith("base-") and name[5:].isdecimal():
            change = dict(base_channels=int(name[5:]))
        elif name in ABLATIONS:
            change = ABLATIONS[name].change(options)
        else:
            raise InputError(
                f"ablation {name!r} is not known; expected {', '.join(ABLATIONS)}, or base-N for N base channels"
            )
        if all(options[key] == value for key, value in change.items()):
            raise InputError(
                f"ablation {name} changes nothing: {', '.join(f'{key} is {value}' for key, value in change.items())} "
                f"already"
            )
        options = options | change
    return options


def ablation_title(name):
    return ABLATIONS[name].title if name in ABLATIONS else f"{name[5:]} base channels"
