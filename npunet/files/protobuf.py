"""Protocol buffers, the wire format of ONNX and Caffe files: a message is a list of numbered fields.

Each field is a key and a value. The key is number * 8 + wire type, and the wire type says how the value is stored:

    0   a varint: an integer in groups of 7 bits, the lowest first; the top bit of a byte says that another follows
    1   8 bytes
    2   a length as varint, then as many bytes: text, numbers side by side, or another message
    5   4 bytes

Nothing in the file says what a field means; that is what onnx_messages.py and caffe_messages.py know.
Source: https://protobuf.dev/programming-guides/encoding/.

Written messages are lists of buffers, and a message within a message takes its buffers over. So the numbers of a
network stay where they are until they go to the file, and are not copied at each level.
"""

import struct

from npunet.errors import InputError

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
DAMAGED = "is damaged or cut short"


def varint(value: int) -> bytes:
    """A non-negative integer, or a negative one as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def integer(number: int, value: int) -> list:
    """The field `number` with an integer."""
    return [varint(number << 3 | VARINT) + varint(value)]


def real(number: int, value: float) -> list:
    """The field `number` with a float of 4 bytes."""
    return [varint(number << 3 | FOUR_BYTES) + struct.pack("<f", value)]


def block(number: int, *buffers) -> list:
    """The field `number` with bytes, which may come in several buffers: numbers, or the buffers of a message."""
    return [varint(number << 3 | BYTES) + varint(sum(len(buffer) for buffer in buffers)), *buffers]


def text(number: int, value: str) -> list:
    """The field `number` with text."""
    return block(number, value.encode())


def message(number: int, *fields: list) -> list:
    """The field `number` with a message made of these fields."""
    return block(number, *joined(*fields))


def joined(*fields: list) -> list:
    """The buffers of several fields, one after the other."""
    return [buffer for field in fields for buffer in field]


def read_fields(data: memoryview):
    """Yields (number, wire type, value) of each field: value is an integer for varints, else a view of its bytes.

    Raises InputError where the bytes are no fields, or a field ends outside `data`.
    """
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _read_varint(data, position)
        else:
            if wire == BYTES:
                size, position = _read_varint(data, position)
            elif wire in (EIGHT_BYTES, FOUR_BYTES):
                size = 8 if wire == EIGHT_BYTES else 4
            else:
                raise InputError(f"{DAMAGED}: byte {position} begins no field; get the file again")
            if size > len(data) - position:
                raise InputError(f"{DAMAGED}: a field of {size:,} bytes ends behind its end; get the file again")
            value, position = data[position : position + size], position + size
        yield number, wire, value


def read_integers(data: memoryview, most: int) -> list:
    """Integers that stand side by side, without keys. Raises InputError for more than `most`, or no integers."""
    values, position = [], 0
    while position < len(data):
        if len(values) == most:
            raise InputError(f"{DAMAGED}: more than {most} integers in a row where fewer are expected")
        value, position = _read_varint(data, position)
        values.append(value)
    return values


def _read_varint(data, position):
    value = 0
    for shift in range(0, 70, 7):  # at most ten bytes
        if position == len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, position
    raise InputError(f"{DAMAGED}: an integer at byte {position} has no end; get the file again")
