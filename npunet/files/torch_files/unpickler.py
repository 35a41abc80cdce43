"""The pickle of a PyTorch file, executed by hand: an interpreter that can build tensors and plain containers only.

A pickle is a program for a stack machine: push a number, make a tuple of what was pushed since the mark, call a
function. The danger lies in two instructions: GLOBAL fetches any function of any installed module, and REDUCE calls it.
Here GLOBAL gives a name and nothing else (`Global`), and REDUCE looks at that name in a list of seven (`call`): no
module is imported, no attribute fetched, no foreign object exists. `pickle.Unpickler` with a narrow `find_class` comes
close, but leaves real classes on its stack and real `__setstate__`, `__reduce__` and item assignment to reason about.

Memory and time stay proportional to the pickle's length: no instruction copies what another made (`MAX_PICKLE` bounds
the length), and nothing here recurses. Instructions are those of protocol 2, which torch.save writes, with Python 2's
byte strings for old files; reference: the comments in CPython's Lib/pickletools.py.
"""

import pickle  # only for the instructions' names, such as pickle.BININT1 == b"K"
import struct
from dataclasses import dataclass

from npunet.errors import InputError
from npunet.files.torch_files.tensors import (
    FILE_DTYPES,
    STORAGE_DTYPES,
    Storage,
    TensorView,
    is_count,
    shown,
    tensor_view,
)

MAX_PICKLE = 1 << 20  # bytes, without the weights; that of a U-Net has 15,000. It could build 90 times as much

CALLABLE = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.nn.parameter.Parameter",
    "torch.Size",
    "torch.device",
}
STORAGE_CLASSES = {f"torch.{name}": dtype for name, dtype in STORAGE_DTYPES.items()}
DTYPE_NAMES = {f"torch.{dtype}" for dtype in FILE_DTYPES}


@dataclass(frozen=True)
class Global:
    """The name of a function or class that the pickle asks for; never the thing itself."""

    name: str


def unpickle(data, position, storages):
    """Execute the pickle at `data[position:]` -> what it builds, position behind it.

    The result is made of None, bool, int, float, str, list, tuple, dict, `TensorView`, `Storage` and `Global`. A
    storage that it mentions is entered into the dict `storages`, by key. Raises InputError if it is damaged or asks
    for anything else.
    """
    try:
        machine = _Machine(data, position, storages)
        return machine.run(), machine.position
    except (IndexError, KeyError):  # popped from an empty stack, or fetched what was never stored
        raise InputError("its pickle is damaged: an instruction misses its operand; get the file again") from None
    except UnicodeDecodeError:
        raise InputError("its pickle is damaged: a text is not UTF-8; get the file again") from None


