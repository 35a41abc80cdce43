"""The wire format of protocol buffers, against the bytes that its documentation gives and against the package."""

import struct

import pytest

from npunet.errors import InputError
from npunet.files import protobuf


def encoded(fields):
    return b"".join(bytes(buffer) for buffer in fields)


def test_the_examples_of_the_documentation():
    """https://protobuf.dev/programming-guides/encoding/: 150, "testing", and a message within a message."""
    assert encoded(protobuf.integer(1, 150)) == bytes.fromhex("089601")
    assert encoded(protobuf.text(2, "testing")) == bytes.fromhex("120774657374696e67")
    assert encoded(protobuf.message(3, protobuf.integer(1, 150))) == bytes.fromhex("1a03089601")
    assert protobuf.varint(-2) == bytes.fromhex("feffffffffffffffff01")


def test_what_is_written_is_read():
    data = encoded(
        protobuf.joined(
            protobuf.integer(1, 300),
            protobuf.real(5, 1.5),
            protobuf.message(16, protobuf.text(1, "a"), protobuf.integer(2, 0)),
        )
    )
    first, second, third = protobuf.read_fields(memoryview(data))
    assert first == (1, protobuf.VARINT, 300)
    assert second[:2] == (5, protobuf.FOUR_BYTES) and struct.unpack("<f", second[2]) == (1.5,)
    inner = list(protobuf.read_fields(third[2]))
    assert (inner[0][0], bytes(inner[0][2])) == (1, b"a") and inner[1] == (2, protobuf.VARINT, 0)


def test_the_package_reads_the_same():
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2", reason='needs the extra "formats"')
    data = encoded(
        protobuf.joined(
            protobuf.text(1, "name"),
            protobuf.message(4, protobuf.text(1, "Inner"), protobuf.message(2, protobuf.integer(3, 70000))),
        )
    )
    found = descriptor.FileDescriptorProto.FromString(data)
    assert found.name == "name" and found.message_type[0].name == "Inner"
    assert found.message_type[0].field[0].number == 70000


@pytest.mark.parametrize(
    "data",
    [
        "08",
        "0896",
        "08" + "ff" * 11,
        "08" + "ff" * 10 + "01",
        "0b00",
        "0a05616263",
        "0dffff",
        "09ff",
        "0a" + "ff" * 9 + "7f",
        "80",
    ],
)
def test_damaged_fields_are_refused(data):
    with pytest.raises(InputError, match="damaged or cut short"):
        list(protobuf.read_fields(memoryview(bytes.fromhex(data))))
