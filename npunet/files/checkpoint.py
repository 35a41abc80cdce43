"""Checkpoints: one .npz file, without pickles, that is there whole or not at all.

Entries: "header" is JSON text (configuration of the network and whatever else the writer adds);
"parameter/NAME" and "statistic/NAME" are the network's arrays; training adds "optimizer/...". A crash leaves the file
that was there before as it was (`npunet.files.whole_file`).
"""

import json
import os
import struct
import tokenize
import zipfile
import zlib

import numpy as np

from npunet.errors import InputError, NoDevice
from npunet.files import schema
from npunet.files.images import GreyRule
from npunet.files.whole_file import atomic_write
from npunet.machine.backend import to_cpu, to_device

FORMAT = "npunet checkpoint 1"
LARGEST_EXPANSION = 50  # of the bytes in the file; it is not compressed when npunet writes it

# What a network knows of its training data beside its weights, if it does: the value of each class in the masks, a
# list; how its cells are cut out (npunet.instances) and its grey values scaled (files.images.GreyRule), dicts.
KNOWN = ("mask_values", "cutting", "grey_rule")

# What zipfile, zlib, json and NumPy raise for files that are damaged or of another kind.
UNREADABLE = (
    OSError,
    EOFError,
    MemoryError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    SyntaxError,
    RuntimeError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
)


def save(path, entries, **header):
    """Write arrays and a header. entries: {name: array}, with "header" holding a dict; `header` is added to it.

    Raises InputError if the file cannot be written; whatever goes wrong, a file that was there stays as it was.
    """
    entries = dict(entries)
    entries["header"] = np.array(json.dumps({"format": FORMAT} | entries["header"] | header))
    with atomic_write(path) as file:
        np.savez(file, **entries)


def load(path):
    """The entries of a checkpoint, "header" as a dict.

    Raises InputError if it is missing, cut short or something else, or holds numbers that are not finite.
    """
    try:
        regular = os.path.isfile(path) or not os.path.exists(path) or os.path.isdir(path)
        if not regular:  # a pipe would be waited for, without end
            raise InputError(f"{path} is no regular file; expected a .npz file that npunet.train or UNet.save wrote")
        with open(path, "rb") as opened:  # np.load would leave a file open that it cannot read
            entries = _entries(opened, path)
    except IsADirectoryError:
        raise InputError(
            f"{path} is a folder; expected a checkpoint in it, such as {os.path.join(path, 'best.npz')}"
        ) from None
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected a .npz file that npunet.train or UNet.save wrote") from None
    except InputError:
        raise
    except UNREADABLE as error:
        reason = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        reason = reason.partition(" If you trust")[0]  # NumPy's advice to unpickle what was not to be pickled
        raise InputError(
            f"{path} cannot be read as a checkpoint ({reason}); "
            "it is cut short, damaged or of another kind; use another copy"
        ) from None
    if not isinstance(entries["header"], dict) or entries["header"].get("format") != FORMAT:
        raise InputError(f"{path} is not an npunet checkpoint of this version; expected format {FORMAT!r}")
    for name, value in entries.items():
        if name != "header" and value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InputError(
                f"{path}: {name.partition('/')[2]} holds values that are not finite: training had gone wrong before it "
                f"was written; use an earlier checkpoint"
            )
    return entries


