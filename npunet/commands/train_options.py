"""The options of npunet.train: their defaults, what is refused, and what the other parts make of them.

Three of them follow the data unless they are given. The border term of Eq. 2 (--w0) is the paper's 10 where masks
number the instances: it forces gaps between cells that touch; and there must be gaps to force, so cells that touch in
the masks give up a pixel each (--gap, see `weight_map.with_gaps`). Where masks mark classes, such as membranes
drawn at their width, both are 0. Class weights w_c (--class-balance) are off. Both together make a membrane pixel count
some ten times as much as one of the interior, so that probabilities lean to membrane and a threshold of 1/2 is no
longer the right one: on ISBI 2012 V_rand at its best threshold rises from 0.961 to 0.972, and pixel accuracy at 1/2
falls from 0.924 to 0.887 (benchmarks/results/isbi2012/report.md). npunet.experiments turns both on there.
"""

import argparse
import functools

import numpy as np

from npunet import geometry
from npunet.augmentation import Settings
from npunet.commands import ranges
from npunet.commands.cli import PRECISION_HELP, TF32_HELP, VARIANT_HELP, program, tile_size
from npunet.commands.grey_values import NORMALISE
from npunet.datasets.heads import HEADS
from npunet.errors import InputError
from npunet.gpu.cublas import PRECISIONS
from npunet.training import LOSSES, OPTIMIZERS, SCHEDULES, Recipe
from npunet.variants import VARIANTS
from npunet.weight_map import class_balance

CHANGEABLE_ON_RESUME = ("data", "steps", "batch", "device", "threads", "evaluate_every", "recompute")
CHANGEABLE_ON_RESUME += ("tf32", "precision", "graph")
DEFAULTS = dict(
    data="synthetic",
    out="runs/unet",
    labels="auto",
    held_out=None,
    base_channels=64,
    depth=4,
    variant="paper",
    dropout=0.5,
    device="cpu",
    threads=None,
    evaluate_every=None,
    bilinear=False,
    classes=None,
    scale=1.0,
    normalise="file",
    load=None,
    epochs=None,
    recompute=False,
    tf32=False,
    precision="float32",
    graph=False,
    minutes=None,
    gap=None,
    head="mask",
    patience=None,
)
LOADED = ("variant", "bilinear", "base_channels", "depth")  # options that a file of weights decides
DEFAULTS |= {name: field.default for name, field in Recipe.__dataclass_fields__.items()}
AUGMENTATION = ("rotation", "mirror", "elastic", "grey", "w0", "sigma")
DEFAULTS |= {name: getattr(Settings(), name) for name in AUGMENTATION} | {"w0": None, "class_balance": False}


def recipe_of(options):
    return Recipe(**{name: options[name] for name in Recipe.__dataclass_fields__})


def augmentation_settings(options, dataset):
    """The Settings of the options; w_c of Eq. 2 is counted over all training images."""
    values = {name: options[name] for name in AUGMENTATION}
    if values["w0"] is None:
        values["w0"] = Settings().w0 if has_gaps(options, dataset) else 0.0
    class_weights = None
    if options["class_balance"]:
        balance = class_balance(
            [sample.labels for sample in dataset.samples],
            dataset.n_classes,
            [sample.ignore for sample in dataset.samples],
        )
        class_weights = tuple(map(float, balance))
    return Settings(class_weights=class_weights, **values)


def gap_of(options, dataset):
    """Pixels that each of two touching cells gives up for training."""
    return options["gap"] if options["gap"] is not None else int(has_gaps(options, dataset))


def has_gaps(options, dataset):
    """Whether a gap of background is what parts touching cells: other heads have classes of their own for that."""
    return dataset.kind == "instances" and options["head"] == "mask"


def grey_statistics(samples):
    """Mean and standard deviation of all grey values of the training images, for the network's input_mean and
    input_std.
    """
    values = np.concatenate([sample.image.ravel() for sample in samples])
    return float(values.mean(dtype=np.float64)), max(float(values.std(dtype=np.float64)), 1e-3)


CHOICES = {
    "variant": tuple(VARIANTS),
    "optimizer": OPTIMIZERS,
    "loss": LOSSES,
    "schedule": SCHEDULES,
    "labels": ("auto", "binary", "instances", "classes"),
    "head": tuple(HEADS),
    "normalise": NORMALISE,
    "device": ("cpu", "gpu", "auto"),
    "precision": PRECISIONS,
}


def check(options):
    """Refuse options that cannot work, before anything is read or written. Raises InputError."""
    ranges.check(options)
    for name, known in CHOICES.items():
        if options[name] not in known:
            raise InputError(f"--{name} is {options[name]!r}; expected one of {', '.join(known)}")
    if options["tile"] == "auto":
        return
    if VARIANTS[options["variant"]].padding:
        geometry.padded_output_size(options["tile"], options["depth"])
    else:
        geometry.output_size(options["tile"], options["depth"])


def stored(config, path):
    """The options of a run, all of them, from its config.json at `path`. Raises InputError for what cannot work: the
    file may be a stranger's.
    """
    ranges.check_stored(config["options"], DEFAULTS, path)
    options = DEFAULTS | config["options"]
    check(options)
    return options


def parser():
    """The options of npunet.train; what is not given is left out, see DEFAULTS."""
    parse = argparse.ArgumentParser(
        prog=program("train"),
        description="Train a U-Net on a folder of images and masks, a pair of TIFF stacks, or synthetic sections.",
        argument_default=argparse.SUPPRESS,
    )
    for title, add in (
        ("the run", add_run),
        ("the network", add_network),
        ("the training recipe", add_recipe),
        ("augmentation and weight map", add_augmentation),
    ):
        add(functools.partial(_add_option, parse.add_argument_group(title)))
    return parse


