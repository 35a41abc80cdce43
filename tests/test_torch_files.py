"""PyTorch's files: stored ones read without PyTorch, both ways with it, hostile and damaged ones refused."""

import importlib.util
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from npunet.errors import InputError
from npunet.torch_files import atomic_write, load_tensors, save_safetensors, save_torch
from npunet.torch_files.unpickler import unpickle

REFERENCE = Path(__file__).parent / "reference"
VGG19 = Path(__file__).parents[2] / "shared" / "data" / "vgg19" / "vgg19_features_to_conv4_4.pth"
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


def expected(prefix):
    with np.load(REFERENCE / "expected.npz") as stored:
        return {name.removeprefix(prefix): stored[name] for name in stored.files if name.startswith(prefix)}


def assert_same(tensors, reference):
    assert set(tensors) == set(reference)
    for name, array in tensors.items():
        assert type(array) is np.ndarray and array.dtype == reference[name].dtype, name
        np.testing.assert_array_equal(array, reference[name], err_msg=name, strict=True)


def zipped(path, records):
    """A zip archive as torch.save lays it out, with the given records."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content)
    return path


def tensor(shape=(2,), strides=(1,), offset=0, n_elements=2, storage_class="FloatStorage", key="0"):
    """Instructions that push a tensor, written down independently of npunet with `pickle.dumps` of its parts."""
    def push(value):
        return pickle.dumps(value, 2)[2:-1]                         # without frame: PROTO 2 ... STOP
    identity = b"(" + push("storage") + f"ctorch\n{storage_class}\n".encode() + push(key) + push("cpu") + push(n_elements) + b"tQ"
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + push(offset) + push(shape) + push(strides) + push(False)
            + b"ccollections\nOrderedDict\n)RtR")


def program(value):
    """The pickle of {"w": value}."""
    return b"\x80\x02}X\x01\x00\x00\x00w" + value + b"s."


def weights_file(path, value, data=np.float32([1, 2]).tobytes(), **records):
    return zipped(path / "w.pth", {"data.pkl": program(value), "data/0": data, **records})


# --- stored files, without PyTorch


@pytest.mark.parametrize("name", ["milesial_zip.pth", "milesial_stream.pth"])
def test_milesials_state_dict(name):
    tensors, extra = load_tensors(REFERENCE / name)
    assert_same(tensors, expected("milesial/"))
    assert list(tensors)[:2] == ["inc.weight", "norm.weight"]       # the file's order
    assert tensors["inc.weight"].shape == (2, 3, 3, 3)              # PyTorch's layout: (C_out, C_in, kh, kw)
    assert extra == {"mask_values": [0, 255]}


@pytest.mark.parametrize("name", ["checkpoint_zip.pth", "checkpoint_stream.pth", "checkpoint.safetensors"])
def test_every_dtype_and_view(name):
    tensors, extra = load_tensors(REFERENCE / name)
    assert_same(tensors, expected("checkpoint/"))
    assert tensors["half"].dtype == np.float16 and tensors["bfloat"].dtype == np.float32
    if name.endswith(".safetensors"):
        assert extra == {"format": "pt"}
        return
    assert np.shares_memory(tensors["base"], tensors["transposed"]) and np.shares_memory(tensors["base"], tensors["again"])
    momentum = extra.pop("optimizer")
    np.testing.assert_array_equal(momentum["state"][0]["momentum"], expected("momentum")[""])
    assert momentum["lr"] == [1e-5]
    assert extra == {"epoch": 5, "loss": 0.125, "name": "\u00fc-net", "sizes": (2, 3), "dtype": "float16", "nothing": None, "big": 2**40,
                     "device": "cpu"}


def test_arrays_are_read_only():
    tensors, _ = load_tensors(REFERENCE / "checkpoint_zip.pth")
    for array in tensors.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_bfloat16_is_exact(tmp_path):
    halves = np.arange(1 << 16, dtype="<u2")                        # every bfloat16 there is
    path = weights_file(tmp_path, tensor((1 << 16,), (1,), 0, 1 << 16, "BFloat16Storage"), halves.tobytes())
    numbers = load_tensors(path)[0]["w"]
    for pattern in (0x3F80, 0xC040, 0x0001, 0x7F80, 0x8000):        # 1, -3, the smallest subnormal, infinity, -0
        np.testing.assert_array_equal(numbers[pattern], struct.unpack("<f", struct.pack("<HH", 0, pattern))[0])
    np.testing.assert_array_equal(numbers.view(np.uint32) >> 16, halves)
    assert not (numbers.view(np.uint32) & 0xFFFF).any()


def test_python2_stream(tmp_path):
    """As torchvision's early files: byte strings, an OrderedDict made from pairs, Parameter with a state, _rebuild_tensor."""
    value = (b"\x80\x02ccollections\nOrderedDict\n](]U\x01wctorch.nn.parameter\nParameter\nctorch._utils\n_rebuild_tensor\n"
             b"((U\x07storagectorch\nFloatStorage\nU\x0212U\x06cuda:0K\x02NtQK\x00K\x02\x85K\x01\x85tR\x85R(\x88\x89ccollections\n"
             b"OrderedDict\n)Rtbee\x85R.")
    # the inner "e" closes [name, parameter]; both lists are filled by APPENDS from their marks
    value = value.replace(b"](]U\x01w", b"](](U\x01w")
    system = pickle.dumps({"little_endian": True}, 2)
    data = struct.pack("<q2f", 2, 1.5, -2)
    path = tmp_path / "old.pth"
    path.write_bytes(MAGIC + pickle.dumps(1001, 2) + system + value + pickle.dumps(["12"], 2) + data)
    tensors, extra = load_tensors(path)
    assert_same(tensors, {"w": np.float32([1.5, -2])})
    assert extra == {}


