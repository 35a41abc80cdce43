"""The network that training starts with: drawn at random, or with the weights of another one (--load)."""

from npunet.commands.choose_cutting import first_cutting
from npunet.commands.train_options import grey_statistics
from npunet.errors import InputError
from npunet.files import checkpoint
from npunet.unet import VARIANTS, UNet


def new_network(options, dataset, training, loaded=None):
    """The untrained network of the options, or with the weights of `loaded`; it must fit the data.

    Batch normalisation centres the maps itself, so such networks see the grey values as they are, which PyTorch's files
    expect.
    """
    n_classes = options["classes"] or (loaded.n_classes if loaded else dataset.n_classes)
    if max(n_classes, 2) < dataset.n_classes:
        raise InputError(
            f"--classes {n_classes}, but the masks hold {dataset.n_classes} classes; give --classes {dataset.n_classes}"
        )
    mean, std = (0.0, 1.0) if VARIANTS[options["variant"]].batch_norm else grey_statistics(training.samples)
    if loaded:
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
    if dataset.kind == "instances":
        net.cutting = first_cutting(training.samples, options["head"]).as_dict()
    if loaded:
        checkpoint.fill_network(net, checkpoint.network_entries(loaded), options["load"])
    return net
