"""How grey values that are not of 8 bits are scaled (--normalise): chosen at training, kept in the network's file.

file        each file by its own percentiles: exposure does not matter, and the brightness of one file against another
            is lost. A new file whose values span less than a quarter of what the narrowest training file spanned is
            not stretched further, or the noise of an empty field would look like cells
training    all files by one range, from the lowest to the highest percentile of the training files: brightness means
            the same everywhere, as with 8 bits; what is brighter than any training file is clipped
type        integers by the largest value of their type, 65535 for 16 bits; floats are taken as they are, in 0..1
"""

from npunet import datasets
from npunet.errors import InputError
from npunet.files.images import GREY_RULES, GreyRule

NORMALISE = GREY_RULES


def load_to_train(options):
    """The data set of a training run, scaled as --normalise says by what its training files hold.

    The held-out files take no part in a range, but of a stack that holds both one range is taken, as everywhere.
    """
    how = dict(labels=options["labels"])
    dataset = datasets.load(options["data"], **how)
    held_out = options["held_out"] or 1 / 6
    if held_out >= len(dataset) > 1:
        raise InputError(f"--held-out is {held_out}, of {len(dataset)} images; expected 1 to {len(dataset) - 1}")
    training, _ = dataset.split(held_out)
    ranges = {sample.stretched for sample in training.samples if sample.stretched}
    rule = GreyRule.of_training(options["normalise"], ranges)
    if ranges and rule.by != "file":
        dataset = datasets.load(options["data"], **how, rule=rule)
    dataset.grey_rule = rule.as_dict() if ranges else None
    return dataset


def rule_of(net):
    """The rule by which a network's training images were scaled."""
    return GreyRule.of(net.grey_rule)
