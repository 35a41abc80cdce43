"""How grey values that are not of 8 bits are scaled (--normalise): chosen at training, kept in the network's file.

file        each file by its own percentiles: exposure does not matter, and the brightness of one file against another
            is lost. A new file whose values span less than a quarter of what the narrowest training file spanned is
            not stretched further, or the noise of an empty field would look like cells
training    all files by one range, from the lowest to the highest percentile of the training files: brightness means
            the same everywhere, as with 8 bits; what is brighter than any training file is clipped
type        integers by the largest value of their type, 65535 for 16 bits; floats are taken as they are, in 0..1
"""

from npunet import datasets
from npunet.datasets.dataset import HELD_OUT
from npunet.errors import InputError
from npunet.files.images import GREY_RULES, GreyRule

NORMALISE = GREY_RULES
LOOKED_AT = 1024  # pixels of a side


def load_to_train(options):
    """The data set of a training run, scaled as --normalise says by what its training files hold.

    The held-out files take no part in a range, but of a stack that holds both one range is taken, as everywhere.
    """
    how = dict(labels=options["labels"])
    dataset = datasets.load(options["data"], **how)
    held_out = options["held_out"] or HELD_OUT
    if held_out >= len(dataset) > 1:
        raise InputError(f"--held-out is {held_out}, of {len(dataset)} images; expected 1 to {len(dataset) - 1}")
    training, _ = dataset.split(held_out)
    ranges = {sample.stretched for sample in training.samples if sample.stretched}
    rule = GreyRule.of_training(options["normalise"], ranges)
    if ranges and rule.by != "file":
        dataset = datasets.load(options["data"], **how, rule=rule)
    dataset.grey_rule = rule.as_dict() if ranges else None
    return dataset


def stranger(net, stack):
    """How the grey values of a file differ from those that a network was trained on, in one line; None if they do not.

    The middle of the first page is compared with the mean and the standard deviation that the network's file keeps.
    """
    if stack.held_back:
        return (
            f"{stack.path}: its grey values span less than a quarter of what those of the training files spanned; they "
            f"are not stretched further, so that the noise of an empty field does not look like cells"
        )
    height, width = stack.shape[1:3]
    top, left = max(0, height - LOOKED_AT) // 2, max(0, width - LOOKED_AT) // 2
    part = stack.window(0, top, left, min(height, LOOKED_AT), min(width, LOOKED_AT))
    mean, std, usual, spread = float(part.mean()), float(part.std()), net.input_mean, net.input_std
    if (usual, spread) == (0.0, 1.0):  # batch normalisation: nothing is known
        return None
    if std < spread / 5 or abs(mean - usual) > 3 * spread:
        return (
            f"{stack.path}: its grey values have a mean of {mean:.2f} and a standard deviation of {std:.2f}, those of "
            f"the training images {usual:.2f} and {spread:.2f}; if the mask is empty or full, that is why"
        )
    return None


def rule_of(net):
    """The rule by which a network's training images were scaled."""
    return GreyRule.of(net.grey_rule)
