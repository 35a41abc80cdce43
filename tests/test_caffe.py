"""The authors' network of 2015: .caffemodel files with the layers of u-net-release become variant "release".

The files in tests/reference were written by Google's protobuf encoder and their outputs computed by OpenCV's Caffe
importer (make_caffe_files.py); where both are installed, larger files are made and run here.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npunet import UNet, predict, train
from npunet.errors import InputError
from npunet.files import protobuf
from npunet.files.images import read_image
from npunet.optimizers import SGD
from npunet.training import training_step

REFERENCE = Path(__file__).parent / "reference"
FILES = ["release_2014", "release_today", "release_tiny"]
EXTRA = 'needs the extra "formats": pip install "npunet[formats]"'


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_what_opencv_computes_from_it(name):
    expected = np.load(REFERENCE / "caffe_expected.npz")
    net = UNet.load(REFERENCE / f"{name}.caffemodel")
    assert net.config["variant"] == "release" and (net.input_mean, net.input_std) == (0, 1)
    y = net.forward(expected[f"{name} x"])
    assert np.abs(y - expected[f"{name} y"]).max() <= 1e-5


@pytest.mark.parametrize("old", [True, False])
def test_a_new_file_agrees_with_opencv(old, tmp_path):
    pytest.importorskip("google.protobuf", reason=EXTRA)
    cv2 = pytest.importorskip("cv2", reason=EXTRA)
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("OpenCV 5 has no Caffe importer")
    import caffe_file_builders as builders

    layers = builders.release_layers(in_channels=2, n_classes=4, base=4, depth=4)
    data = builders.caffemodel(layers, builders.weights_of(layers, seed=3), old)
    (tmp_path / "net.caffemodel").write_bytes(data)
    net = UNet.load(tmp_path / "net.caffemodel")
    x = np.random.default_rng(4).random((1, 188, 220, 2), dtype=np.float32)
    assert np.abs(net.forward(x) - builders.opencv_output(layers, data, x)).max() <= 1e-5


def test_the_releases_network_has_31_100_354_parameters_and_23_layers():
    builders = pytest.importorskip("caffe_file_builders", reason=EXTRA, exc_type=ImportError)
    with_weights = [layer for layer in builders.release_layers() if layer[1] in ("Convolution", "Deconvolution")]
    weights = (out * inside * kernel**2 + out for *_, out, kernel, inside in with_weights)
    assert len(with_weights) == 23 and sum(weights) == UNet(variant="release").n_parameters == 31_100_354


def test_it_goes_on_to_train_and_is_saved(tmp_path):
    net = UNet.load(REFERENCE / "release_2014.caffemodel")
    rng = np.random.default_rng(5)
    x = rng.random((1, 44, 44, 1), dtype=np.float32)
    labels = rng.integers(0, 2, net.forward(x).shape[:3])
    optimizer = SGD(net.parameters, 0.01, momentum=0.9)
    weights = np.ones(labels.shape, np.float32)
    energies = [float(training_step(net, optimizer, x, labels, weights)[0]) for _ in range(20)]
    assert np.mean(energies[-5:]) < np.mean(energies[:5])
    net.save(tmp_path / "mine.npz")
    assert np.array_equal(UNet.load(tmp_path / "mine.npz").forward(x), net.forward(x))


def changed(tmp_path, name="release_tiny", replace=None, remove=None):
    """A file with one layer's name replaced, or without its layers in which `remove` occurs."""
    data = (REFERENCE / f"{name}.caffemodel").read_bytes()
    if replace:
        data = data.replace(*replace)
    fields = []
    for number, wire, value in protobuf.read_fields(memoryview(data)):
        if remove is None or remove not in bytes(value):
            fields.append(protobuf.block(number, bytes(value)))
    path = tmp_path / "changed.caffemodel"
    path.write_bytes(b"".join(protobuf.joined(*fields)))
    return path


def with_layer(tmp_path, *fields):
    """A file with one layer of 2014 more."""
    path = tmp_path / "more.caffemodel"
    data = (REFERENCE / "release_tiny.caffemodel").read_bytes()
    path.write_bytes(data + b"".join(protobuf.message(2, *fields)))
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(replace=(b"conv_d0b-c", b"conv_d0b-x")), "conv_d0b-c is missing; conv_d0b-x is unexpected"),
        (dict(replace=(b"conv_d0a-b", b"conv_d0b-c")), "two layers conv_d0b-c"),
        (dict(replace=(b"conv_d0b-c", b"conv_d0\xff-c")), "not text"),
        (dict(remove=b"upconv"), "no weights of u-net-release: layer upconv_d4c_u3a is missing"),
        (dict(remove=b"score"), "no weights of u-net-release: layer conv_u0d-score is missing"),
        (dict(remove=b"conv_"), "no layers with weights"),
    ],
)
def test_other_networks_are_refused_with_what_differs(change, message, tmp_path):
    path = changed(tmp_path, **change)
    with pytest.raises(InputError, match=message) as refused:
        UNet.load(path)
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


