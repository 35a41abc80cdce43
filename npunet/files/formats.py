"""Which file format a network's file name asks for, and who reads and writes it: docs/formats.md."""

from pathlib import Path

from npunet.errors import InputError
from npunet.files import caffe_unet, checkpoint, onnx_unet, pytorch_unet

WRITERS = {".onnx": onnx_unet.save} | dict.fromkeys(pytorch_unet.SUFFIXES, pytorch_unet.save)
READERS = dict.fromkeys(pytorch_unet.SUFFIXES, pytorch_unet.load) | dict.fromkeys(caffe_unet.SUFFIXES, caffe_unet.load)
HDF5 = (
    "HDF5 weights are not read: the networks of the Fiji plugin (.caffemodel.h5) have leaky ReLUs, the Keras U-Nets "
    "nearest-neighbour upsampling, and no variant has either; give .npz, .pth, .safetensors or .caffemodel"
)
NOT_READ = {
    ".onnx": "npunet writes ONNX files and does not read them; load the .npz or .pth that it was made from",
} | dict.fromkeys((".h5", ".hdf5", ".keras"), HDF5)
NOT_WRITTEN = (".caffemodel", ".h5", ".hdf5", ".keras")


def save(net, path):
    """Write a network in the format of its suffix; .npz for any other."""
    suffix = Path(path).suffix.lower()
    if suffix in NOT_WRITTEN:
        raise InputError(f"{path}: npunet does not write {suffix} files; give .npz, .onnx, .pth or .safetensors")
    WRITERS.get(suffix, checkpoint.save_network)(net, path)


def load(network_class, path, device="cpu"):
    """The network in a file, in the format of its suffix; .npz for any other. Raises InputError."""
    suffix = Path(path).suffix.lower()
    if suffix in NOT_READ:
        raise InputError(f"{path}: {NOT_READ[suffix]}")
    return READERS.get(suffix, checkpoint.load_network)(network_class, path, device)