@pytest.mark.shared_data
def test_vgg19_of_the_shared_data():
    if not VGG19.exists():
        pytest.skip("../shared/data/vgg19 is not here: the real VGG19 weights are tested only beside the shared data")
    tensors, extra = load_tensors(VGG19)
    assert extra == {}
    assert [name for name in tensors if name.endswith("weight")] == [f"features.{n}.weight" for n in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25)]
    assert {array.dtype.name for array in tensors.values()} == {"float32", "float16"}
    assert tensors["features.0.weight"].shape == (64, 3, 3, 3) and tensors["features.25.weight"].shape == (512, 512, 3, 3)
    assert all(np.isfinite(array).all() for array in tensors.values())
    if importlib.util.find_spec("torch"):
        import torch
        assert_same(tensors, {name: value.numpy() for name, value in torch.load(VGG19, weights_only=True).items()})


# --- checkpoints: which dict holds the network


def test_which_dict_is_the_network(tmp_path):
    a, b = {"w": np.float32([1])}, {"w": np.float32([2])}

    def load(content):
        save_torch(tmp_path / "x.pth", {}, content)
        tensors, extra = load_tensors(tmp_path / "x.pth")
        return float(tensors["w"][0]), sorted(extra)

    assert load({"epoch": 1, "generator": a}) == (1, ["epoch"])                     # the only one
    assert load({"ema": a, "state_dict": b}) == (2, ["ema"])                        # the usual name
    assert load({"w": np.float32([3]), "other": a}) == (3, ["other"])               # tensors at the top
    with pytest.raises(InputError, match=r"x\.pth: holds several networks \(generator, critic\)"):
        load({"generator": a, "critic": b})
    with pytest.raises(InputError, match="holds no named tensors"):
        load({"epoch": 1, "losses": [0.5]})
    with pytest.raises(InputError, match="holds one list"):
        load_tensors(zipped(tmp_path / "y.pth", {"data.pkl": pickle.dumps([1], 2)}))


# --- writing


def every_dtype():
    rng = np.random.default_rng(0)
    names = "float16 float32 float64 int8 int16 int32 int64 uint8".split()
    arrays = {name: rng.integers(0, 100, (2, 3)).astype(name) / np.array(7 if name[0] == "f" else 1, name) for name in names if name[0] == "f"}
    arrays |= {name: rng.integers(0, 100, (2, 3)).astype(name) for name in names if name[0] != "f"}
    return arrays | {"bool": np.array([True, False]), "scalar": np.array(3), "empty": np.zeros((0, 4), np.float32),
                     "transposed": rng.random((3, 4, 2)).transpose(2, 0, 1), "big-endian": np.arange(3, dtype=">i4")}


EXTRA = {"mask_values": [0, 255], "nested": {"a": (1, -2, 2**40, -2**63), 3: [None, True, 1.5, "\u00fc\n"], "empty": [(), [], {}]}}


def native(arrays):
    return {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}


