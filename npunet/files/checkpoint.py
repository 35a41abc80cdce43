"""Checkpoints: one .npz file, without pickles, that is there whole or not at all.

Entries: "header" is JSON text (configuration of the network and whatever else the writer adds);
"parameter/NAME" and "statistic/NAME" are the network's arrays; training adds "optimizer/...". A crash leaves the file
that was there before as it was (`npunet.files.whole_file`).
"""

import json
import os
import struct
import zipfile
import zlib

import numpy as np

from npunet.errors import InputError
from npunet.files.whole_file import atomic_write
from npunet.machine.backend import to_cpu, to_device

FORMAT = "npunet checkpoint 1"

KNOWN = ("mask_values", "cutting")  # what a network knows of its data beside its weights, if it does

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
)


def save(path, entries, **header):
    """Write arrays and a header. entries: {name: array}, with "header" holding a dict; ``header`` is added to it.

    Raises InputError if the file cannot be written; whatever goes wrong, a file that was there stays as it was.
    """
    entries = dict(entries)
    entries["header"] = np.array(json.dumps({"format": FORMAT} | entries["header"] | header))
    with atomic_write(path) as file:
        np.savez(file, **entries)


def load(path):
    """The entries of a checkpoint, "header" as a dict.

    Raises InputError if it is missing, cut short or something else.
    """
    try:
        with open(path, "rb") as opened:  # np.load would leave a file open that it cannot read
            zipped = b"PK".startswith(
                opened.read(2)
            )  # np.load takes anything else for a pickle, and advises to trust it
            opened.seek(0)
            file = np.load(opened, allow_pickle=False) if zipped else None
            if file is None or "header" not in file.files:
                raise InputError(
                    f"{path} is not an npunet checkpoint; expected a .npz file that npunet.train or UNet.save wrote"
                )
            entries = {name: file[name] for name in file.files}
        entries["header"] = json.loads(str(entries["header"]))
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
        raise InputError(
            f"{path} cannot be read as a checkpoint ({reason}); "
            "it is cut short, damaged or of another kind; use another copy"
        ) from None
    if not isinstance(entries["header"], dict) or entries["header"].get("format") != FORMAT:
        raise InputError(f"{path} is not an npunet checkpoint of this version; expected format {FORMAT!r}")
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
    try:
        net = network_class(**entries["header"]["network"], device=device)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: its header does not describe a network ({error}); expected a file that UNet.save wrote"
        ) from None
    fill_network(net, entries, path)
    for name in KNOWN:
        setattr(net, name, entries["header"].get(name))
    return net


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
