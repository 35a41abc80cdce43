"""A stand-in for CuPy on machines without a GPU: NumPy underneath, but as unforgiving as CuPy, or more so.

What it refuses is what breaks when "CuPy is NumPy" is taken for granted: implicit conversion to NumPy, NumPy arrays
mixed into arithmetic or indexing, NumPy functions on device arrays, device scalars as indices. Reductions give 0-d
arrays, never scalars. `npunet.machine.backend.array_module` finds this module through the class's __module__, as it
finds cupy.

While a step is recorded (`record`), nothing is done, as in a CUDA graph: every operation goes on a tape, to be replayed
on the same memory. What a graph forbids is refused: to wait for the device, to copy from the host, to call cuBLAS.
"""

import operator
import types

import numpy as np

SCALARS = (bool, int, float, np.generic)


_tape = None  # while a step is recorded: what is to be done, in order


def record(body):
    """The tape of what body() does, and what it returned; nothing is done, and no result can be relied upon."""
    global _tape
    _tape = tape = []
    try:
        return tape, body()
    finally:
        _tape = None


def refuse(what):
    """Called where a recorded step must not be."""
    if _tape is not None:
        raise RuntimeError(f"{what} while a step is recorded")


def _do(compute, *inputs):
    """compute(): an array of its own, which is filled when a recording is replayed, or a view of one of the inputs."""
    result = compute()
    if _tape is None or not isinstance(result, (np.ndarray, np.generic)):
        return result
    place = np.asarray(result)
    if not any(isinstance(x, np.ndarray) and np.may_share_memory(place, x) for x in inputs):
        place = np.array(place)
        place[...] = np.nan if place.dtype.kind == "f" else 0
        _tape.append(lambda: place.__setitem__(..., compute()))
    return place


def _change(change):
    """change() alters an array where it lies; recorded, it does so when replayed."""
    change() if _tape is None else _tape.append(change)