def test_save_torch_and_load(tmp_path):
    save_torch(tmp_path / "x.pth", every_dtype(), EXTRA | {"rate": np.float32(0.5)})
    tensors, extra = load_tensors(tmp_path / "x.pth")
    assert_same(tensors, native(every_dtype()))
    assert extra == EXTRA | {"rate": 0.5}
    assert [file.name for file in tmp_path.iterdir()] == ["x.pth"]


def test_written_zip_is_as_pytorch_lays_it_out(tmp_path):
    save_torch(tmp_path / "x.pth", every_dtype())
    data = (tmp_path / "x.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n" and archive.read("archive/byteorder") == b"little"
        for info in archive.infolist():
            name_length, extra_length = struct.unpack_from("<HH", data, info.header_offset + 26)
            assert (info.header_offset + 30 + name_length + extra_length) % 64 == 0, info.filename
    save_torch(tmp_path / "y.pth", every_dtype())
    assert (tmp_path / "y.pth").read_bytes() == data                # nothing of the date or the machine in it


def test_what_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "x.pth"
    for tensors, extra, message in [
        ({"w": np.zeros(2, np.complex64)}, {}, "tensor w has dtype complex64"),
        ({}, {"note": object()}, "entry note holds a object"),
        ({}, {"ids": {(1, 2): 3}}, "entry ids holds a dict"),
        ({}, {"big": 2**70}, "entry big holds a int"),
        ({"w": np.zeros(2)}, {"w": 1}, "w is both a tensor and an extra entry"),
    ]:
        with pytest.raises(InputError, match=message):
            save_torch(path, tensors, extra)
    loop = []
    loop.append(loop)
    with pytest.raises(InputError, match="entry loop is nested more than 50 levels"):
        save_torch(path, {}, {"loop": loop})
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot be written"):
        save_torch(tmp_path / "no" / "x.pth", {})
    with pytest.raises(InputError, match="is a folder"):
        save_torch(tmp_path, {})


def test_atomic_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and [file.name for file in tmp_path.iterdir()] == ["x"]
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and [file.name for file in tmp_path.iterdir()] == ["x"]


# --- safetensors


def test_safetensors_by_hand(tmp_path):
    header = b'{"__metadata__":{"a":"b"},"w":{"dtype":"I16","shape":[2,2],"data_offsets":[4,12]},"v":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<HH", 0x3F80, 0xC040) + struct.pack("<4h", 1, -2, 3, 4))
    tensors, metadata = load_tensors(path)
    assert metadata == {"a": "b"} and list(tensors) == ["v", "w"]
    assert_same(tensors, {"v": np.float32([1, -3]), "w": np.int16([[1, -2], [3, 4]])})


def test_safetensors_round_trip(tmp_path):
    save_safetensors(tmp_path / "x.safetensors", every_dtype(), {"mask_values": "[0, 255]"})
    tensors, metadata = load_tensors(tmp_path / "x.safetensors")
    assert_same(tensors, native(every_dtype()))
    assert metadata == {"mask_values": "[0, 255]"}
    with pytest.raises(InputError, match="takes only text"):
        save_safetensors(tmp_path / "x.safetensors", {}, {"a": 1})


@pytest.mark.parametrize("table, message", [
    ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "v": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, "tensor v at bytes 4 to 12"),
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
    ('{"w":{"dtype":"U8","shape":[12],"data_offsets":[0,12]},"w":{"dtype":"U8","shape":[12],"data_offsets":[0,12]}}', "names something twice"),
    ("{" + "[" * 100_000, "not JSON"),
    ('{"w":' + "[" * 100_000, "not JSON"),
    ('{"w":{"shape":[' + "9" * 5000 + "]}}", "not JSON"),
    ("{\udcff", "not JSON"),
])
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


def refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        load_tensors(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < 600


class Hostile:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("function, name", [(os.system, f"{os.name}.system"), (eval, "__builtin__.eval"), (getattr, "__builtin__.getattr"),
                                            (subprocess.Popen, "(subprocess|commands).Popen"), (np.ones, "numpy.*ones"), (bytearray, "__builtin__.bytearray")])
def test_hostile_pickles_are_refused_by_name(tmp_path, function, name):
    value = pickle.dumps({"w": Hostile(function, "touch executed")}, 2)
    path = zipped(tmp_path / "zip.pth", {"data.pkl": value})
    refused(path, f"tries to call {name};")
    stream = tmp_path / "stream.pth"
    stream.write_bytes(MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + value)
    refused(stream, f"tries to call {name};")
    stream.write_bytes(MAGIC + value)                               # in the pickles before the object, too
    refused(stream, f"tries to call {name};")


@pytest.mark.parametrize("value, message", [
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
    (b"]q\x00h\x00a", "containers within containers"),                                          # a list that holds itself
    (b"(]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(40)) + b"t", "containers within containers"),   # 2^40 entries
    (b"]" * 100_000 + b"a" * 99_999, "containers within containers"),
    (b"](" + b")\x85" * 100_000 + b"e", None),                                                  # much, but plain
    (tensor(shape=(3,)), r"shape \(3,\) with strides \(1,\) at offset 0, which does not fit its storage of 2 elements"),
    (tensor(offset=1), "does not fit its storage"),
    (tensor(strides=(2,)), "does not fit its storage"),
    (tensor(shape=(1 << 40,), strides=(0,)), "does not fit its storage"),                       # 4 TB in 8 bytes
    (tensor(shape=(1 << 62,), strides=(0,)), "not whole numbers of a possible size"),
    (tensor(shape=(0, 1 << 40, 1 << 40), strides=(1, 1, 1)), "does not fit its storage"),
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
])
def test_tricks_in_the_pickle(tmp_path, value, message):
    path = weights_file(tmp_path, value)
    refused(path, message or "holds no named tensors")


def test_a_stride_of_a_size_one_axis_means_nothing(tmp_path):
    path = weights_file(tmp_path, tensor(shape=(1, 2), strides=(1 << 40, 1)))
    np.testing.assert_array_equal(load_tensors(path)[0]["w"], np.float32([[1, 2]]))


def test_moving_pairs_does_not_multiply_them():
    """OrderedDict(list) asked for again and again would copy the list each time; it moves its pairs, so memory stays linear."""
    many = b"ccollections\nOrderedDict\nq\x00](](K\x01K\x02ee\x85q\x010" .replace(b"0", b"")     # memo 1: the argument tuple
    value, _ = unpickle(b"\x80\x02](" + many + b"h\x00h\x01Rh\x00h\x01Re.", 0, {})
    assert value[-2:] == [{1: 2}, {}]


def test_zip_tricks(tmp_path):
    good = {"data.pkl": program(tensor()), "data/0": np.float32([1, 2]).tobytes()}
    path = tmp_path / "x.pth"
    assert load_tensors(zipped(path, good))[0]["w"].tolist() == [1, 2]                  # PyTorch 1.6 wrote no byteorder
    refused(zipped(path, good | {"byteorder": b"big"}), "big-endian machine")
    refused(zipped(path, good | {"constants.pkl": b""}), "TorchScript")
    refused(zipped(path, {"a.txt": b""}), r"without the data\.pkl")
    refused(zipped(path, {"data.pkl": program(tensor())}), "misses its record data/0")
    refused(zipped(path, good | {"data.pkl": b"N" * (5 << 20)}), "has a pickle of 5,242,880 bytes")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:                   # a bomb: a gigabyte would come of it
        archive.writestr("archive/data.pkl", program(tensor()))
        archive.writestr("archive/data/0", bytes(1 << 24))
    refused(path, "compressed zip archive")
    zipped(path, good)
    data = path.read_bytes()
    refused_bytes(path, data.replace(np.float32([1, 2]).tobytes(), np.float32([1, 3]).tobytes()), "Bad CRC-32 for file 'archive/data/0'")
    refused_bytes(path, data[:-30], "damaged or incomplete zip archive")
    # one gigabyte-like record listed a hundred times: the directory repeats its last entry
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program(tensor()))
        info = zipfile.ZipInfo("archive/data/0")
        archive.writestr(info, bytes(100_000))
        archive.filelist += [info] * 99
    refused(path, "more bytes in its records than in the file")


def refused_bytes(path, data, message):
    path.write_bytes(data)
    refused(path, message)


def test_stream_tricks(tmp_path):
    path = tmp_path / "x.pth"
    version, system, keys = pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), pickle.dumps(["0"], 2)
    identity = tensor().replace(b"K\x02tQ", b"K\x02NtQ")            # the stream has one more item: no view
    value = program(identity)
    block = struct.pack("<q2f", 2, 1, 2)
    path.write_bytes(MAGIC + version + system + value + keys + block)
    assert load_tensors(path)[0]["w"].tolist() == [1, 2]
    start = MAGIC + version + system
    refused_bytes(path, start + value + keys + block[:-1], "has no 8 bytes for storage 0")
    refused_bytes(path, start + value + keys + struct.pack("<q2f", 1 << 60, 1, 2), "has no 8 bytes for storage 0")
    refused_bytes(path, start + value + pickle.dumps([], 2), "misses storage 0")
    refused_bytes(path, start + value + pickle.dumps(["1"], 2) + block, "storage 1, which no tensor uses")
    refused_bytes(path, start + value + pickle.dumps({}, 2), "does not list its storages")
    refused_bytes(path, MAGIC + pickle.dumps(1002, 2) + system + value, "stream version 1002; expected 1001")
    refused_bytes(path, MAGIC + version + pickle.dumps({"little_endian": False}, 2) + value, "big-endian")
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
        refused(Path("/dev/zero"), "no such file")                  # endless


