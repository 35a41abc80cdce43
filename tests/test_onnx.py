"""ONNX files: what other programs compute from them is what the network computes.

Oracles: ONNX Runtime and OpenVINO, which share no code with npunet; the onnx package's checker and shape inference.
"""

import json

import numpy as np
import pytest

from npunet import UNet, geometry, loss, tiling
from npunet.errors import InputError
from npunet.files import onnx_unet

EXTRA = 'needs the extra "formats": pip install "npunet[formats]"'
onnx = pytest.importorskip("onnx", reason=EXTRA)
onnxruntime = pytest.importorskip("onnxruntime", reason=EXTRA)

CASES = {
    "paper": dict(n_classes=2, variant="paper"),
    "paper, one logit": dict(n_classes=1, variant="paper", depth=1),
    "release": dict(n_classes=3, variant="release"),
    "padded": dict(n_classes=2, variant="padded"),
    "pytorch-unet": dict(n_classes=1, variant="pytorch-unet", in_channels=3),
    "pytorch-unet, bilinear": dict(n_classes=2, variant="pytorch-unet", bilinear=True),
    "style": dict(n_classes=3, variant="style", in_channels=3),
    "style, bilinear": dict(n_classes=3, variant="style", in_channels=3, bilinear=True),
    "painter": dict(n_classes=3, variant="painter", in_channels=3, bilinear=True, depth=2),
}
TOLERANCE = 1e-5  # of the largest output; float32 through Winograd's transforms is the larger part of it


def network(name, **options):
    """A small network in which every number counts: no bias is 0 and no statistic what it was at the start."""
    net = UNet(**(dict(base_channels=4, depth=3, seed=1, input_mean=0.4, input_std=0.3) | CASES[name] | options))
    rng = np.random.default_rng(2)
    for parameter in net.parameters.values():
        if parameter.value.ndim == 1:
            parameter.value = parameter.value + rng.normal(0, 0.1, parameter.value.shape).astype(np.float32)
    for name, statistic in net.statistics.items():
        if name.endswith("running_mean"):
            statistic.value = rng.normal(0, 0.1, statistic.value.shape).astype(np.float32)
        elif name.endswith("running_variance"):
            statistic.value = rng.uniform(0.2, 1.0, statistic.value.shape).astype(np.float32)
    return net


def in_float64(net):
    """The same network, computing in float64."""
    twin = UNet(**net.config | {"dtype": "float64"})
    for name, parameter in net.parameters.items():
        twin.parameters[name].value = parameter.value.astype("float64")
    return twin


def sizes(net):
    """Three pairs of height and width that the network takes; odd ones if it takes those."""
    wanted = [(64, 64), (50, 71), (37, 101)]
    if net.options.padding:
        return wanted
    return [tuple(geometry.nearest_valid_size(side + 60, net.depth) for side in pair) for pair in wanted]


def pictures(net, height, width, n=2):
    return np.random.default_rng(3).random((n, height, width, net.in_channels), dtype=np.float32)


