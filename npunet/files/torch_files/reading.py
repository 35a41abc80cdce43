"""Reading a weights file of PyTorch: zip archive, older stream, or safetensors; told apart by their first bytes.

The zip archive (since PyTorch 1.6) holds data.pkl, the pickle, and data/0, data/1, ..., one record a storage,
uncompressed. The stream holds five pickles one after the other (a magic number, a version, the byte order, the object,
the storages' keys) and then, in the order of those keys, each storage as its length and its numbers.
"""

import os
import zipfile
from pathlib import Path

import numpy as np

from npunet.errors import InputError
from npunet.files.torch_files.safetensors import looks_like_safetensors, read_safetensors
from npunet.files.torch_files.tensors import TensorView, decode, shown
from npunet.files.torch_files.unpickler import MAX_PICKLE, Global, unpickle

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
STREAM_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the pickle of that number
STREAM_VERSION = 1001
STATE_DICT_NAMES = ("state_dict", "model_state_dict", "model")
MAX_DEPTH = 50


def load_tensors(path):
    """Weights of the file `path` -> (tensors, extra), whatever PyTorch format it has.

    tensors : dict[str, numpy.ndarray]
        By PyTorch's names, in the file's order and PyTorch's layout, for example (C_out, C_in, kh, kw). dtypes as in
        the file, bfloat16 as float32 (exactly). The arrays are read-only, and those that share a storage share memory.
    extra : dict
        Everything else, made of None, bool, int, float, str, list, tuple, dict and arrays: entries beside the tensors
        (milesial's "mask_values") and, if the file is a checkpoint with the weights under "state_dict",
        "model_state_dict", "model" or another only dict of tensors, the entries beside that ("epoch", "optimizer").
        Safetensors: its metadata.

    No code from the file is run, and memory stays within a small multiple of the file's size. Raises InputError (one
    line, with the file's name) if it cannot be read, is damaged, or holds anything but tensors and plain containers.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError("is a folder; expected a file" if path.is_dir() else "no such file")
        with open(path, "rb") as file:
            content = _read(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return content


def _read(file, file_size):
    start = file.read(16)
    file.seek(0)
    if looks_like_safetensors(start, file_size):
        return read_safetensors(file, file_size)
    if start.startswith(b"PK"):
        value, storages, pickle_size = _read_zip(file, file_size)
    elif start.startswith(STREAM_START):
        value, storages, pickle_size = _read_stream(file, file_size)
    elif not start:
        raise InputError("is empty; get the file again")
    else:
        raise InputError(
            f"is not a file that torch.save or safetensors writes (it starts with {start!r}); "
            "expected .pth, .pt or .safetensors"
        )
    return _split(_Resolver(storages, pickle_size).resolve(value))


def _read_zip(file, file_size):
    """The zip layout -> what the pickle built, {storage key: 1-D array}, bytes of the pickle."""
    archive = _from_zip(zipfile.ZipFile, file)
    records = {info.filename: info for info in archive.infolist()}
    # torch.save compresses nothing, so that all records together are smaller than the file: no zip bomb passes here.
    if any(
        info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size for info in records.values()
    ):
        raise InputError("is a compressed zip archive; expected one from torch.save, which stores without compression")
    if sum(info.file_size for info in archive.infolist()) > file_size:
        raise InputError(
            "is a zip archive with more bytes in its records than in the file; it is damaged: get it again"
        )
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise InputError("is a zip archive without the data.pkl of torch.save; expected a PyTorch file")
    root = pickles[0].removesuffix("data.pkl")
    if root + "constants.pkl" in records:
        raise InputError("is a TorchScript archive (torch.jit.save); save net.state_dict() with torch.save instead")

    def read(name):
        if root + name not in records:
            raise InputError(f"misses its record {shown(name)}; it is cut short or damaged: get it again")
        return _from_zip(archive.read, records[root + name])

    if root + "byteorder" in records and read("byteorder") != b"little":
        raise InputError(
            "was written on a big-endian machine; expected little-endian numbers: save it again on another one"
        )
    if records[root + "data.pkl"].file_size > MAX_PICKLE:
        raise InputError(
            f"has a pickle of {records[root + 'data.pkl'].file_size:,} bytes; expected at most {MAX_PICKLE:,}"
        )
    storages, arrays = {}, {}
    value, pickle_size = unpickle(read("data.pkl"), 0, storages)
    for key, storage in storages.items():
        raw = read(f"data/{key}")
        if len(raw) < storage.n_bytes:
            raise InputError(
                f"has {len(raw):,} bytes in record data/{shown(key)}; expected {storage.n_bytes:,}: get it again"
            )
        arrays[key] = decode(raw[: storage.n_bytes], storage.dtype)
    return value, arrays, pickle_size


def _from_zip(function, *arguments):
    """Call into zipfile, which answers damaged archives with a dozen kinds of exception;
    all of them mean the same here.
    """
    try:
        return function(*arguments)
    except Exception as error:
        reason = shown(str(error).partition("\n")[0] or type(error).__name__)
        raise InputError(f"is a damaged or incomplete zip archive ({reason}); get the file again") from None


def _read_stream(file, file_size):
    """The older stream -> what the pickle built, {storage key: 1-D array}, bytes of the pickles."""
    data = file.read(MAX_PICKLE)
    storages, arrays = {}, {}
    magic, position = unpickle(data, 0, {})
    version, position = unpickle(data, position, {})
    system, position = unpickle(data, position, {})
    if magic != STREAM_MAGIC or version != STREAM_VERSION:
        raise InputError(f"has stream version {shown(version)}; expected {STREAM_VERSION}: get the file again")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise InputError("was written on a big-endian machine or is damaged; expected little-endian numbers")
    value, pickle_size = unpickle(data, position, storages)
    keys, position = unpickle(data, pickle_size, {})
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise InputError("does not list its storages; it is damaged: get it again")
    for key in keys:
        if key not in storages:
            raise InputError(f"holds storage {shown(key)}, which no tensor uses; it is damaged: get it again")
        storage = storages[key]
        file.seek(position)
        n_elements = int.from_bytes(file.read(8), "little")
        if n_elements != storage.n_elements or position + 8 + storage.n_bytes > file_size:
            raise InputError(
                f"has no {storage.n_bytes:,} bytes for storage {shown(key)}; it is cut short: get it again"
            )
        arrays[key] = decode(file.read(storage.n_bytes), storage.dtype)
        position += 8 + storage.n_bytes
    if missing := storages.keys() - arrays.keys():
        raise InputError(f"misses storage {shown(min(missing))}; it is damaged: get it again")
    return value, arrays, pickle_size


class _Resolver:
    """Writes out what the pickle built: tensors become arrays, and anything that is not plain is refused.

    Containers of a pickle may hold each other: ten lists that each hold the one before twice are a thousand when
    written out, and a list that holds itself never ends. A pickle that shares nothing has fewer entries than bytes;
    that is the limit.
    """

    def __init__(self, storages, max_entries):
        self.storages = storages
        self.n_left = max_entries

    def resolve(self, value, depth=0):
        self.n_left -= 1
        if self.n_left < 0 or depth > MAX_DEPTH:
            raise InputError(
                f"has containers within containers, more than {MAX_DEPTH} levels or many times each; "
                "save net.state_dict() alone"
            )
        if isinstance(value, TensorView):
            return value.array(self.storages[value.storage.key])
        if isinstance(value, dict):
            return {key: self.resolve(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(item, depth + 1) for item in value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        name = value.name if isinstance(value, Global) else "a storage"
        raise InputError(
            f"holds {shown(name)} itself where tensors and plain values are expected; save net.state_dict() instead"
        )


def _split(content):
    """Separate the network's tensors from everything else in a checkpoint."""
    if not isinstance(content, dict):
        raise InputError(f"holds one {type(content).__name__}; expected a dict of named tensors: save net.state_dict()")
    beside = {}
    if not _has_tensors(content):
        candidates = [name for name, value in content.items() if _has_tensors(value)]
        chosen = [name for name in STATE_DICT_NAMES if name in candidates][:1] or candidates
        if not chosen:
            raise InputError("holds no named tensors; expected a network's weights: save net.state_dict()")
        if len(chosen) > 1:
            raise InputError(
                f"holds several networks ({shown(', '.join(map(str, chosen)))}); expected one: save its state_dict()"
            )
        beside = {name: value for name, value in content.items() if name != chosen[0]}
        content = content[chosen[0]]
    tensors = {name: value for name, value in content.items() if _is_tensor(name, value)}
    extra = {name: value for name, value in content.items() if not _is_tensor(name, value)}
    return tensors, {**beside, **extra}


def _is_tensor(name, value):
    return isinstance(name, str) and isinstance(value, np.ndarray)


def _has_tensors(value):
    return isinstance(value, dict) and any(_is_tensor(name, item) for name, item in value.items())
