"""PyTorch's files: stored ones read without PyTorch, ours written, both ways with PyTorch where it is installed."""

import importlib.util
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from torch_file_builders import STREAM_MAGIC, refused, tensor, weights_file, zipped

from npunet.errors import InputError
from npunet.files.torch_files import load_tensors, save_safetensors, save_torch
from npunet.files.whole_file import atomic_write

REFERENCE = Path(__file__).parent / "reference"
VGG19 = Path(__file__).parents[2] / "shared" / "data" / "vgg19" / "vgg19_features_to_conv4_4.pth"


def expected(prefix):
    with np.load(REFERENCE / "expected.npz") as stored:
        return {name.removeprefix(prefix): stored[name] for name in stored.files if name.startswith(prefix)}


def assert_same(tensors, reference):
    assert set(tensors) == set(reference)
    for name, array in tensors.items():
        assert type(array) is np.ndarray and array.dtype == reference[name].dtype, name
        np.testing.assert_array_equal(array, reference[name], err_msg=name, strict=True)


# --- stored files, without PyTorch


@pytest.mark.parametrize("name", ["milesial_zip.pth", "milesial_stream.pth"])
def test_milesials_state_dict(name):
    tensors, extra = load_tensors(REFERENCE / name)
    assert_same(tensors, expected("milesial/"))
    assert list(tensors)[:2] == ["inc.weight", "norm.weight"]  # the file's order
    assert tensors["inc.weight"].shape == (2, 3, 3, 3)  # PyTorch's layout: (C_out, C_in, kh, kw)
    assert extra == {"mask_values": [0, 255]}


@pytest.mark.parametrize("name", ["checkpoint_zip.pth", "checkpoint_stream.pth", "checkpoint.safetensors"])
def test_every_dtype_and_view(name):
    tensors, extra = load_tensors(REFERENCE / name)
    assert_same(tensors, expected("checkpoint/"))
    assert tensors["half"].dtype == np.float16 and tensors["bfloat"].dtype == np.float32
    if name.endswith(".safetensors"):
        assert extra == {"format": "pt"}
        return
    assert np.shares_memory(tensors["base"], tensors["transposed"]) and np.shares_memory(
        tensors["base"], tensors["again"]
    )
    momentum = extra.pop("optimizer")
    np.testing.assert_array_equal(momentum["state"][0]["momentum"], expected("momentum")[""])
    assert momentum["lr"] == [1e-5]
    assert extra == {
        "epoch": 5,
        "loss": 0.125,
        "name": "\u00fc-net",
        "sizes": (2, 3),
        "dtype": "float16",
        "nothing": None,
        "big": 2**40,
        "device": "cpu",
    }


def test_arrays_are_read_only():
    tensors, _ = load_tensors(REFERENCE / "checkpoint_zip.pth")
    for array in tensors.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_bfloat16_is_exact(tmp_path):
    halves = np.arange(1 << 16, dtype="<u2")  # every bfloat16 there is
    path = weights_file(tmp_path, tensor((1 << 16,), (1,), 0, 1 << 16, "BFloat16Storage"), halves.tobytes())
    numbers = load_tensors(path)[0]["w"]
    for pattern in (0x3F80, 0xC040, 0x0001, 0x7F80, 0x8000):  # 1, -3, the smallest subnormal, infinity, -0
        np.testing.assert_array_equal(numbers[pattern], struct.unpack("<f", struct.pack("<HH", 0, pattern))[0])
    np.testing.assert_array_equal(numbers.view(np.uint32) >> 16, halves)
    assert not (numbers.view(np.uint32) & 0xFFFF).any()


def test_python2_stream(tmp_path):
    """As torchvision's early files:
    byte strings, an OrderedDict made from pairs, Parameter with a state, _rebuild_tensor.
    """
    value = (
        b"\x80\x02ccollections\nOrderedDict\n](](U\x01wctorch.nn.parameter\nParameter\nctorch._utils\n_rebuild_tensor\n"
        b"((U\x07storagectorch\nFloatStorage\nU\x0212U\x06cuda:0K\x02NtQK\x00K\x02\x85K\x01\x85tR\x85R(\x88\x89ccollections\n"
        b"OrderedDict\n)Rtbee\x85R."
    )
    system = pickle.dumps({"little_endian": True}, 2)
    data = struct.pack("<q2f", 2, 1.5, -2)
    path = tmp_path / "old.pth"
    path.write_bytes(STREAM_MAGIC + pickle.dumps(1001, 2) + system + value + pickle.dumps(["12"], 2) + data)
    tensors, extra = load_tensors(path)
    assert_same(tensors, {"w": np.float32([1.5, -2])})
    assert extra == {}


