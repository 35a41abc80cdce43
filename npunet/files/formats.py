"""Which file format a network's file name asks for, and who reads and writes it: docs/formats.md."""

from pathlib import Path

from npunet.errors import InputError
from npunet.files import checkpoint, onnx_unet, pytorch_unet

WRITERS = {".onnx": onnx_unet.save} | dict.fromkeys(pytorch_unet.SUFFIXES, pytorch_unet.save)
READERS = dict.fromkeys(pytorch_unet.SUFFIXES, pytorch_unet.load)
REFUSED = {
    ".onnx": "npunet writes ONNX files and does not read them; load the .npz or .pth that it was made from",
}


def save(net, path):
    """Write a network in the format of its suffix; .npz for any other."""
    WRITERS.get(Path(path).suffix.lower(), checkpoint.save_network)(net, path)


def load(network_class, path, device="cpu"):
    """The network in a file, in the format of its suffix; .npz for any other. Raises InputError."""
    suffix = Path(path).suffix.lower()
    if suffix in REFUSED:
        raise InputError(f"{path}: {REFUSED[suffix]}")
    return READERS.get(suffix, checkpoint.load_network)(network_class, path, device)
