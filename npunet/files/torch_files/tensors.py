"""A tensor in a PyTorch file is a look into a flat block of numbers: storage, offset, shape and strides.

Two tensors may look into one storage (tied weights), and a transposed one differs only in its strides. All numbers come
from the file, so each look is checked against its storage before any array exists.
"""

import math
from dataclasses import dataclass

import numpy as np

from npunet.errors import InputError

# PyTorch's name of a dtype -> the NumPy dtype of its bytes in a file. NumPy has no bfloat16: see `decode`.
FILE_DTYPES = {
    "float32": "<f4",
    "float64": "<f8",
    "float16": "<f2",
    "bfloat16": "<u2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "<i1",
    "uint8": "<u1",
    "bool": "?",
}
# The class that a .pth file names for a storage -> dtype.
STORAGE_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
MAX_DIMENSIONS = 8  # a convolution's weight has 4
MAX_ELEMENTS = 1 << 40  # keeps hostile sizes within what a file offset can express


def shown(text):
    """`text` from a file as it may stand in a one-line message: printable and short."""
    text = ascii(str(text)[:100])[1:-1]
    return text if len(text) <= 100 else text[:97] + "..."


@dataclass(frozen=True)
class Storage:
    """A block of `n_elements` numbers of `dtype`, known in its file as `key`;
    the numbers themselves are read later.
    """

    key: str
    dtype: str
    n_elements: int

    @property
    def n_bytes(self):
        return self.n_elements * np.dtype(FILE_DTYPES[self.dtype]).itemsize


@dataclass(frozen=True)
class TensorView:
    """Element (i, j, ...) is element offset + i * strides[0] + j * strides[1] + ... of the storage."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple

    def array(self, numbers):
        """The tensor as a read-only view of `numbers`, its storage's 1-D array: no copy, so no memory of its own."""
        if math.prod(self.shape) == 0:
            return numbers[:0].reshape(self.shape)
        strides = tuple(
            stride * numbers.itemsize if size > 1 else numbers.itemsize  # where size is 1 it may be anything
            for size, stride in zip(self.shape, self.strides)
        )
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


def is_count(value, limit=MAX_ELEMENTS):
    """Whether `value`, which may be anything, is a whole number in 0 .. limit (True and 1.0 are not)."""
    return type(value) is int and 0 <= value <= limit


def tensor_view(storage, offset, shape, strides):
    """`TensorView` after the checks that make it safe to look:
    it ends inside its storage and has no more elements than it.

    The second condition refuses a tensor "expanded" with stride 0, which can name terabytes in a file of a kilobyte.
    Raises InputError.
    """
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise InputError(
            f"holds a tensor with {len(shape)} sizes and {len(strides)} strides; "
            f"expected as many of one as of the other and at most {MAX_DIMENSIONS}"
        )
    if not all(map(is_count, (offset, *shape, *strides))):
        raise InputError("holds a tensor whose offset, sizes or strides are not whole numbers of a possible size")
    n_elements = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if n_elements == 0:
        fits = math.prod(max(size, 1) for size in shape) <= MAX_ELEMENTS
    else:
        fits = n_elements <= storage.n_elements and last < storage.n_elements
    if not fits:
        raise InputError(
            f"holds a tensor of shape {shape} with strides {strides} at offset {offset}, which does not fit its "
            f"storage of {storage.n_elements} elements; the file is damaged or was tampered with"
        )
    return TensorView(storage, offset, shape, strides)


def decode(raw, dtype):
    """Bytes of a file -> 1-D array; read-only. `dtype` is a key of `FILE_DTYPES`.

    bfloat16 is the upper half of a float32, so putting sixteen zero bits below it gives the same number as float32.
    """
    numbers = np.frombuffer(raw, FILE_DTYPES[dtype] if dtype != "bool" else "u1")
    if dtype == "bfloat16":
        numbers = numbers.astype("<u4")
        numbers <<= 16
        numbers = numbers.view("<f4")
    elif dtype == "bool":
        numbers = numbers != 0  # any byte may stand in the file; a NumPy bool must be 0 or 1
    numbers.flags.writeable = False
    return numbers