@pytest.mark.shared_data
def test_vgg19_of_the_shared_data():
    if not VGG19.exists():
        pytest.skip("../shared/data/vgg19 is not here: the real VGG19 weights are tested only beside the shared data")
    tensors, extra = load_tensors(VGG19)
    assert extra == {}
    layers = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25)
    assert list(tensors) == [f"features.{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert {array.dtype.name for array in tensors.values()} == {"float32", "float16"}
    assert tensors["features.0.weight"].shape == (64, 3, 3, 3) and tensors["features.25.weight"].shape == (
        512,
        512,
        3,
        3,
    )
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

    assert load({"epoch": 1, "generator": a}) == (1, ["epoch"])  # the only one
    assert load({"ema": a, "state_dict": b}) == (2, ["ema"])  # the usual name
    assert load({"w": np.float32([3]), "other": a}) == (3, ["other"])  # tensors at the top
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
    arrays = {name: (rng.random((2, 3)) * 100).astype(name) for name in names}
    return arrays | {
        "bool": np.array([True, False]),
        "scalar": np.array(3),
        "empty": np.zeros((0, 4), np.float32),
        "transposed": rng.random((3, 4, 2)).transpose(2, 0, 1),
        "big-endian": np.arange(3, dtype=">i4"),
    }


EXTRA = {
    "mask_values": [0, 255],
    "nested": {"a": (1, -2, 2**40, -(2**63)), 3: [None, True, 1.5, "\u00fc\n"], "empty": [(), [], {}]},
}


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
    assert (tmp_path / "y.pth").read_bytes() == data  # nothing of the date or the machine in it


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
    with pytest.raises(InputError, match="could not be written"):
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
    header = (
        b'{"__metadata__":{"a":"b"},"w":{"dtype":"I16","shape":[2,2],"data_offsets":[4,12]},'
        b'"v":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    )
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        struct.pack("<Q", len(header)) + header + struct.pack("<HH", 0x3F80, 0xC040) + struct.pack("<4h", 1, -2, 3, 4)
    )
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


# --- both ways with PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip(
        "torch", reason="PyTorch is not installed: reading and writing is tested on stored files only"
    )


@pytest.mark.parametrize("zip_format", [True, False])
def test_reads_what_pytorch_writes(tmp_path, torch, zip_format):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 2, 2), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 4, 3))
    tied = torch.rand(5, 7)
    state = OrderedDict(
        network.state_dict(),
        tied=tied,
        view=tied[1:4, ::2].T,
        half=tied.half().to(torch.bfloat16),
        parameter=torch.nn.Parameter(tied.double()),
        expanded=torch.rand(3)[None].expand(1, 3),
    )
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.pth", _use_new_zipfile_serialization=zip_format)
    tensors, extra = load_tensors(tmp_path / "x.pth")
    state = {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in state.items()}
    assert_same(tensors, {name: value.detach().numpy() for name, value in state.items()})
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
    assert state.pop("mask_values") == [0, 1]  # as milesial's predict.py does
    network.load_state_dict(state)  # strict: every name, every shape


def test_pytorch_agrees_on_stored_files(torch):
    for name in ("milesial_zip.pth", "milesial_stream.pth"):
        state = torch.load(REFERENCE / name, weights_only=True)
        state.pop("mask_values")
        assert_same(load_tensors(REFERENCE / name)[0], {key: value.numpy() for key, value in state.items()})


def test_both_ways_with_the_safetensors_package(tmp_path):
    reason = "safetensors is not installed: tested on a stored file and by hand only"
    numpy_files = pytest.importorskip("safetensors.numpy", reason=reason)
    arrays = native(every_dtype())
    with_axes = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array.ndim}
    save_safetensors(tmp_path / "x.safetensors", arrays, {"a": "b"})
    assert_same(numpy_files.load_file(tmp_path / "x.safetensors"), arrays)
    numpy_files.save_file(with_axes, tmp_path / "y.safetensors")
    assert_same(load_tensors(tmp_path / "y.safetensors")[0], with_axes)
