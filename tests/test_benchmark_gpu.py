"""benchmarks/gpu.py without a GPU: one line and exit status 2;
and its parts on the CPU at a tiny size, where a part that fails stops nothing.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from benchmarks import gpu, gpu_correct, gpu_report, gpu_speed
from benchmarks.gpu_profile import where_time_goes
from npunet import training
from npunet.errors import InputError
from npunet.gpu import tensor_core_blocks
from npunet.machine.backend import gpu_problem

ROOT = Path(__file__).parents[1]


class Cpu:
    """Stands where the GPU stands: NumPy arrays, and the clock."""

    name = "cpu"
    xp = np

    def describe(self):
        return dict(gpu="none: a test on a CPU")

    def times(self, step, seconds, least=5, most=50):
        start = time.perf_counter()
        step()
        return [1e3 * (time.perf_counter() - start)]

    def enqueued(self, step, count=20):
        return self.times(step, 0)[0]

    def mark(self):
        return time.perf_counter()

    def between(self, start, stop):
        return 1e3 * (stop - start)

    def precision(self, name):
        pass

    def forget(self):
        pass

    def peak(self):
        return 0


@pytest.fixture
def options(tmp_path, rng):
    (tmp_path / "data").mkdir()
    labels = np.kron(rng.integers(0, 2, (22, 6, 6)), np.ones((8, 8), int)).astype("uint8") * 255
    tifffile.imwrite(tmp_path / "data" / "train-labels.tif", labels)
    tifffile.imwrite(
        tmp_path / "data" / "train-volume.tif", (labels // 2 + rng.integers(0, 60, labels.shape)).astype("uint8")
    )
    found = gpu.parser().parse_args(
        ["--out", str(tmp_path), "--data", str(tmp_path / "data"), "--minutes", "0.01", "--seconds", "600"]
    )
    (
        found.command,
        found.tile,
        found.base_channels,
        found.probe,
        found.picture,
        found.picture_tile,
        found.part_seconds,
        found.steps,
        found.trial,
        found.section,
    ) = "a test", 204, 1, 64 * 20, 20, 204, 0.01, 11, 20, 60
    return found


def test_every_part_runs_and_is_reported(options, monkeypatch, tmp_path):
    monkeypatch.setattr(
        gpu_speed,
        "torch_peer",
        lambda mode, task, *_: (
            dict(error="no GPU")
            if "compile" in mode
            else dict(layers=[])
            if task == "layers"
            else dict(train_ms=5.0, train_times_ms=[5.0], peak_bytes=1, version="2")
        ),
    )
    monkeypatch.setattr(gpu_correct.cublas, "batched_matmul", lambda a, b, out: np.matmul(a, b, out=out))
    monkeypatch.setattr(gpu_correct, "GPU_ALGORITHMS", {})
    monkeypatch.setattr(gpu_speed, "layers", lambda tile: [(8, 1, 2, 3), (8, 2, 2, 1)])
    monkeypatch.setattr(gpu_speed, "VARIANTS", {"im2col tf32": ("im2col", "tf32", {})})
    monkeypatch.setattr(gpu_speed, "BY_WARPGROUPS", {"naive": ("naive", "bf16", dict(WGMMA=True))})
    # recorded steps are for GPUs: tests/test_cuda_graph.py
    monkeypatch.setattr(training, "recorded_step", lambda net, optimizer, clip: lambda *batch: np.zeros(2))
    parts = [name for name in gpu.PARTS if not name.startswith(("npunet bf16", "npunet float32"))]
    found = gpu.run(options, lambda name, options: gpu.here(name, options, Cpu()), parts)
    assert list(found) == parts
    assert not [part["error"] for part in found.values() if isinstance(part.get("error"), str)]
    # NumPy against NumPy
    assert max(found["operations"]["errors"].values()) == 0 and not found["operations"]["too_large"]
    assert found["training steps"]["error"] == 0 and found["training steps"]["error_after_moving"] == 0
    assert (
        found["PyTorch otherwise"]["PyTorch TF32 compiled"] == {"error": "no GPU"}
        and found["npunet TF32"]["train_ms"] > 0
        and found["npunet TF32"]["segmentation_512_ms"] > 0
    )
    layers, step = found["profile"]["TF32"]["layers"], found["profile"]["TF32"]["step_ms"]
    assert (
        min(layers["contracting.0.conv1"]) > 0
        and layers["contracting.0.dropout"][0] < step
        and "| expansive.0.concat |" in (tmp_path / "report.md").read_text()
    )
    assert found["tiles"].keys() == {"steps a second, w0 = 0", "steps a second, w0 = 10"}
    assert found["isbi"]["steps"] >= 12 and 0 <= found["isbi"]["scores"]["v_rand"] <= 1
    assert json.loads((tmp_path / "results.json").read_text())["parts"].keys() == found.keys()
    text = (tmp_path / "report.md").read_text()
    assert "| 512 x 512 ms | 8 |" in text and "8x1x2x3" in text and "| im2col tf32 | naive |" in text
    assert "WGMMA should be: False" in text and not tensor_core_blocks.WGMMA
    files = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert files == ["held_out.npz", "isbi.png", "report.md", "results.json"]


def test_a_part_that_fails_is_recorded_and_the_next_one_runs(options, tmp_path):
    def fails(device, options):
        raise ValueError("two\nlines")

    parts = {"first": fails, "second": lambda *_: dict(value=1.5), "late": fails}
    begin = lambda name, options: gpu.here(name, options, Cpu(), parts)
    found = gpu.run(options, begin, ["first", "second"])
    assert found == {"first": {"error": "ValueError: two"}, "second": {"value": 1.5}}
    assert (
        "failed: ValueError: two" in (tmp_path / "report.md").read_text()
        and "- value: 1.5" in (tmp_path / "report.md").read_text()
    )
    options.seconds = 10
    assert gpu.run(options, begin, ["late"]) == {"late": {"error": "skipped, out of time"}}


@pytest.mark.parametrize(
    "end, error",
    [
        ("os.abort()", "its process ended with status -6"),
        ("sys.exit()", None),
        ("time.sleep(60)", "its process was late and was ended"),
    ],
)
def test_a_part_that_takes_its_process_down_keeps_its_rows(options, tmp_path, monkeypatch, end, error):
    """As an illegal address does on a GPU: the process is lost, what it wrote is not, and the next part runs."""
    program = tmp_path / "part.py"
    program.write_text(
        f"import os, sys, time\nopen({str(tmp_path / 'part.json')!r}, 'w').write('{{\"train_ms\": 5.0}}')\n{end}\n"
    )
    options.given, options.reserved, options.time_left = [], 0, lambda: 0.0
    found = gpu.apart("npunet TF32", options, (sys.executable, str(program)))
    assert found == dict(train_ms=5.0) | ({} if error is None else dict(error=error))
    assert not (tmp_path / "part.json").exists()


def test_a_part_alone_writes_each_row(options, tmp_path, monkeypatch):
    def part(device, options):
        options.keep(dict(first=1))
        raise ValueError("illegal address")

    monkeypatch.setattr(gpu, "Gpu", Cpu)
    monkeypatch.setitem(gpu.PARTS, "machine", part)
    gpu.main(["--alone", "machine", "--seconds", "100", "--out", str(tmp_path)])
    assert json.loads((tmp_path / "part.json").read_text()) == {"first": 1, "error": "ValueError: illegal address"}


def test_a_report_that_fails_stops_nothing(options, tmp_path):
    parts = {"layers": lambda *_: dict(unexpected=object()), "next": lambda *_: dict(value=2)}
    found = gpu.run(options, lambda name, options: gpu.here(name, options, Cpu(), parts), parts)
    found["layers"]["unexpected"] = str(found["layers"]["unexpected"])  # what is no number is written as text
    assert list(found) == ["layers", "next"] and json.loads((tmp_path / "results.json").read_text())["parts"] == found
    assert (tmp_path / "report.md").read_text() == "no report: KeyError: 'rows'; results.json has everything"


def test_what_was_promised_is_compared_with_what_was_measured():
    found = {
        "PyTorch": {"PyTorch TF32": dict(train_ms=10.0), "PyTorch float32": dict(train_ms=11.0)},
        "npunet TF32": dict(train_ms=13.0, train_without_waiting_ms=12.0, segmentation_512_ms=16.0),
        "npunet float32": dict(train_ms=11.5),
        "tiles": {"steps a second, w0 = 0": 61.0},
        "isbi": dict(scores=dict(v_rand=0.98, v_info=0.98)),
    }
    assert [(name, reached) for name, _, _, reached in gpu_report.bars(found)] == [
        ("TF32 step over PyTorch's", True),
        ("float32 step over PyTorch's", False),
        ("steps a second, tiles drawn", True),
        ("512 x 512 ms", False),
        ("v_rand", True),
        ("v_info", False),
    ]
    assert gpu_report.bars({}) == [] and gpu_report.bars({"PyTorch": {"error": "x"}}) == []


def test_the_layer_table_says_where_winograd_wins():
    row = lambda size, mine, other: dict(
        layer=[size, 64, 128, 3], ms={"winograd_cuda float32": [1, mine], "tensor_cores tf32": [1, other]}
    )
    assert gpu_speed.winograd_wins([row(10, 1.0, 2.0), row(12, 1.0, 1.2), row(20, 1.0, 1.04)]) == {(64, 128): 100}
    assert gpu_speed.winograd_wins([dict(layer=[9, 1, 2, 3], skipped="out of time")]) == {}


def test_the_layer_table_says_which_settings_win():
    titles = [title for title in gpu_speed.VARIANTS if title.startswith("tensor_cores tf32")]
    assert len(titles) > 3 and all(
        hasattr(tensor_core_blocks, name) for row in gpu_speed.VARIANTS.values() for name in row[2]
    )
    row = lambda **ms: dict(ms={title: [1, ms.get(title.split()[-1], 2.0)] for title in titles})
    rows = [row(tf32=1.5, warps=1.75), row(warps=1.0), dict(skipped="out of time"), dict(ms={titles[0]: "an error"})]
    said = gpu_speed.best_settings(rows, "tf32")
    assert (
        said.startswith("WARPS = 8, SLABS = 2 (as it is 3.50 ms") and "8 warps 2.75 ms" in said and "2 layers" in said
    )
    assert gpu_speed.best_settings([row(tf32=1.5)], "tf32").startswith("as it is (as it is 1.50 ms")
    assert gpu_speed.best_settings([], "bf16") == "not measured"


def test_the_layer_table_says_whether_wgmma_wins():
    both = "tensor_cores bf16 wgmma", "tensor_cores bf16"
    row = lambda *times: dict(ms={name: [1, time] for name, time in zip(both, times)})
    assert gpu_speed.wgmma_wins([row(1.0, 2.0), row(2.0, 1.5), dict(skipped="out of time")])
    assert not gpu_speed.wgmma_wins([row(1.0, 2.0), row(2.0, 1.05)])
    assert not gpu_speed.wgmma_wins([dict(ms={both[0]: "RuntimeError: illegal instruction", both[1]: [1, 2.0]})])
    assert not gpu_speed.wgmma_wins([])


def test_a_peer_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(
        gpu_speed.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, stdout="", stderr="")
    )
    assert gpu_speed.torch_peer("tf32", "steps", 188, 1, 1, 5) == {"error": "ended without an answer"}

    def late(command, **keywords):
        raise subprocess.TimeoutExpired(command, keywords["timeout"])

    monkeypatch.setattr(gpu_speed.subprocess, "run", late)
    assert gpu_speed.torch_peer("tf32", "steps", 188, 1, 1, 5) == {"error": "no answer within 5 s"}
    assert gpu_speed.torch_peer("tf32", "steps", 188, 1, 1, -20) == {"error": "skipped, out of time"}


def test_a_peer_that_is_late_is_believed_as_far_as_it_came(monkeypatch):
    run, before = (
        subprocess.run,
        [sys.executable, "-c", "import time; print('{\"train_ms\": 5.0}', flush=True); time.sleep(60)"],
    )
    monkeypatch.setattr(gpu_speed.subprocess, "run", lambda command, **keywords: run(before, **keywords))
    assert gpu_speed.torch_peer("tf32", "steps", 188, 1, 1, 3) == {"train_ms": 5.0}


def test_the_peers_leave_time_for_the_training(options, monkeypatch):
    monkeypatch.setattr(gpu, "write", lambda found, options: None)
    options.minutes, options.seconds, seen = 2.5, 480, []
    begin = lambda name, options: seen.append((options.reserved, round(options.time_left() / 10))) or {}
    gpu.run(options, begin, ["PyTorch", "isbi", "layers"])
    assert seen == [(210, 48), (0, 48), (0, 48)]


def test_without_a_gpu_it_is_one_line_and_status_2():
    if gpu_problem() is None:
        pytest.skip("there is a GPU")
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (
        result.returncode == 2
        and result.stdout == ""
        and len(result.stderr.splitlines()) == 1
        and "benchmarks.gpu: CuPy" in result.stderr
    )


def test_the_plan_for_a_gpu_in_a_dry_run(tmp_path):
    """Every command of benchmarks/gpu_run is begun as it will be, without a GPU: files, options, limits are right.

    At most 8 files come back from the machine that is lent, 16 MiB each: so all is in one archive.
    """
    out = tmp_path / "out"
    result = subprocess.run(
        ["bash", "benchmarks/gpu_run/all.sh"],
        cwd=ROOT,
        env=os.environ | dict(DRY="1", OUT=str(out), WORK=str(tmp_path / "work"), PYTHON=sys.executable),
        capture_output=True,
        text=True,
        timeout=200,
    )
    text = result.stdout + result.stderr
    assert result.returncode == 0, text
    assert "Traceback" not in text and "rror" not in text and "no tests" not in text, text
    for words in ("tf32 graph dry: ", "against_float64", "npunet TF32 graph", "layers: ", "isbi: ", "all.tgz"):
        assert words in text, text
    limits = [int(seconds) for seconds in re.findall(r"at most (\d+) s", text)]
    assert len(limits) == 5 and sum(limits) + 5 * (2 + 5) <= 600  # one call of ten minutes, even if each is killed
    back = [path.name for path in out.iterdir()]
    assert sorted(back) == ["0.log", "1.log", "2.log", "3.log", "4.log", "all.tgz"]
    with tarfile.open(out / "all.tgz") as archive:
        packed = {Path(name).name for name in archive.getnames()}
    assert {"0-tf32-graph.log", "1-against_float64.log", "1-sixteen_bits.log", "1-operations.log", "4.log"} <= packed


def test_the_plan_stops_where_nothing_runs(tmp_path):
    """Without a GPU, and not dry: no step is made, so the device's time is not spent on the rest."""
    if gpu_problem() is None:
        pytest.skip("there is a GPU")
    result = subprocess.run(
        ["bash", "benchmarks/gpu_run/all.sh"],
        cwd=ROOT,
        env=os.environ | dict(OUT=str(tmp_path / "out"), WORK=str(tmp_path / "work"), PYTHON=sys.executable),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 9 and "nothing runs" in result.stdout and "1-right" not in result.stdout
    assert (tmp_path / "out" / "all.tgz").exists()


def test_a_part_that_is_not_known(monkeypatch):
    monkeypatch.setattr(gpu.backend, "gpu_problem", lambda: None)
    with pytest.raises(InputError, match="--parts speed is not known"):
        gpu.main(["--parts", "speed"])


def test_the_profile_counts_every_launch(gpu, emulated, monkeypatch):
    """On a clock that ticks once at each look, a layer's time is the number of looks within;
    afterwards nothing is left of the wrapping.
    """
    from npunet import unet
    from npunet.gpu import cuda
    from npunet.layers import Convolution

    ticks = itertools.count()
    device = SimpleNamespace(mark=lambda: next(ticks), between=lambda start, stop: stop - start)
    monkeypatch.setattr(unet, "resolve_device", lambda name: name)
    monkeypatch.setattr(unet, "to_device", lambda x, device: gpu.asarray(x))
    net, launch = unet.UNet(1, 2, 8, 1, device="gpu"), cuda.CudaFile.launch
    x = gpu.asarray(np.zeros((1, 20, 20, 1), "float32"))
    found = where_time_goes(device, net, lambda: net.forward(x, train=True), runs=2)
    assert (
        found["layers"]["output"] == [1, 0]
        and found["kernels"]["widen"] == [1, 1]
        and found["kernels"]["batched_matmul"][0] == 5
    )
    assert found["step_ms"] == 1 + 2 * sum(count for count, _ in found["kernels"].values())
    assert cuda.CudaFile.launch is launch and type(net.output) is Convolution and "forward" not in vars(net.output)
