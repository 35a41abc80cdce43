"""The .safetensors format: a JSON table of names, dtypes, shapes and byte ranges, then the numbers. No code to run.

    8 bytes   length of the header, little-endian
    header    {"name": {"dtype": "F32", "shape": [64, 3, 3, 3], "data_offsets": [begin, end]}, ..., "__metadata__":
              {...}}
    numbers   little-endian, row-major; offsets count from here; ranges touch: no gap, no overlap
Source: https://github.com/huggingface/safetensors (README, "Format").
"""

import json
import math

import numpy as np

from npunet.errors import InputError
from npunet.files.torch_files.tensors import FILE_DTYPES, MAX_DIMENSIONS, decode, is_count, shown
from npunet.files.torch_files.writing import file_array
from npunet.files.whole_file import atomic_write

DTYPES = {
    "F32": "float32",
    "F64": "float64",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
MAX_HEADER = 1 << 20  # bytes; one tensor takes about 100


def looks_like_safetensors(start, file_size):
    """Whether the first 16 bytes of a file are a plausible header length and a {."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= file_size


def read_safetensors(file, file_size):
    """The open binary `file` -> (dict of read-only arrays in the order of their bytes, its metadata).

    Raises InputError.
    """
    header_size = int.from_bytes(file.read(8), "little")
    if header_size > min(MAX_HEADER, file_size - 8):
        raise InputError(f"has a header of {header_size:,} bytes; expected at most {min(MAX_HEADER, file_size - 8):,}")
    try:
        header = json.loads(file.read(header_size).decode("utf-8"), object_pairs_hook=_without_repeats)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested too deeply
        raise InputError(f"has a header that is not JSON ({shown(error)}); get the file again") from None
    if not isinstance(header, dict):
        raise InputError("has a header that is not a table of tensors; get the file again")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError("has metadata that is not text; get the file again")
    if not header:
        raise InputError("holds no tensors; expected a network's weights")
    entries = sorted((_entry(name, value) for name, value in header.items()), key=lambda entry: entry[3:])
    tensors, position = {}, 0
    for name, dtype, shape, begin, end in entries:
        if begin != position or 8 + header_size + end > file_size:
            raise InputError(
                f"has tensor {shown(name)} at bytes {begin} to {end}; expected it to start at {position} and to end "
                f"inside the file of {file_size:,} bytes: it is cut short or damaged"
            )
        tensors[name] = decode(file.read(end - begin), dtype).reshape(shape)
        position = end
    if 8 + header_size + position != file_size:
        raise InputError(
            f"has {file_size - 8 - header_size - position:,} bytes that belong to no tensor; get the file again"
        )
    return tensors, metadata


def save_safetensors(path, tensors, metadata=None):
    """Write `tensors` (dict of NumPy arrays) and `metadata` (dict of str to str) to `path`, whole or not at all.

    Raises InputError for dtypes that the format lacks, metadata that is not text, and a path that cannot be written.
    """
    metadata = metadata or {}
    if not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise InputError(
            "safetensors metadata takes only text; turn other values into text, for example with json.dumps"
        )
    codes = {dtype: code for code, dtype in DTYPES.items()}
    header = {"__metadata__": metadata} if metadata else {}
    blocks, position = [], 0
    for name, array in tensors.items():
        dtype, block = file_array(name, array)
        header[name] = {
            "dtype": codes[dtype],
            "shape": list(np.shape(array)),
            "data_offsets": [position, position + block.size],
        }
        blocks.append(block)
        position += block.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers start at a multiple of 8
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block in blocks:
            file.write(block)


def _without_repeats(pairs):
    """A JSON object as a dict; a name that comes twice would hide the first tensor."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InputError("has a header that names something twice; get the file again")
    return result


def _entry(name, value):
    """One line of the table -> name, dtype, shape, begin, end; checked by itself."""
    match value:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [begin, end], **others} if not others:
            pass
        case _:
            raise InputError(
                f"describes tensor {shown(name)} without dtype, shape and two data_offsets; get the file again"
            )
    if code not in DTYPES:
        raise InputError(f"has tensor {shown(name)} of dtype {shown(code)}; expected one of {', '.join(DTYPES)}")
    if len(shape) > MAX_DIMENSIONS or not all(map(is_count, (*shape, begin, end))):
        raise InputError(f"has tensor {shown(name)} with an impossible shape or position; get the file again")
    n_bytes = math.prod(shape) * np.dtype(FILE_DTYPES[DTYPES[code]]).itemsize
    if end - begin != n_bytes or math.prod(max(size, 1) for size in shape) > 1 << 40:
        raise InputError(
            f"gives tensor {shown(name)} {end - begin:,} bytes; its shape {shape} and dtype {code} need {n_bytes:,}"
        )
    return name, DTYPES[code], tuple(shape), begin, end