def run(path, x):
    """The file's output for x (N, H, W, C), with the channels moved back to the end."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})[0].transpose(0, 2, 3, 1)


def assert_same(found, expected):
    assert found.shape == expected.shape and expected.std() > 0.05  # a network whose ReLUs are dead tests nothing
    assert np.abs(found - expected).max() <= TOLERANCE * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_computes_what_the_network_computes_at_three_sizes(name, tmp_path):
    net = network(name)
    net.save(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    # Instance normalisation of small maps enlarges what Winograd's transforms round: there the file meets float64.
    expected = in_float64(net) if net.options.norm == "instance" else net
    for height, width in sizes(net):
        x = pictures(net, height, width)
        assert_same(run(tmp_path / "model.onnx", x), expected.forward(x))


@pytest.mark.parametrize("name", ["paper", "paper, one logit", "release", "pytorch-unet"])
def test_probabilities_are_those_of_predict(name, tmp_path):
    net = network(name)
    onnx_unet.save(net, tmp_path / "model.onnx", softmax=True)
    x = pictures(net, *sizes(net)[1])
    assert_same(run(tmp_path / "model.onnx", x), loss.probabilities(net.forward(x)))


@pytest.mark.parametrize("name", ["paper", "paper, one logit", "release"])
def test_a_mirroring_file_takes_any_size_and_gives_what_predict_gives(name, tmp_path):
    net = network(name)
    for softmax in (True, False):
        onnx_unet.save(net, tmp_path / f"{softmax}.onnx", softmax=softmax, mirror=True)
        onnx.checker.check_model(onnx.load(tmp_path / f"{softmax}.onnx"), full_check=True)
    smallest = onnx_unet.tile_rule(net, mirror=True)["smallest_size"]
    for height, width in ((smallest, smallest + 1), (64, 71), (93, 60)):
        x = pictures(net, height, width, n=1)
        tile = geometry.input_size_for(max(height, width), net.depth)
        expected = tiling.predict(net, x[0], tile)
        assert_same(run(tmp_path / "True.onnx", x)[0], expected)
        assert_same(loss.probabilities(run(tmp_path / "False.onnx", x))[0], expected)
    with pytest.raises(Exception, match="[Pp]ad|reflect"):
        run(tmp_path / "True.onnx", pictures(net, smallest - 4, smallest - 2, n=1))


@pytest.mark.parametrize("name", ["release", "pytorch-unet, bilinear"])
def test_float16_weights_halve_the_file_and_are_rounded_once(name, tmp_path):
    net = network(name, base_channels=16)
    for weights in ("float32", "float16"):
        onnx_unet.save(net, tmp_path / f"{weights}.onnx", weights=weights)
    small, large = ((tmp_path / f"{weights}.onnx").stat().st_size for weights in ("float16", "float32"))
    assert small < 0.55 * large
    for parameter in net.parameters.values():
        if parameter.value.ndim == 4:
            parameter.value = parameter.value.astype(np.float16).astype(np.float32)
    x = pictures(net, *sizes(net)[0], n=1)
    assert_same(run(tmp_path / "float16.onnx", x), net.forward(x))
    net.output.weight.value[0, 0, 0, 0] = 1e5
    with pytest.raises(InputError, match="beyond 65504"):
        onnx_unet.save(net, tmp_path / "float16.onnx", weights="float16")


@pytest.mark.parametrize("name", ["paper", "padded", "pytorch-unet", "pytorch-unet, bilinear"])
def test_openvino_computes_the_same(name, tmp_path):
    openvino = pytest.importorskip("openvino", reason=EXTRA)
    net = network(name)
    net.save(tmp_path / "model.onnx")
    core = openvino.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(tmp_path / "model.onnx"), "CPU", exact)
    x = pictures(net, *sizes(net)[1])
    found = compiled(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))[0].transpose(0, 2, 3, 1)
    assert_same(found, net.forward(x))


def test_fixed_sizes_stand_in_the_file(tmp_path):
    net = network("release")
    onnx_unet.save(net, tmp_path / "model.onnx", size=(100, 116))
    model = onnx.load(tmp_path / "model.onnx")
    for value, expected in ((model.graph.input[0], [1, 100, 116]), (model.graph.output[0], [3, 12, 28])):
        assert [side.dim_value for side in value.type.tensor_type.shape.dim[1:]] == expected
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)  # the checker's own arithmetic agrees
    assert inferred.graph.output[0] == model.graph.output[0]
    with pytest.raises(InputError, match="nearest are 100 and 108"):
        onnx_unet.save(net, tmp_path / "model.onnx", size=(101, 116))


def test_an_invalid_size_stops_the_runtime(tmp_path):
    net = network("paper")
    net.save(tmp_path / "model.onnx")
    with pytest.raises(Exception, match="[Cc]oncat"):
        run(tmp_path / "model.onnx", pictures(net, 101, 101))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("paper", dict(smallest_size=92, size_step=8, border_lost=88, halo=0)),
        ("padded", dict(smallest_size=8, size_step=8, border_lost=0, halo=48)),
    ],
)
def test_the_metadata_say_which_tiles_fit(name, expected, tmp_path):
    net = network(name)
    net.mask_values = [0, 255]
    net.save(tmp_path / "model.onnx")
    entries = onnx.load(tmp_path / "model.onnx").metadata_props
    found = {entry.key: entry.value for entry in entries}
    assert found["axes"] == "bcyx" and found["output"] == "logits"
    assert {key: int(found[key]) for key in expected} == expected
    assert json.loads(found["network"]) == net.config and json.loads(found["mask_values"]) == [0, 255]
    if name == "paper":
        assert net.output_size(expected["smallest_size"]) == expected["smallest_size"] - expected["border_lost"]


def test_the_papers_crops_are_those_of_figure_1():
    assert [onnx_unet.crop(poolings) for poolings in (1, 2, 3, 4)] == [4, 16, 40, 88]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    net = network("style")
    with pytest.raises(InputError, match="no soft-max"):
        onnx_unet.save(net, tmp_path / "model.onnx", softmax=True)
    with pytest.raises(InputError, match="expected float32 or float16"):
        onnx_unet.save(net, tmp_path / "model.onnx", weights="int8")
    with pytest.raises(InputError, match="could not be written"):
        net.save(tmp_path / "missing" / "model.onnx")
    assert not any(tmp_path.iterdir())
    net.save(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="does not read them"):
        UNet.load(tmp_path / "model.onnx")