def _add_option(group, name, help, **keywords):
    default = DEFAULTS.get(name.replace("-", "_"))
    group.add_argument(f"--{name}", help=help + (f" (default {default})" if default is not None else ""), **keywords)


def add_run(option):
    """Where it comes from and goes to, how long it takes, and on what it runs."""
    option(
        "data",
        "a folder with images/ and masks/, one with train-volume.tif and train-labels.tif, a named set, or synthetic",
    )
    option("labels", "what the masks hold", choices=CHOICES["labels"])
    option(
        "normalise",
        "how files of more than 8 bits become 0..1: each by its own percentiles (file), all by those of the training "
        "files (training), or by the largest value of their type (type); 8 bits are always divided by 255",
        choices=CHOICES["normalise"],
    )
    option("held-out", "how many images to hold out, the last of the set (default a sixth)", type=int)
    option("out", "folder for everything the run writes")
    option("resume", "go on with the run in this folder, to the same bits as if it had not been stopped", metavar="DIR")
    option(
        "load",
        "start from the weights of this .npz, .pth, .safetensors or .caffemodel file; it decides variant and sizes too",
        metavar="FILE",
    )
    option("steps", "training steps", type=int)
    option(
        "minutes",
        "instead of --steps: as many as fit into this time, found by timing the first few. After that their number is "
        "fixed, so a machine that becomes busier takes longer. config.json holds the number; --steps NUMBER repeats "
        "the run",
        type=float,
    )
    option("epochs", "instead of --steps: one epoch is as many tiles as there are training images", type=int)
    option(
        "patience",
        "stop early, after this number of evaluations in a row without a new best held-out mean IoU (default never)",
        type=int,
    )
    option("evaluate-every", "steps between evaluations and checkpoints (default a tenth of the steps)", type=int)
    option("seed", "of the random numbers: weights, drop-out and augmentation", type=int)
    option("device", "where to compute", choices=CHOICES["device"])
    option("tf32", TF32_HELP, action="store_true")
    option("precision", PRECISION_HELP, choices=CHOICES["precision"])
    option("graph", "GPU: record the step once and replay it as one CUDA graph; with tf32 or bf16", action="store_true")
    option("threads", "CPU threads (default one a core)", type=int)


def add_network(option):
    """Which U-Net, and of what size."""
    option("variant", VARIANT_HELP, choices=CHOICES["variant"])
    option("bilinear", "bilinear upsampling (variant pytorch-unet)", action="store_true")
    option("base-channels", "channels of the first level; 64 is the paper's network", type=int)
    option("depth", "number of poolings", type=int)
    option("classes", "output channels; 1 for two classes by a sigmoid (default as many as the masks hold)", type=int)
    option(
        "head",
        "what the classes are where masks number the cells: mask, cell or not (the paper's); border, a class for the "
        "outer pixels of a cell; depth, three classes of depth",
        choices=CHOICES["head"],
    )
    option("dropout", "drop-out rate at the end of the contracting path", type=float)
    option("recompute", "compute feature maps again in the backward pass: less memory, more time", action="store_true")


def add_recipe(option):
    """Tiles, energy and optimiser (§3)."""
    option(
        "tile",
        "side of the input tile in pixels; valid are 188, 204, 220, .. with --depth 4, any with padded variants; auto: "
        "the smallest whose output covers the images, or the largest that fits into the memory. Without it auto, but "
        "at most 572 (512 with padded variants)",
        type=tile_size,
        metavar="TILE|auto",
    )
    option("batch", "tiles a step", type=int)
    option("scale", "make images and masks smaller by this factor", type=float)
    option("loss", "what is minimised", choices=CHOICES["loss"])
    option("optimizer", "which optimiser; sgd is the paper's", choices=CHOICES["optimizer"])
    option("learning-rate", "peak of the schedule", type=float)
    option(
        "schedule",
        "of the learning rate after the warm-up. cosine: down to 0 along half a cosine; plateau: down to a tenth when "
        "the held-out Dice score stops growing",
        choices=SCHEDULES,
    )
    option("warmup", "steps until the learning rate is at its peak", type=int)
    option("momentum", "momentum of stochastic gradient descent and RMSprop", type=float)
    option("weight-decay", "pull of the parameters towards 0", type=float)
    option("clip", "largest norm of the gradient, 0 for no limit", type=float)


def add_augmentation(option):
    """What is done to each tile (§3.1), and what its pixels weigh (Eq. 2)."""
    option("rotation", "largest angle of a random rotation, degrees", type=float)
    option("mirror", "mirror at random", action=argparse.BooleanOptionalAction)
    option("elastic", "standard deviation of the elastic displacements, pixels; 0 for none", type=float)
    option("grey", "strength of the grey-value variation; 0 for none", type=float)
    option(
        "w0",
        "height of the separation border in the weight map of Eq. 2 (default 10 for instance masks, otherwise 0)",
        type=float,
    )
    option("sigma", "width of the separation border in pixels", type=float)
    option(
        "gap",
        "pixels that each of two touching cells gives up for a border between them (default 1 for instance masks, "
        "otherwise 0)",
        type=int,
    )
    option("class-balance", "weigh the classes by w_c of Eq. 2", action=argparse.BooleanOptionalAction)
