"""Writing a .pth that `torch.load(weights_only=True)` reads: a zip archive with a pickle written by hand.

`pickle.dump` cannot name PyTorch's functions without PyTorch, but the few instructions needed are quickly put down:
each branch of `_encode` is the mirror image of a branch in `npunet.files.torch_files.unpickler`.
"""

import math
import pickle  # only for the instructions' names
import struct
import zipfile

import numpy as np

from npunet.errors import InputError
from npunet.files.torch_files.tensors import FILE_DTYPES, STORAGE_DTYPES, shown
from npunet.files.whole_file import atomic_write

ALIGNMENT = 64  # bytes; lets PyTorch map a record into memory and use it in place
MAX_DEPTH = 50
WRITABLE = [dtype for dtype in FILE_DTYPES if dtype != "bfloat16"]  # NumPy has none
STORAGE_CLASSES = {dtype: name for name, dtype in STORAGE_DTYPES.items()}


def save_torch(path, tensors, extra=None):
    """Write named arrays as one state_dict in PyTorch's zip format, for torch.load(path, weights_only=True).

    Parameters
    ----------
    path : str or Path
        The file appears whole or not at all (`atomic_write`).
    tensors : dict[str, numpy.ndarray]
        In PyTorch's layout; float16, float32, float64, int8 .. int64, uint8 or bool. They become an OrderedDict.
    extra : dict, optional
        Further entries of the same OrderedDict, as milesial's code keeps "mask_values": None, bool, int, float, str,
        list, tuple, dict and arrays, nested at will.

    Raises InputError for what cannot be written, naming it; the bytes depend only on the arguments.
    """
    extra = extra or {}
    if twice := tensors.keys() & extra.keys():
        raise InputError(f"{path}: {shown(min(twice))} is both a tensor and an extra entry; rename one")
    blocks = []
    entries = {name: np.asarray(array) for name, array in tensors.items()} | extra
    items = b"".join(_encode(name, "a name", blocks) + _encode(value, name, blocks) for name, value in entries.items())
    program = pickle.PROTO + b"\x02" + _ORDERED_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.STOP
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write_record(archive, file, "data.pkl", program)
        _write_record(archive, file, ".format_version", b"1")
        _write_record(archive, file, ".storage_alignment", str(ALIGNMENT).encode())
        _write_record(archive, file, "byteorder", b"little")
        for key, block in enumerate(blocks):
            _write_record(archive, file, f"data/{key}", block)
        _write_record(archive, file, "version", b"3\n")


def file_array(name, array):
    """`array` -> its PyTorch dtype and its numbers as a 1-D array of bytes, little-endian and row-major."""
    array = np.asarray(array)
    dtype = array.dtype.name
    if dtype not in WRITABLE:
        raise InputError(f"tensor {shown(name)} has dtype {dtype}; expected one of {', '.join(WRITABLE)}: convert it")
    return dtype, np.ascontiguousarray(array, FILE_DTYPES[dtype]).reshape(-1).view(np.uint8)


def _write_record(archive, file, name, content):
    """One uncompressed record whose content starts at a multiple of `ALIGNMENT`;
    the padding is an extra field named FB.
    """
    info = zipfile.ZipInfo(f"archive/{name}")  # its date stays 1980: same content, same bytes
    header_size = 30 + len(info.filename) + 4  # local header, name, head of the extra field
    padding = -(file.tell() + header_size) % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, content)


_ORDERED_DICT = pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE


def _encode(value, name, blocks, depth=0):
    """The instructions that push `value`; arrays go to `blocks` and are pushed as tensors.

    `name` is for messages.
    """
    if depth > MAX_DEPTH:
        raise InputError(f"entry {shown(name)} is nested more than {MAX_DEPTH} levels deep; flatten it")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return pickle.NONE
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    if isinstance(value, int) and -1 << 31 <= value < 1 << 31:
        return pickle.BININT + struct.pack("<i", value)
    if isinstance(value, int) and -1 << 63 <= value < 1 << 63:
        return pickle.LONG1 + b"\x08" + value.to_bytes(8, "little", signed=True)
    if isinstance(value, float):
        return pickle.BINFLOAT + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
    if isinstance(value, (list, tuple)):
        items = b"".join(_encode(item, name, blocks, depth + 1) for item in value)
        if isinstance(value, list):
            return pickle.EMPTY_LIST + pickle.MARK + items + pickle.APPENDS
        return pickle.MARK + items + pickle.TUPLE
    if isinstance(value, dict) and all(isinstance(key, (str, int)) for key in value):
        items = b"".join(_encode(part, name, blocks, depth + 1) for item in value.items() for part in item)
        return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
    if isinstance(value, np.ndarray):
        return _encode_tensor(value, name, blocks)
    raise InputError(
        f"entry {shown(name)} holds a {type(value).__name__}; "
        "expected numbers, text, lists, tuples, dicts of them, or arrays"
    )


def _encode_tensor(array, name, blocks):
    """_rebuild_tensor_v2(storage, offset 0, shape, strides, requires_grad False, no hooks)."""
    dtype, block = file_array(name, array)
    strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))  # row-major, in elements
    key = str(len(blocks))
    blocks.append(block)
    storage_class = f"torch\n{STORAGE_CLASSES[dtype]}\n".encode()
    storage = (
        pickle.MARK
        + _encode("storage", name, blocks)
        + pickle.GLOBAL
        + storage_class
        + _encode(key, name, blocks)
        + _encode("cpu", name, blocks)
        + _encode(array.size, name, blocks)
        + pickle.TUPLE
        + pickle.BINPERSID
    )
    return (
        pickle.GLOBAL
        + b"torch._utils\n_rebuild_tensor_v2\n"
        + pickle.MARK
        + storage
        + _encode(0, name, blocks)
        + _encode(array.shape, name, blocks)
        + _encode(strides, name, blocks)
        + pickle.NEWFALSE
        + _ORDERED_DICT
        + pickle.TUPLE
        + pickle.REDUCE
    )