def _entries(opened, path):
    """{name: array} of an open file, "header" as what its JSON says."""
    zipped = b"PK".startswith(opened.read(2))  # np.load takes anything else for a pickle, and advises to trust it
    opened.seek(0)
    file = np.load(opened, allow_pickle=False) if zipped else None
    if file is None or "header" not in file.files:
        raise InputError(
            f"{path} is not an npunet checkpoint; expected a .npz file that npunet.train or UNet.save wrote"
        )
    declared = sum(entry.file_size for entry in file.zip.infolist())
    size = os.fstat(opened.fileno()).st_size
    if declared > LARGEST_EXPANSION * size:
        raise InputError(f"{path} declares {declared:,} bytes in a file of {size:,}; it is damaged or made to do harm")
    entries = {name: file[name] for name in file.files}
    entries["header"] = json.loads(str(entries["header"]))
    for name, value in entries.items():
        if name != "header" and (not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub"):
            raise InputError(f"{path}: entry {name} is no array of numbers; the file is damaged, use another copy")
    return entries


def network_entries(net):
    """What `save` needs of a network:
    header with its configuration, and its parameters and statistics as NumPy arrays.
    """
    entries = {name: to_cpu(array.value) for name, array in _arrays(net).items()}
    known = {name: getattr(net, name) for name in KNOWN if getattr(net, name)}
    return {"header": {"network": net.config} | known} | entries


def save_network(net, path):
    """Write a network alone."""
    save(path, network_entries(net))


def load_network(network_class, path, device):
    """The network in a checkpoint."""
    return restore_network(network_class, load(path), path, device)


def restore_network(network_class, entries, path, device):
    """Build the network that the entries describe and fill in its parameters."""
    network = entries["header"].get("network")
    check_weights(network, entries, path)
    net = build(network_class, network, path, device=device)
    fill_network(net, entries, path)
    for name in KNOWN:
        setattr(net, name, entries["header"].get(name))
    net.mask_values = _mask_values(net.mask_values, net, path)
    if found := schema.problem(net.grey_rule, schema.GREY_RULE, "grey_rule"):
        raise InputError(f"{path}: {found}; the file is damaged, use another copy")
    try:
        GreyRule.of(net.grey_rule)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return net


def build(network_class, network, path, **how):
    """The network of a configuration that was read from the file `path`. Raises InputError if it describes none."""
    try:
        return network_class(**network, **how)
    except NoDevice:
        raise
    except (InputError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, MemoryError) and how.get("device") == "gpu":
            raise NoDevice(  # the weights are as large as the header says, see check_weights
                f"--device gpu: out of memory for the weights in {path}; end other programs (nvidia-smi lists them), "
                "or give --device cpu"
            ) from None
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: its header does not describe a network ({reason}); expected a file that npunet wrote"
        ) from None


def check_weights(network, entries, path):
    """Raises InputError if the header describes a network of another size than the weights that are there.

    Building it would draw all its weights before their shapes could be compared. At the bottom a U-Net has 9 weights
    for each pair of channels at least.
    """
    if not isinstance(network, dict):
        raise InputError(f"{path}: its header does not describe a network; expected a file that npunet wrote")
    there = sum(value.size for name, value in entries.items() if name.startswith("parameter/"))
    sizes = [network.get(name, default) for name, default in (("base_channels", 64), ("depth", 4))]
    ends = [network.get(name, default) for name, default in (("in_channels", 1), ("n_classes", 2))]
    if all(isinstance(number, int) and 0 < number for number in sizes + ends):
        least = 9 * (sizes[0] << max(0, min(sizes[1], 60) - 1)) ** 2 + sizes[0] * sum(ends)
        if least > there:
            raise InputError(
                f"{path}: its header describes a network of at least {least:,} weights, but {there:,} are there"
            )


def _mask_values(values, net, path):
    """The checked value of each class in the masks: None, or a whole number or a colour for each class."""
    colour, number = [schema.Number(0, 255, whole=True)], schema.Number(0, 2**40, whole=True)
    if values is None:
        return None
    numbers = isinstance(values, list) and all(number.fits(value) for value in values)
    colours = isinstance(values, list) and all(not schema.problem(v, colour) and len(v) == 3 for v in values)
    if not (numbers or colours) or len(values) != net.n_labels:
        raise InputError(
            f"{path}: mask_values are {schema.shown(values)}; expected a number or a colour for each of {net.n_labels} "
            f"classes"
        )
    return values


def fill_network(net, entries, path):
    """Replace the parameters and statistics of `net` by those in the entries.

    Raises InputError that names those that are missing, unexpected or of another shape.
    """
    found = {name: value for name, value in entries.items() if name.startswith(("parameter/", "statistic/"))}
    arrays = _arrays(net)

    def short(name):
        return name.partition("/")[2]

    wrong = [f"{short(name)} is missing" for name in arrays if name not in found]
    wrong += [f"{short(name)} is unexpected" for name in found if name not in arrays]
    wrong += [
        f"{short(name)} has shape {found[name].shape} instead of {array.value.shape}"
        for name, array in arrays.items()
        if name in found and found[name].shape != array.value.shape
    ]
    if wrong:
        raise InputError(f"{path} does not fit the network: {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}")
    for name, array in arrays.items():
        array.value = to_device(found[name].astype(array.value.dtype, copy=False), net.device)


def _arrays(net):
    """Everything of a network that is saved: {entry: Parameter or Statistic}."""
    return {f"parameter/{name}": parameter for name, parameter in net.parameters.items()} | {
        f"statistic/{name}": statistic for name, statistic in net.statistics.items()
    }
