"""The side-by-side runs at tiny sizes:
what they compare is the same network, and a peer that is absent or fails is a line, not a crash.
"""

import io
import json
import sys

import numpy as np
import pytest

from benchmarks import all_bars, convolution, networks, peers, side_by_side
from npunet import UNet
from npunet.commands import cli
from npunet.errors import InputError


def test_a_run_writes_text_json_and_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(side_by_side, "RESULTS", tmp_path)
    monkeypatch.setattr(side_by_side, "gemm_peak", lambda: 100.0)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "train_step",
            "--tiles",
            "188",
            "--base-channels",
            "1",
            "--rounds",
            "2",
            "--peers",
            "npunet,DeZero",
            "--out",
            "found",
        ],
    )
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None if name == "dezero" else object())
    side_by_side.run("train", "a test", "train_step")
    assert "absent: dezero is not installed" in capsys.readouterr().out
    (one,) = json.loads((tmp_path / "found.json").read_text())["tables"]
    (row,) = one["rows"]
    assert (row["name"], len(row["times_ms"]), one["tile"]) == ("npunet", 2, 188)
    assert row["share_of_gemm_peak"] == pytest.approx(one["direct_gflop"] / (row["median_ms"] / 1e3) / 100)
    assert 10e6 < row["before_bytes"] <= row["peak_bytes"] < 1e9
    assert "python -m benchmarks.train_step --tiles 188" in (tmp_path / "found.txt").read_text()
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_recorded_is_replaced_unless_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(side_by_side, "RESULTS", tmp_path)
    monkeypatch.setattr(side_by_side, "compare", lambda *arguments: (dict(rows=[]), ["a table"]))
    monkeypatch.setattr(sys, "argv", ["train_step", "--tiles", "188"])
    side_by_side.run("train", "a test", "train_step")
    assert "a table" in capsys.readouterr().out and not list(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["train_step", "--rounds", "0"])
    with pytest.raises(InputError, match="--rounds is 0; expected at least 1"):
        side_by_side.run("train", "a test", "train_step")


def test_steps_take_turns_and_a_peer_that_fails_does_not_stop_the_others(monkeypatch):
    turns = []

    class Fake(side_by_side.Peer):
        def __init__(self, name, *_):
            self.name, self.times, self.cpu, self.error, self.peak, self.count = name, [], [], None, None, 0
            self.process = type(
                "Process", (), dict(stdin=io.BytesIO(), kill=lambda self: None, communicate=lambda self: None)
            )()

        def _answer(self):
            turns.append(self.name)
            self.count += 1
            if self.name == "b" and self.count == 2:
                self.error = "gone"
            return dict(ms=float(self.count), cpu_ms=1.0, peak=1)

    monkeypatch.setattr(side_by_side, "Peer", Fake)
    monkeypatch.setattr(side_by_side, "PAUSE", 0)
    monkeypatch.setattr(side_by_side, "WARM_UP", 2)
    found = side_by_side.measure(["a", "b", "c"], "train", 188, 1, rounds=2)
    assert turns == ["a", "b", "c", "a", "b", "c", "a", "c", "a", "c"]
    # the warm-up does not count
    assert found["a"].times == [3.0, 4.0] and found["b"].error == "gone" and found["b"].times == []


def test_a_peer_without_its_program_answers_with_its_error(monkeypatch):
    monkeypatch.setitem(side_by_side.PEERS, "unheard of", ("json", None, {}, False))
    peer = side_by_side.Peer("unheard of", "train", 188, 1)
    peer.close()
    assert "KeyError" in peer.error


def test_operations_of_direct_convolution_by_hand():
    net = 2 * (2 * 186 * 186 * 9)  # the first layer alone, 1 -> 2 channels, two operations for each product
    forward = side_by_side.direct_operations("infer", 188, 2)
    assert side_by_side.direct_operations("train", 188, 2) == 3 * forward - net
    assert side_by_side.direct_operations("train", 572, 64) == pytest.approx(1.0e12, rel=0.1)


def test_layers_of_the_convolution_benchmark_are_those_of_the_network():
    weights = [
        p.value.shape
        for name, p in UNet(base_channels=64).parameters.items()
        if name.endswith("weight") and ".up." not in name
    ]
    assert [(kernel, kernel, c, k) for _, c, k, kernel in convolution.layers(572)] == weights


def test_pytorch_runs_the_same_network():
    torch = pytest.importorskip(
        "torch", reason='PyTorch is not installed; pip install "npunet[torch]" adds it as an oracle for tests'
    )
    ours, theirs = UNet(base_channels=2, seed=3), networks.torch_unet(2).eval()
    with torch.no_grad():
        for parameter, target in zip(ours.parameters.values(), ordered(theirs)):
            value = torch.from_numpy(parameter.value)
            up = value.ndim == 4 and value.shape[0] == 2
            target.copy_(value.permute(2, 3, 0, 1) if up else value.permute(3, 2, 0, 1) if value.ndim == 4 else value)
        image, _ = networks.data(188)
        expected = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours.forward(image), expected, rtol=1e-4, atol=1e-4)


def ordered(net):
    """Parameters in order of use: each up-convolution before its two convolutions."""
    blocks = [*net.contracting, net.bottleneck]
    for up, block in zip(net.ups, net.expansive):
        blocks += [up, block]
    return [parameter for block in [*blocks, net.output] for parameter in block.parameters()]


@pytest.mark.parametrize("command", ["train_step", "inference"])
def test_a_peer_that_does_not_exist_is_refused_in_one_line(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, "--peers", "Caffe"])
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: side_by_side.run("train", "a test", command))
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: no peer's name begins with Caffe")


def test_a_ratio_is_to_the_fastest_of_a_rivals_forms():
    rows = [dict(name=name, median_ms=ms) for name, ms in (("npunet", 30.0), ("PyTorch (tuned) NCHW", 60.0),
                                                           ("PyTorch (tuned) channels-last", 50.0))]  # fmt: skip
    assert all_bars.ratios(dict(rows=rows), {"PyTorch": 1.0, "OpenVINO": 1.0}) == {"PyTorch": 0.6}
    with pytest.raises(InputError, match="--only: 'x' is not known; expected some of train-572"):
        all_bars.main(["--only", "x"])


@pytest.mark.parametrize("name, task", [("OpenVINO", "train"), ("ONNX Runtime", "style"), ("TensorFlow", "padded")])
def test_a_peer_without_such_a_step_says_so(name, task):
    with pytest.raises(NotImplementedError, match=f"{name} has no such step: {task}"):
        peers.builder(name, task)


@pytest.mark.parametrize("task", ["padded", "style"])
def test_the_padded_and_the_style_step_run_in_npunet(task):
    assert np.isfinite(peers.builder("npunet", task)(task, 32, 2)())


@pytest.mark.parametrize("module, name", [("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")])
def test_the_graph_that_others_run_is_the_papers_network(module, name):
    pytest.importorskip(module)
    pytest.importorskip("onnx")
    found = peers.builder(name, "infer")("infer", 188, 1)()
    from onnx.reference import ReferenceEvaluator

    image = np.ascontiguousarray(networks.data(188)[0].transpose(0, 3, 1, 2))
    (expected,) = ReferenceEvaluator(networks.onnx_model(188, 1)).run(None, {"image": image})
    assert expected.shape == (1, 2, 4, 4)
    assert found == pytest.approx(float(expected[0, 0, 0, 0]), rel=1e-3)