def test_networks_that_compute_something_else_are_refused(tmp_path):
    relu, convolution = protobuf.message(30, protobuf.real(1, 0.1)), protobuf.message(10, protobuf.integer(3, 1))
    with pytest.raises(InputError, match=r"leaky ReLU \(slope 0.1\), as in the networks of the authors' Fiji plugin"):
        UNet.load(with_layer(tmp_path, protobuf.text(4, "relu_d0b"), relu))
    with pytest.raises(InputError, match="pads by 1; variant 'release' has valid convolutions"):
        UNet.load(with_layer(tmp_path, protobuf.text(4, "conv"), convolution))


def test_a_fine_tuned_copy_may_rename_the_last_layer(tmp_path):
    data = (REFERENCE / "release_tiny.caffemodel").read_bytes()
    old, end = b"conv_u0d-score", b"conv_u0d-score-new"
    fields = []
    for number, _, value in protobuf.read_fields(memoryview(data)):
        value = bytes(value)
        if number == 2 and old in value:
            value = value.replace(bytes([len(old)]) + old, bytes([len(end)]) + end)
        fields.append(protobuf.block(number, value))
    (tmp_path / "tuned.caffemodel").write_bytes(b"".join(protobuf.joined(*fields)))
    assert UNet.load(tmp_path / "tuned.caffemodel").n_classes == 2


def test_hostile_files_are_refused_before_anything_is_built(tmp_path):
    """Blobs that claim more than is there, many layers, axes and integers without end."""
    blob = protobuf.joined(*(protobuf.integer(number, 1 << 20) for number in (1, 2, 3, 4)), protobuf.block(5, bytes(8)))
    name = protobuf.text(4, "conv_d0a-b")
    empty = protobuf.message(6, protobuf.integer(1, 0), protobuf.integer(2, 1 << 62))
    for fields, message in (
        ((name, protobuf.message(6, blob)), "with 8 bytes of numbers"),
        ((name, empty), "with 0 bytes of numbers"),
        ((name, *[protobuf.message(6, protobuf.block(5, bytes(4)))] * 9), "with 4 bytes|more than 8 blobs"),
        ((protobuf.text(4, "x" * 300),), "not text of at most 200"),
        ((name, protobuf.message(6, protobuf.message(7, protobuf.block(1, bytes(100))))), "more than 8 integers"),
        ((name, protobuf.message(6, protobuf.real(5, 1.0))), "do not stand side by side"),
    ):
        with pytest.raises(InputError, match=message):
            UNet.load(with_layer(tmp_path, *fields))
    path = tmp_path / "hostile.caffemodel"
    path.write_bytes(b"".join(protobuf.joined(*[protobuf.message(2)] * 1001)))
    with pytest.raises(InputError, match="more than 1000 layers"):
        UNet.load(path)
    for data in (b"", b"\x00", b"PK\x03\x04" + bytes(100), b'name: "u-net"\nlayer {'):
        path.write_bytes(data)
        with pytest.raises(InputError, match="no layers|damaged"):
            UNet.load(path)
    (tmp_path / "folder.caffemodel").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        UNet.load(tmp_path / "folder.caffemodel")
    with pytest.raises(InputError, match="no such file"):
        UNet.load(tmp_path / "missing.caffemodel")


def test_fuzz():
    """400 damaged files in a process that may not import, run or open anything, nor take more than 64 MB."""
    command = [sys.executable, REFERENCE / "fuzz_caffe_files.py", "400", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [(int(count), what) for count, what in re.findall(r"(\d+) (refused|loaded)", done.stdout)]
    assert sum(count for count, _ in counts) == 400
    for outcome in ("refused", "loaded"):  # both happen, or nothing is tested
        assert sum(count for count, what in counts if what == outcome) > 40


@pytest.mark.parametrize("name", ["net.caffemodel.h5", "unet_membrane.hdf5", "net.keras"])
def test_hdf5_files_are_refused_with_the_reason(name, tmp_path):
    with pytest.raises(InputError, match="leaky ReLUs.*nearest-neighbour upsampling"):
        UNet.load(tmp_path / name)
    with pytest.raises(InputError, match="does not write"):
        UNet(base_channels=2, depth=1).save(tmp_path / name)


def test_the_commands_predict_with_it_and_fine_tune_it(tmp_path):
    model, rng = REFERENCE / "release_2014.caffemodel", np.random.default_rng(6)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            pixels = (
                rng.integers(0, 256, (70, 60)) if folder == "images" else 255 * (np.ones((70, 1)) * np.arange(60) > 30)
            )
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    predict.main(f"--model {model} --input {tmp_path / 'images'} --output {tmp_path / 'found'} --tile 108".split())
    assert read_image(tmp_path / "found" / "a.png")[0].shape[:2] == (70, 60)
    options = f"--load {model} --data {tmp_path} --held-out 1 --steps 2 --tile 108 --out {tmp_path / 'run'}"
    train.main(options.split())
    tuned, start = UNet.load(tmp_path / "run" / "newest.npz"), UNet.load(model)
    assert tuned.config["variant"] == "release" and (tuned.input_mean, tuned.input_std) == (0, 1)
    before, after = (net.parameters["output.weight"].value for net in (start, tuned))
    assert not np.array_equal(before, after) and np.abs(before - after).max() < 0.05