class _Machine:
    """The stack machine: the stack, where its marks are, and the memo, in which objects are kept for a second use."""

    def __init__(self, data, position, storages):
        self.data, self.position, self.storages = data, position, storages
        self.stack, self.marks, self.memo = [], [], {}

    def run(self):
        """Execute instructions up to STOP and return what is then on top of the stack."""
        while (instruction := self.take(1)) != pickle.STOP:
            if instruction in PUSHES:
                self.stack.append(PUSHES[instruction](self))
            else:
                self.change(instruction)
        return self.stack.pop()

    def change(self, instruction):
        """Execute an instruction that does more than push one value."""
        stack = self.stack
        match instruction:
            case pickle.BINPUT:
                self.memo[self.number("<B")] = stack[-1]
            case pickle.LONG_BINPUT:
                self.memo[self.number("<I")] = stack[-1]
            case pickle.MARK:
                self.marks.append(len(stack))
            case pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                self.marks.append(len(stack) - 1 - (pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3).index(instruction))
                stack.append(tuple(self.since_mark()))
            case pickle.APPEND:
                self.marks.append(len(stack) - 1)
                self.extend(self.since_mark())
            case pickle.APPENDS:
                self.extend(self.since_mark())
            case pickle.SETITEM:
                self.marks.append(len(stack) - 2)
                self.set_items(self.since_mark())
            case pickle.SETITEMS:
                self.set_items(self.since_mark())
            case pickle.REDUCE | pickle.NEWOBJ:
                arguments = stack.pop()
                stack.append(call(stack.pop(), arguments))
            case pickle.BUILD:  # gives an object attributes: none of those is a weight
                stack.pop()
                if not isinstance(stack[-1], (dict, TensorView)):
                    raise InputError(f"its pickle is damaged: it gives attributes to a {type(stack[-1]).__name__}")
            case pickle.PROTO:
                if (protocol := self.number("<B")) > 2:
                    raise InputError(
                        f"is written in pickle protocol {protocol}; expected 2, which torch.save uses by itself"
                    )
            case _:
                raise InputError(
                    f"its pickle holds instruction 0x{instruction[0]:02x} at byte {self.position - 1}, "
                    "which torch.save never writes; the file is damaged: get it again"
                )

    def take(self, n_bytes):
        """The next `n_bytes` of the program."""
        end = self.position + n_bytes
        if end > len(self.data):
            raise InputError(f"its pickle is cut short or longer than {MAX_PICKLE:,} bytes; get the file again")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, code):
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def line(self):
        """The text up to the next line end: a part of GLOBAL's name."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise InputError("its pickle is cut short in a name; get the file again")
        text = self.take(end - self.position).decode("utf-8")
        self.position += 1
        return text

    def long_integer(self):
        n_bytes = self.number("<B")
        if n_bytes > 16:  # the longest in use is the stream format's magic number: 10
            raise InputError(f"its pickle holds an integer of {n_bytes} bytes; expected at most 16")
        return int.from_bytes(self.take(n_bytes), "little", signed=True)

    def since_mark(self):
        """Take everything above the last mark from the stack."""
        mark = self.marks.pop()
        if not 0 <= mark <= len(self.stack):
            raise IndexError
        taken = self.stack[mark:]
        del self.stack[mark:]
        return taken

    def extend(self, items):
        if type(self.stack[-1]) is not list:
            raise InputError(f"its pickle is damaged: it appends to a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def set_items(self, items):
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise InputError(f"its pickle is damaged: it sets items of a {type(self.stack[-1]).__name__}")
        for key, value in zip(items[::2], items[1::2]):
            self.stack[-1][checked_key(key)] = value

    def storage(self, identity):
        """BINPERSID: torch.save names each storage by ("storage", class, key, device, number of elements, ...)."""
        match identity:
            case ("storage", Global(name), str(key), str(), n_elements, *view) if name in STORAGE_CLASSES and is_count(
                n_elements
            ):
                if view not in ([], [None]):
                    raise InputError(
                        "holds a storage that is part of another, as PyTorch before 0.4 wrote; save it anew"
                    )
                storage = Storage(key, STORAGE_CLASSES[name], n_elements)
            case _:
                raise InputError("its pickle is damaged: it names a storage in an unknown way; get the file again")
        if self.storages.setdefault(key, storage) != storage:
            raise InputError(
                f"names storage {shown(key)} twice, with different types or sizes; it is damaged: get it again"
            )
        return storage


PUSHES = {  # the instructions that push one value, and the value
    pickle.NONE: lambda machine: None,
    pickle.NEWTRUE: lambda machine: True,
    pickle.NEWFALSE: lambda machine: False,
    pickle.BININT1: lambda machine: machine.number("<B"),
    pickle.BININT2: lambda machine: machine.number("<H"),
    pickle.BININT: lambda machine: machine.number("<i"),
    pickle.LONG1: lambda machine: machine.long_integer(),
    pickle.BINFLOAT: lambda machine: machine.number(">d"),
    pickle.BINUNICODE: lambda machine: machine.take(machine.number("<I")).decode("utf-8", "surrogatepass"),
    pickle.SHORT_BINSTRING: lambda machine: machine.take(machine.number("<B")).decode("latin-1"),
    pickle.BINSTRING: lambda machine: machine.take(machine.number("<I")).decode("latin-1"),
    pickle.EMPTY_TUPLE: lambda machine: (),
    pickle.EMPTY_LIST: lambda machine: [],
    pickle.EMPTY_DICT: lambda machine: {},
    pickle.TUPLE: lambda machine: tuple(machine.since_mark()),
    pickle.BINGET: lambda machine: machine.memo[machine.number("<B")],
    pickle.LONG_BINGET: lambda machine: machine.memo[machine.number("<I")],
    pickle.GLOBAL: lambda machine: named(f"{machine.line()}.{machine.line()}"),
    pickle.BINPERSID: lambda machine: machine.storage(machine.stack.pop()),
}


def checked_key(key):
    """`key` if it may be one of a dict: text or a 64-bit integer.

    Hashing long integers or nested tuples can be made slow.
    """
    if type(key) is str or type(key) is int and -1 << 63 <= key < 1 << 63:
        return key
    raise InputError(f"its pickle has a dict with a {type(key).__name__} as key; expected text or whole numbers")


def named(name):
    """GLOBAL: what `name` may stand for. This is where hostile files end."""
    if name in CALLABLE or name in STORAGE_CLASSES:
        return Global(name)
    if name in DTYPE_NAMES:
        return name.removeprefix("torch.")
    if name.startswith("torch.") and name.endswith("Storage"):
        raise InputError(
            f"holds numbers of a type that is not read here ({shown(name)}); expected {', '.join(FILE_DTYPES)}"
        )
    raise InputError(
        f"tries to call {shown(name)}; only tensors and plain containers are read "
        "(if it is a whole network of yours, save net.state_dict() instead)"
    )


def call(function, arguments):
    """REDUCE: `function(*arguments)` for the few functions there are, each written out here."""
    name = function.name if isinstance(function, Global) else f"a {type(function).__name__}"
    match name, arguments:
        case "collections.OrderedDict", ():
            return {}  # dicts keep their order today
        case "collections.OrderedDict", (list() as pairs,):  # Python 2 wrote the items as one list of [key, value]
            if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
                raise InputError("its pickle is damaged: an OrderedDict is not made of pairs")
            result = {checked_key(key): value for key, value in pairs}
            pairs.clear()  # moved, not copied: asking again gives an empty dict
            return result
        case (
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
            (Storage() as storage, offset, tuple() as shape, tuple() as strides, *_),
        ):
            return tensor_view(storage, offset, shape, strides)
        case ("torch._utils._rebuild_parameter" | "torch.nn.parameter.Parameter", (TensorView() as tensor, *_)):
            return tensor
        case "torch.Size", (tuple() as sizes,):
            return sizes
        case "torch.device", (str() as device, *_) if len(device) < 32:
            return device
    raise InputError(
        f"tries to call {shown(name)} with arguments that it does not take; the file is damaged: get it again"
    )
