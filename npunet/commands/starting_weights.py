"""The network that training starts with: drawn at random, or with the weights of another one (--load)."""

from npunet.commands.choose_cutting import first_cutting
from npunet.commands.train_options import grey_statistics
from npunet.errors import InputError
from npunet.files import checkpoint
from npunet.unet import UNet
from npunet.variants import VARIANTS

FRESH_RATE = 1e-3  # the default of --learning-rate


def new_network(options, dataset, training, loaded=None):
    """The untrained network of the options, or with the weights of `loaded`; it must fit the data.

    Batch normalisation centres the maps itself, so such networks see the grey values as they are, which PyTorch's files
    expect.
    """
    n_classes = options["classes"] or dataset.n_classes
    if options["classes"] is None and loaded and loaded.n_labels == dataset.n_classes:
        n_classes = loaded.n_classes  # one logit for two classes stays one
    if max(n_classes, 2) < dataset.n_classes:
        raise InputError(
            f"--classes {n_classes}, but the masks hold {dataset.n_classes} classes; give --classes {dataset.n_classes}"
        )
    mean, std = (0.0, 1.0) if VARIANTS[options["variant"]].norm else grey_statistics(training.samples)
    if loaded and loaded.in_channels == dataset.in_channels:
        mean, std = loaded.input_mean, loaded.input_std
    net = UNet(
        dataset.in_channels,
        n_classes,
        options["base_channels"],
        options["depth"],
        variant=options["variant"],
        bilinear=options["bilinear"],
        dropout=options["dropout"],
        device=options["device"],
        seed=options["seed"],
        input_mean=mean,
        input_std=std,
        recompute=options["recompute"],
    )
    net.mask_values = list(dataset.class_values) if dataset.class_values else None
    net.grey_rule = dataset.grey_rule
    if dataset.kind == "instances":
        net.cutting = first_cutting(training.samples, options["head"]).as_dict()
    if loaded:
        take_over(net, loaded, options)
    return net


def take_over(net, loaded, options):
    """Give `net` the weights of `loaded`. Where channels or classes differ the first or last layer keeps its own.

    What is done is printed, in the user's words.
    """
    entries, path = checkpoint.network_entries(loaded), options["load"]
    first = next(iter(net.layers))
    new = {}
    if loaded.in_channels != net.in_channels:
        new[first] = f"the model is for {colours(loaded)}, your images are {colours(net)}"
    if loaded.n_classes != net.n_classes:
        new["output"] = f"the model tells {loaded.n_labels} classes apart, your masks hold {net.n_labels}"
    for layer, why in new.items():
        own = {name: value for name, value in checkpoint.network_entries(net).items() if f"/{layer}." in name}
        entries |= own
        print(f"--load {path}: {why}; the {'last' if layer == 'output' else 'first'} layer begins anew")
    checkpoint.fill_network(net, entries, path)
    if options["learning_rate"] >= FRESH_RATE:
        print(
            f"--load {path}: --learning-rate {options['learning_rate']:g} is meant for fresh weights; a tenth of it "
            "keeps more of what the model knows"
        )


def colours(net):
    """What kind of image a network sees."""
    return {1: "grey images", 3: "RGB images"}.get(net.in_channels, f"images of {net.in_channels} channels")
