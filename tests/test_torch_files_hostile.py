"""Hostile and damaged weights files: each refused by InputError in one line, no code run, memory bounded."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_file_builders import STREAM_MAGIC, program, refused, refused_bytes, tensor, weights_file, zipped

from npunet import InputError
from npunet.files.torch_files import load_tensors, unpickler
from npunet.files.torch_files.unpickler import unpickle

REFERENCE = Path(__file__).parent / "reference"


# --- safetensors


TABLES = [
    (
        {
            "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "v": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        },
        "tensor v at bytes 4 to 12",
    ),
    ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "expected it to start at 0"),
    ({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, "cut short or damaged"),
    ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, "4 bytes that belong to no tensor"),
    ({"w": {"dtype": "F32", "shape": [5], "data_offsets": [0, 12]}}, "gives tensor w 12 bytes"),
    ({"w": {"dtype": "F8_E4M3", "shape": [12], "data_offsets": [0, 12]}}, "dtype F8_E4M3"),
    ({"w": {"dtype": "F32", "shape": [-3, -1], "data_offsets": [0, 12]}}, "impossible shape"),
    ({"w": {"dtype": "F32", "shape": [1 << 62, 0], "data_offsets": [0, 0]}}, "impossible shape"),
    ({"w": {"dtype": "F32", "shape": [True, 3], "data_offsets": [0, 12]}}, "impossible shape"),
    ({"w": {"dtype": "F32", "shape": [3.0], "data_offsets": [0, 12]}}, "impossible shape"),
    ({"w": {"dtype": "F32", "shape": [3], "data_offsets": [12, 0]}}, "gives tensor w -12 bytes"),
    ({"w": {"dtype": "F32", "shape": [3]}}, "without dtype, shape"),
    ({"w": 3}, "without dtype, shape"),
    ({"__metadata__": {"a": 1}}, "metadata that is not text"),
    ({}, "holds no tensors"),
    (
        '{"w":{"dtype":"U8","shape":[12],"data_offsets":[0,12]},"w":{"dtype":"U8","shape":[12],"data_offsets":[0,12]}}',
        "names something twice",
    ),
    ("{" + "[" * 100_000, "not JSON"),
    ('{"w":' + "[" * 100_000, "not JSON"),
    ('{"w":{"shape":[' + "9" * 5000 + "]}}", "not JSON"),
    ("{\udcff", "not JSON"),
]


@pytest.mark.parametrize("table, message", TABLES, ids=range(len(TABLES)))
def test_hostile_safetensors(tmp_path, table, message):
    header = (table if isinstance(table, str) else json.dumps(table)).encode("utf-8", "surrogateescape")
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
    refused(path, message)


def test_safetensors_header_length(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 20) + b"{" + bytes(12))
    refused(path, "header of 20 bytes; expected at most 13")
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{" + bytes(12))
    refused(path, "is not a file that torch.save or safetensors writes")


# --- hostile and damaged .pth files


class Hostile:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "function, name",
    [
        (os.system, f"{os.name}.system"),
        (eval, "__builtin__.eval"),
        (getattr, "__builtin__.getattr"),
        (np.ones, "numpy.*ones"),
        (subprocess.Popen, "(subprocess|commands).Popen"),
        (bytearray, "__builtin__.bytearray"),
    ],
)
def test_hostile_pickles_are_refused_by_name(tmp_path, function, name):
    value = pickle.dumps({"w": Hostile(function, "touch executed")}, 2)
    path = zipped(tmp_path / "zip.pth", {"data.pkl": value})
    refused(path, f"tries to call {name};")
    stream = tmp_path / "stream.pth"
    stream.write_bytes(STREAM_MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + value)
    refused(stream, f"tries to call {name};")
    stream.write_bytes(STREAM_MAGIC + value)  # in the pickles before the object, too
    refused(stream, f"tries to call {name};")


PICKLES = [
    (b"ctorch\nFloatStorage\n", "holds torch.FloatStorage itself"),
    (b"ccollections\nOrderedDict\n", "holds collections.OrderedDict itself"),
    (b"ccollections\nOrderedDict\nX\x01\x00\x00\x00a\x85R", "tries to call collections.OrderedDict with arguments"),
    (b"ccollections\nOrderedDict\n](K\x01K\x02e\x85R", "OrderedDict is not made of pairs"),
    (b"X\x01\x00\x00\x00a)R", "tries to call a str with arguments"),
    (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "with arguments that it does not take"),
    (b"ctorch\nComplexFloatStorage\n", r"type that is not read here \(torch.ComplexFloatStorage\)"),
    (b"cos.path\n../x\x1b[2J\x00\n", r"tries to call os.path.../x\\x1b\[2J\\x00"),
    (b"c" + b"a" * 5000 + b"\nb\n", "tries to call aaa"),
    (b"]K\x01b", "gives attributes to a list"),
    (b"]}a(K\x01tb", "gives attributes to a list"),
    (b")K\x01a", "appends to a tuple"),
    (b"]K\x01K\x02s", "sets items of a list"),
    (b"}(K\x01u", "sets items of a dict"),
    (b"}NK\x01s", "dict with a NoneType as key"),
    (b"})K\x01s", "dict with a tuple as key"),
    (b"}\x8a\x09" + b"\x7f" * 9 + b"K\x01s", "dict with a int as key"),
    (b"\x8a\xff" + b"\x7f" * 255, "integer of 255 bytes"),
    (b"\x8b\xff\xff\xff\x7f", "instruction 0x8b"),
    (b"X\xff\xff\xff\xff", "cut short"),
    (b"X\x01\x00\x00\x00\xff", "a text is not UTF-8"),
    (b"c" + b"os", "cut short in a name"),
    (b"\x80\x04", "pickle protocol 4"),
    (b"h\x09", "an instruction misses its operand"),
    (b"tttt", "an instruction misses its operand"),
    (b"0000", "instruction 0x30"),
    (b"QQQQQQ", "names a storage in an unknown way"),
    (b"\x87\x87\x87", "an instruction misses its operand"),
    (b"]q\x00h\x00a", "containers within containers"),  # a list that holds itself
    (
        b"(]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(40)) + b"t",
        "containers within",
    ),  # 2^40 entries
    (b"]" * 100_000 + b"a" * 99_999, "containers within containers"),
    (b"](" + b")\x85" * 100_000 + b"e", None),  # much, but plain
    (tensor(shape=(3,)), r"shape \(3,\) with strides \(1,\) at offset 0, which does not fit its storage of 2 elements"),
    (tensor(offset=1), "does not fit its storage"),
    (tensor(strides=(2,)), "does not fit its storage"),
    (tensor(shape=(1 << 40,), strides=(0,)), "does not fit its storage"),  # 4 TB in 8 bytes
    (tensor(shape=((1 << 40) + 1,), strides=(0,)), "not whole numbers of a possible size"),
    (tensor(shape=(0, 1 << 40, 2), strides=(1, 1, 1)), "does not fit its storage"),
    (tensor(shape=(-1,)), "not whole numbers"),
    (tensor(strides=(-1,), offset=1), "not whole numbers"),
    (tensor(offset=True), "not whole numbers"),
    (tensor(shape=(1.0,)), "not whole numbers"),
    (tensor(shape=(1,) * 70, strides=(1,) * 70), "70 sizes and 70 strides"),
    (tensor(shape=(1, 1), strides=(1,)), "2 sizes and 1 strides"),
    (tensor(n_elements=3), "8 bytes in record data/0; expected 12"),
    (tensor(n_elements=-2), "names a storage in an unknown way"),
    (tensor(n_elements=1 << 60), "names a storage in an unknown way"),
    (tensor(key="../../secret"), "misses its record data/../../secret"),
    (b"](" + tensor() + tensor(storage_class="LongStorage") + b"e", "names storage 0 twice"),
]


@pytest.mark.parametrize("value, message", PICKLES, ids=range(len(PICKLES)))
def test_tricks_in_the_pickle(tmp_path, value, message):
    path = weights_file(tmp_path, value)
    refused(path, message or "holds no named tensors")


def nested(levels):
    """Instructions that push dicts, each within the one before."""
    return b"}X\x01\x00\x00\x00a" * levels + b"K\x01" + b"s" * levels


def test_containers_lie_fifty_levels_deep_at_most(tmp_path):
    beside = lambda levels: weights_file(tmp_path, tensor() + b"sX\x01\x00\x00\x00x" + nested(levels))
    extra = load_tensors(beside(49))[1]["x"]
    for _ in range(49):
        extra = extra["a"]
    assert extra == 1
    refused(beside(50), "containers within containers, more than 50 levels")


def test_an_empty_tensor_may_name_as_much_as_a_file_can_hold(tmp_path):
    path = weights_file(tmp_path, tensor(shape=(0, 1 << 40, 1), strides=(1, 1, 1)))
    assert load_tensors(path)[0]["w"].shape == (0, 1 << 40, 1)


def test_a_stride_of_a_size_one_axis_means_nothing(tmp_path):
    path = weights_file(tmp_path, tensor(shape=(1, 2), strides=(1 << 40, 1)))
    np.testing.assert_array_equal(load_tensors(path)[0]["w"], np.float32([[1, 2]]))


def test_moving_pairs_does_not_multiply_them():
    """OrderedDict(list) asked for again and again would copy the list each time;
    it moves its pairs, so memory stays linear.
    """
    many = b"ccollections\nOrderedDict\nq\x00](](K\x01K\x02ee\x85q\x01"  # memo 1: the arguments
    value, _ = unpickle(b"\x80\x02](" + many + b"h\x00h\x01Rh\x00h\x01Re.", 0, {})
    assert value[-2:] == [{1: 2}, {}]


def test_zip_tricks(tmp_path):
    good = {"data.pkl": program(tensor()), "data/0": np.float32([1, 2]).tobytes()}
    path = tmp_path / "x.pth"
    assert load_tensors(zipped(path, good))[0]["w"].tolist() == [1, 2]  # PyTorch 1.6 wrote no byteorder
    refused(zipped(path, good | {"byteorder": b"big"}), "big-endian machine")
    refused(zipped(path, good | {"constants.pkl": b""}), "TorchScript")
    refused(zipped(path, {"a.txt": b""}), r"without the data\.pkl")
    refused(zipped(path, {"data.pkl": program(tensor())}), "misses its record data/0")
    refused(zipped(path, good | {"data.pkl": b"N" * (2 << 20)}), "has a pickle of 2,097,152 bytes")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a bomb: a gigabyte would come of it
        archive.writestr("archive/data.pkl", program(tensor()))
        archive.writestr("archive/data/0", bytes(1 << 24))
    refused(path, "compressed zip archive")
    zipped(path, good)
    data = path.read_bytes()
    refused_bytes(
        path, data.replace(struct.pack("<2f", 1, 2), struct.pack("<2f", 1, 3)), "Bad CRC-32 for file 'archive/data/0'"
    )
    refused_bytes(path, data[:-30], "damaged or incomplete zip archive")
    # one gigabyte-like record listed a hundred times: the directory repeats its last entry
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program(tensor()))
        info = zipfile.ZipInfo("archive/data/0")
        archive.writestr(info, bytes(100_000))
        archive.filelist += [info] * 99
    refused(path, "more bytes in its records than in the file")


def test_stream_tricks(tmp_path):
    path = tmp_path / "x.pth"
    version, system, keys = pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), pickle.dumps(["0"], 2)
    identity = tensor().replace(b"K\x02tQ", b"K\x02NtQ")  # the stream has one more item: no view
    value = program(identity)
    block = struct.pack("<q2f", 2, 1, 2)
    path.write_bytes(STREAM_MAGIC + version + system + value + keys + block)
    assert load_tensors(path)[0]["w"].tolist() == [1, 2]
    start = STREAM_MAGIC + version + system
    refused_bytes(path, start + value + keys + block[:-1], "has no 8 bytes for storage 0")
    refused_bytes(path, start + value + keys + struct.pack("<q2f", 1 << 60, 1, 2), "has no 8 bytes for storage 0")
    refused_bytes(path, start + value + pickle.dumps([], 2), "misses storage 0")
    refused_bytes(path, start + value + pickle.dumps(["1"], 2) + block, "storage 1, which no tensor uses")
    refused_bytes(path, start + value + pickle.dumps({}, 2), "does not list its storages")
    refused_bytes(path, STREAM_MAGIC + pickle.dumps(1002, 2) + system + value, "stream version 1002; expected 1001")
    refused_bytes(path, STREAM_MAGIC + version + pickle.dumps({"little_endian": False}, 2) + value, "big-endian")
    refused_bytes(path, start + program(tensor().replace(b"K\x02tQ", b"K\x02(K\x00K\x00K\x01ttQ")), "part of another")
    refused_bytes(path, start + value[:-4], "cut short|misses its operand")


def test_what_is_no_weights_file(tmp_path):
    refused(tmp_path / "missing.pth", "no such file")
    refused(tmp_path, "is a folder")
    path = tmp_path / "x.pth"
    refused_bytes(path, b"", "is empty")
    refused_bytes(path, b"version https://git-lfs.github.com/spec/v1", "starts with b'version https://'")
    refused_bytes(path, b"\x89PNG\r\n", "is not a file that torch.save or safetensors writes")
    if os.name == "posix" and os.path.exists("/dev/zero"):
        refused(Path("/dev/zero"), "no such file")  # endless


def test_fuzz():
    """2000 damaged files in a process that may not import, run or open anything, nor take more than 64 MB."""
    done = subprocess.run(
        [sys.executable, REFERENCE / "fuzz_torch_files.py", "2000", "0"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {}
    for line in done.stdout.splitlines():  # such as "stream: 1140 refused"
        if found := re.fullmatch(r"(.*): (\d+) (refused|loaded)", line):
            counts[found[1], found[3]] = int(found[2])
    assert sum(counts.values()) == 2000
    for kind in ("any file", "pickle in zip", "safetensors header", "stream"):
        assert counts[kind, "refused"] > 200 and counts[kind, "loaded"] > 1, kind  # both happen, or nothing is tested


def test_integers_of_a_pickle_have_sixteen_bytes_at_most():
    assert unpickler.unpickle(pickle.dumps(1 << 120, 2), 0, {})[0] == 1 << 120
    with pytest.raises(InputError, match="an integer of 17 bytes"):
        unpickler.unpickle(pickle.dumps(1 << 130, 2), 0, {})
