"""Checkpoints: what comes back is what was saved, half a file is never left, and every other file is refused in one
line.
"""

import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from npunet import UNet
from npunet.errors import InputError, NoDevice
from npunet.files import checkpoint


@pytest.fixture
def saved(tmp_path):
    net = UNet(2, 3, 2, 1, variant="release", dropout=0.25, seed=4)
    net.save(tmp_path / "net.npz")
    return net, tmp_path / "net.npz"


def assert_refused(path, words="checkpoint"):
    with pytest.raises(InputError, match=words) as error:
        UNet.load(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message and len(message) < 400, message
    return message


@pytest.mark.parametrize("variant", ["paper", "release"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(tmp_path, variant, dtype, rng):
    net = UNet(np.int64(3), np.int32(2), 2, 2, variant=variant, dropout=np.float64(0.1), dtype=np.dtype(dtype), seed=9)
    for parameter in net.parameters.values():
        parameter.value += rng.standard_normal(parameter.value.shape).astype(dtype)
    path = tmp_path / "any name, no ending"
    net.save(path)
    again = UNet.load(path)
    assert again.config == net.config and again.dtype == dtype
    assert list(again.parameters) == list(net.parameters)
    for name, parameter in net.parameters.items():
        np.testing.assert_array_equal(again.parameters[name].value, parameter.value)
        assert again.parameters[name].value.dtype == dtype
    x = rng.standard_normal((1, 44, 44, 3))
    np.testing.assert_array_equal(again.forward(x), net.forward(x))
    again.save(str(tmp_path / "second.npz"))  # a str is as good as a Path
    assert sorted(os.listdir(tmp_path)) == ["any name, no ending", "second.npz"]


def test_a_loaded_network_can_be_trained_in_place(saved):
    _, path = saved
    for parameter in UNet.load(path).parameters.values():
        parameter.value += 1


def test_the_file_is_plain_zip_json_and_npy_without_pickles(saved):
    net, path = saved
    with zipfile.ZipFile(path) as file:
        names = {name.removesuffix(".npy") for name in file.namelist()}
    assert names == {"header"} | {f"parameter/{name}" for name in net.parameters}
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(str(file["header"]))
    assert header["format"] == checkpoint.FORMAT and header["network"] == net.config


def test_entries_and_header_come_back(tmp_path, rng):
    entries = {
        "header": {"step": 3, "name": "Zellen µm"},
        "optimizer/velocity/a": rng.standard_normal((2, 3)),
        "flag": np.array(True),
    }
    checkpoint.save(tmp_path / "c.npz", entries, best=0.5)
    again = checkpoint.load(tmp_path / "c.npz")
    assert again.pop("header") == {"format": checkpoint.FORMAT, "step": 3, "name": "Zellen µm", "best": 0.5}
    assert again.keys() == {"optimizer/velocity/a", "flag"}
    np.testing.assert_array_equal(again["optimizer/velocity/a"], entries["optimizer/velocity/a"])
    assert entries["header"] == {"step": 3, "name": "Zellen µm"}  # the caller's dict is as it was


def test_cut_short_anywhere(saved, tmp_path):
    whole = saved[1].read_bytes()
    cut = tmp_path / "cut.npz"
    for length in sorted(
        {0, 1, 3, 4, 30, 100, len(whole) - 1, len(whole) - 22, *range(0, len(whole), len(whole) // 40)}
    ):
        cut.write_bytes(whole[:length])
        assert_refused(cut, "cannot be read as a checkpoint")


def test_damaged_anywhere(saved, tmp_path):
    """One byte changed:
    either refused in one line or, where the byte says nothing (times, padding), the same network.
    """
    net, path = saved
    whole, damaged = bytearray(path.read_bytes()), tmp_path / "damaged.npz"
    refused = 0
    for place in np.random.default_rng(0).choice(len(whole), 150, replace=False):
        changed = whole.copy()
        changed[place] ^= 0x5A
        damaged.write_bytes(changed)
        try:
            loaded = UNet.load(damaged)
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            for name, parameter in net.parameters.items():
                np.testing.assert_array_equal(loaded.parameters[name].value, parameter.value)
    assert refused > 50


def write_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
        file.writestr("header", "not an array")


def write_npz(path, **arrays):
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def write_single_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


OTHER_KINDS = {
    "text": lambda path: path.write_text("I am a text\nof two lines"),
    "empty": lambda path: path.write_bytes(b""),
    "json": lambda path: path.write_text('{"format": "npunet checkpoint 1"}'),
    "a single array": write_single_array,
    "zip": write_zip,
    "other npz": lambda path: write_npz(path, weights=np.zeros(3)),
    "npz with a header that is no JSON": lambda path: write_npz(path, header=np.array("hello")),
    "npz with a header that is a number": lambda path: write_npz(path, header=np.array(3)),
    "npz with a header of another program": lambda path: write_npz(path, header=np.array('{"format": "x"}')),
    "npz with a list as header": lambda path: write_npz(path, header=np.array("[1]")),
    "pickled arrays": lambda path: write_npz(path, header=np.array({"a": 1}, dtype=object), other=np.zeros(2)),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"weights": [1, 2, 3]})),
    "png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_of_files(tmp_path, kind):
    path = tmp_path / "file.npz"
    OTHER_KINDS[kind](path)
    message = assert_refused(path)
    assert "pickle" not in message and "trust" not in message or kind == "pickled arrays"
    assert kind != "directory" or f"is a folder; expected a checkpoint in it, such as {path / 'best.npz'}" in message
    assert kind not in ("text", "json", "png", "a single array") or "is not an npunet checkpoint" in message


def test_a_pickle_is_never_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trap"),)

    for name, write in (
        ("pickle", lambda file: pickle.dump(Trap(), file)),
        ("npz", lambda file: np.savez(file, header=np.array([Trap()], dtype=object))),
    ):
        with open(tmp_path / name, "wb") as file:
            write(file)
        assert_refused(tmp_path / name)
    assert not (tmp_path / "trap").exists()


def test_a_file_that_is_not_there(tmp_path):
    assert_refused(tmp_path / "nothing.npz", "does not exist")


def test_a_file_that_does_not_fit_its_own_configuration(saved, tmp_path):
    net, _ = saved
    entries = checkpoint.network_entries(net)

    def write(**changes):
        checkpoint.save(
            tmp_path / "bad.npz", {name: value for name, value in (entries | changes).items() if value is not None}
        )
        return tmp_path / "bad.npz"

    assert_refused(write(**{"parameter/output.bias": None}), "output.bias")
    assert_refused(write(**{"parameter/extra.weight": np.zeros(2)}), "extra.weight")
    assert_refused(
        write(**{"parameter/output.weight": np.zeros((1, 1, 2, 4), "float32")}),
        r"output.weight has shape \(1, 1, 2, 4\) instead of",
    )
    assert_refused(write(header={}), "header")
    assert_refused(write(header={"network": None}), "header")
    assert_refused(write(header={"network": net.config | {"colour": "red"}}), "colour")


@pytest.mark.parametrize(
    "error, words", [(NoDevice("--device gpu: none here"), "none here"), (MemoryError("full"), "out of memory for the")]
)
def test_a_gpu_that_is_missing_or_full_is_not_the_fault_of_the_file(saved, monkeypatch, error, words):
    def refuse(name):
        raise error

    monkeypatch.setattr("npunet.unet.resolve_device", refuse)
    with pytest.raises(NoDevice, match=f"^--device gpu: {words}"):
        UNet.load(saved[1], device="gpu")


def test_a_directory_in_the_place_of_the_file_is_left_alone(saved, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="could not be written") as error:
        saved[0].save(tmp_path / "taken")
    assert "\n" not in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["net.npz", "taken"]


def test_folders_that_cannot_be_written_to(saved, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    places = [tmp_path / "missing" / "net.npz", saved[1] / "net.npz", ""]
    if os.geteuid() != 0:  # root may write everywhere
        places.append(tmp_path / "locked" / "net.npz")
    for place in places:
        with pytest.raises(InputError, match="could not be written") as error:
            saved[0].save(place)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("failing", ["savez", "fsync", "replace"])
@pytest.mark.parametrize(
    "raised, expected", [(OSError(28, "No space left on device"), InputError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(saved, monkeypatch, failing, raised, expected):
    net, path = saved
    before = path.read_bytes()

    def fail(file, *arguments, **keywords):
        if failing == "savez":
            file.write(b"half a file")
        raise raised

    monkeypatch.setattr(np if failing == "savez" else os, failing, fail)
    with pytest.raises(expected):
        net.save(path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["net.npz"]


def test_a_killed_process_leaves_the_old_file(saved):
    net, path = saved
    before = path.read_bytes()
    program = (
        "import os, sys, npunet\n"
        "os.fsync = lambda descriptor: os._exit(9)                     # dies when all is written, nothing renamed\n"
        "npunet.UNet(base_channels=2, depth=1).save(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == 9
    assert path.read_bytes() == before
    net.save(path)  # what it left behind is in nobody's way
    assert os.listdir(path.parent) == ["net.npz"]
    UNet.load(path)