class ndarray:
    """Wraps a NumPy array. `get()` is the only way out."""

    __array_ufunc__ = None  # np.exp(x) raises; numpy_array + x asks x, which refuses
    __hash__ = None

    def __init__(self, data):
        self._data = data

    def get(self):
        refuse("the host waits for the device")
        return self._data.copy()

    def __array__(self, *arguments, **keywords):
        raise TypeError("implicit conversion of a device array to NumPy; use npunet.machine.backend.to_cpu")

    def __array_function__(self, function, kinds, arguments, keywords):
        raise TypeError(
            f"numpy.{function.__name__} called with a device array; use array_module(x).{function.__name__}"
        )

    def __getitem__(self, index):
        index = _unwrap_index(index)
        item = self._data[index]
        if isinstance(item, np.generic):  # CuPy gives a 0-d view
            index = (index if isinstance(index, tuple) else (index,)) + (...,)
        return ndarray(_do(lambda: self._data[index], self._data))

    def __setitem__(self, index, value):
        index, value = _unwrap_index(index), _unwrap(value)
        _change(lambda: self._data.__setitem__(index, value))

    def __len__(self):
        return len(self._data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        refuse("the host waits for the device")
        return bool(self._data)

    def __float__(self):
        refuse("the host waits for the device")
        return float(self._data)

    def __int__(self):
        refuse("the host waits for the device")
        return int(self._data)

    def __repr__(self):
        return f"strict {self._data!r}"

    @property
    def flags(self):
        return self._data.flags

    @property
    def T(self):
        return ndarray(self._data.T)


def refuse_cublas():
    """CuPy's answer while a stream captures."""
    if _tape is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")


def _unwrap(value):
    """The NumPy value behind a device array or a scalar; everything else is refused."""
    if isinstance(value, ndarray):
        return value._data
    if value is None or isinstance(value, SCALARS):
        return value
    raise TypeError(f"{type(value).__module__}.{type(value).__name__} mixed with device arrays")


def _unwrap_index(index):
    if isinstance(index, tuple):
        return tuple(_unwrap_index(part) for part in index)
    if isinstance(index, (int, slice, np.integer)) or index is None or index is Ellipsis:
        return index
    return _unwrap(index)


def _wrap(result):
    if isinstance(result, (np.ndarray, np.generic)):
        return ndarray(np.asarray(result))
    return result


def _method(name):
    def method(self, *arguments, **keywords):
        keywords = {key: _unwrap(value) if key == "out" else value for key, value in keywords.items()}
        if name == "fill":
            return _change(lambda: self._data.fill(*arguments))
        return _wrap(_do(lambda: getattr(self._data, name)(*arguments, **keywords), self._data))

    return method


def _binary(function, reflected=False):
    def method(self, other):
        other = _unwrap(other)
        if function is operator.matmul:
            refuse_cublas()
        return _wrap(_do(lambda: function(other, self._data) if reflected else function(self._data, other)))

    return method


def _in_place(function):
    def method(self, other):
        other = _unwrap(other)
        _change(lambda: function(self._data, other))
        return self

    return method


for _name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides"):
    setattr(ndarray, _name, property(operator.attrgetter(f"_data.{_name}")))
for _name in (
    "astype",
    "reshape",
    "ravel",
    "transpose",
    "swapaxes",
    "copy",
    "sum",
    "mean",
    "max",
    "min",
    "all",
    "any",
    "argmax",
    "fill",
):
    setattr(ndarray, _name, _method(_name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
    _plain, _function = _name.rstrip("_"), getattr(operator, _name)
    setattr(ndarray, f"__{_plain}__", _binary(_function))
    setattr(ndarray, f"__r{_plain}__", _binary(_function, reflected=True))
    setattr(ndarray, f"__i{_plain}__", _in_place(getattr(operator, f"i{_plain}")))
for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name)))
for _name in ("neg", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", lambda self, _function=getattr(operator, _name): _wrap(_function(self._data)))


def _function(numpy_function):
    """`numpy_function` for device arrays only: sequences of them are taken, NumPy arrays are refused."""

    def strip(value):
        if isinstance(value, np.ndarray):
            raise TypeError(f"{numpy_function.__name__}: a NumPy array among device arrays")
        if isinstance(value, (list, tuple)):
            return type(value)(strip(part) for part in value)
        return value._data if isinstance(value, ndarray) else value

    def function(*arguments, **keywords):
        out = keywords.get("out")
        if numpy_function.__name__ in ("matmul", "dot", "tensordot", "einsum", "vdot"):
            refuse_cublas()
        taken, given = strip(arguments), {key: strip(value) for key, value in keywords.items()}
        if out is not None or numpy_function is np.copyto:
            _change(lambda: numpy_function(*taken, **given))
            return out
        return _wrap(_do(lambda: numpy_function(*taken, **given), *taken))

    function.__name__ = numpy_function.__name__
    return function


def asarray(x, dtype=None):
    """From the host (NumPy arrays, lists, scalars) or from here; the one explicit way in."""
    if not isinstance(x, ndarray):
        refuse("a copy from the host")
        return ndarray(np.asarray(np.array(x), dtype))
    return ndarray(_do(lambda: np.asarray(x._data, dtype), x._data))


array = asarray
ndindex, newaxis = np.ndindex, None
bool_, int8, int32, int64, uint8, float32, float64 = (
    np.bool_,
    np.int8,
    np.int32,
    np.int64,
    np.uint8,
    np.float32,
    np.float64,
)
for _name in (
    "zeros ones full tanh arange empty_like zeros_like ones_like full_like ascontiguousarray maximum minimum "
    "multiply add "
    "subtract divide exp log sqrt abs isfinite matmul dot tensordot einsum where concatenate stack take_along_axis sum "
    "mean max min argmax vdot copyto broadcast_to pad moveaxis swapaxes transpose"
).split():
    globals()[_name] = _function(getattr(np, _name))


def empty(shape, dtype="float64"):
    """Nothing that can be taken for a result: NaN, or a number that nobody would expect."""
    data = np.empty(shape, dtype)
    data[...] = np.nan if data.dtype.kind == "f" else 0x7B
    return ndarray(data)


lib = types.SimpleNamespace(
    stride_tricks=types.SimpleNamespace(
        **{name: _function(getattr(np.lib.stride_tricks, name)) for name in ("sliding_window_view", "as_strided")}
    )
)