def test_fuzz():
    """3000 damaged files in a process that may not import, run or open anything, nor take more than 64 MB."""
    done = subprocess.run([sys.executable, REFERENCE / "fuzz_torch_files.py", "3000", "0"], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {line.rpartition(": ")[0] + line.rpartition(" ")[2]: int(line.split(": ")[1].split()[0]) for line in done.stdout.splitlines()
              if ": " in line}
    assert sum(counts.values()) == 3000
    for kind in ("any file", "pickle in zip", "safetensors header", "stream"):
        assert counts[kind + "refused"] > 200 and counts[kind + "loaded"] > 5, kind       # both happen, or nothing is tested


# --- both ways with PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: reading and writing is tested on stored files only")


@pytest.mark.parametrize("zip_format", [True, False])
def test_reads_what_pytorch_writes(tmp_path, torch, zip_format):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 2, 2), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 4, 3))
    tied = torch.rand(5, 7)
    state = OrderedDict(network.state_dict(), tied=tied, view=tied[1:4, ::2].T, half=tied.half().to(torch.bfloat16),
                        parameter=torch.nn.Parameter(tied.double()), expanded=torch.rand(3)[None].expand(1, 3))
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.pth", _use_new_zipfile_serialization=zip_format)
    tensors, extra = load_tensors(tmp_path / "x.pth")
    assert_same(tensors, {name: (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy() for name, value in state.items()})
    assert extra == {"epoch": 3}
    torch.save(network, tmp_path / "x.pth", _use_new_zipfile_serialization=zip_format)
    refused(tmp_path / "x.pth", r"tries to call torch\.nn\.modules\.container\.Sequential; .*save net\.state_dict\(\)")


@pytest.mark.parametrize("options", [{}, {"mmap": True}])
def test_pytorch_reads_what_we_write(tmp_path, torch, options):
    arrays = native(every_dtype())
    save_torch(tmp_path / "x.pth", every_dtype(), EXTRA)
    loaded = torch.load(tmp_path / "x.pth", weights_only=True, **options)
    assert type(loaded) is OrderedDict and list(loaded) == [*arrays, *EXTRA]
    assert_same({name: loaded[name].numpy() for name in arrays}, arrays)
    assert {name: loaded[name] for name in EXTRA} == EXTRA
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    save_torch(tmp_path / "y.pth", weights, {"mask_values": [0, 1]})
    state = torch.load(tmp_path / "y.pth", weights_only=True)
    assert state.pop("mask_values") == [0, 1]                       # as milesial's predict.py does
    network.load_state_dict(state)                                  # strict: every name, every shape


def test_pytorch_agrees_on_stored_files(torch):
    for name in ("milesial_zip.pth", "milesial_stream.pth"):
        state = torch.load(REFERENCE / name, weights_only=True)
        state.pop("mask_values")
        assert_same(load_tensors(REFERENCE / name)[0], {key: value.numpy() for key, value in state.items()})


def test_both_ways_with_the_safetensors_package(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: tested on a stored file and by hand only")
    arrays = native(every_dtype())
    save_safetensors(tmp_path / "x.safetensors", arrays, {"a": "b"})
    assert_same(numpy_files.load_file(tmp_path / "x.safetensors"), arrays)
    numpy_files.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items() if array.ndim}, tmp_path / "y.safetensors")
    assert_same(load_tensors(tmp_path / "y.safetensors")[0], {name: array for name, array in arrays.items() if array.ndim})
