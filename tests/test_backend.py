"""Devices: the arrays decide, a missing GPU is explained in one line, only three files import CuPy and nothing
PyTorch.
"""

import ast
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import strict_array

import npunet
from npunet.errors import InputError
from npunet.gpu import cuda
from npunet.machine import backend

PACKAGE = Path(npunet.__file__).parent


def imported_packages(path):
    """Top-level names of everything that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (
                argument.value.partition(".")[0]
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


def test_who_imports_what():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 15
    importers = {
        name: {str(path.relative_to(PACKAGE)) for path in files if name in imported_packages(path)}
        for name in ("cupy", "torch", "torchvision", "tensorflow", "jax", "skimage", "numpy")
    }
    assert importers.pop("cupy") == {"machine/backend.py", "gpu/cuda.py", "gpu/cublas.py"}
    assert len(importers.pop("numpy")) > 5  # the scan does see imports
    assert importers == dict.fromkeys(importers, set())


def test_importing_npunet_needs_neither_gpu_nor_cupy_nor_torch():
    program = (
        "import sys\n"
        "for name in ('cupy', 'torch', 'skimage'): sys.modules[name] = None      # importing them now raises "
        "ImportError\n"
        "import npunet; net = npunet.UNet(base_channels=2, depth=1)\n"
        "print(net.n_parameters)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr


def test_the_array_decides():
    assert backend.array_module(np.zeros(2)) is np and backend.device_of(np.zeros(2)) == "cpu"
    x = strict_array.asarray([1.0, 2.0])
    assert backend.array_module(x) is strict_array and backend.device_of(x) == "gpu"
    np.testing.assert_array_equal(backend.to_cpu(x), [1, 2])
    host = np.zeros(2)
    assert backend.to_cpu(host) is host and backend.to_device(host, "cpu") is host


@pytest.mark.gpu
def test_there_and_back(rng):
    problem = backend.gpu_problem()
    if problem:
        pytest.skip(problem)
    host = rng.standard_normal((3, 4)).astype("float32")
    device = backend.to_device(host, "gpu")
    assert backend.device_of(device) == "gpu" and backend.to_device(device, "gpu") is device
    np.testing.assert_array_equal(backend.to_cpu(device), host)


def fake_cupy(monkeypatch, count=1, error=None, **runtime):
    """A module that says what CuPy would say; runtime: what functions of cupy.cuda.runtime return."""

    def get_device_count():
        if isinstance(error, Exception):
            raise error
        return count

    module = types.ModuleType("cupy")
    told = {name: lambda *_, value=value: value for name, value in runtime.items()}
    module.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=get_device_count, **told))
    module.arange = strict_array.arange
    module.get_default_memory_pool = lambda: types.SimpleNamespace(total_bytes=lambda: 0)
    monkeypatch.setattr(backend, "_noted", False)
    monkeypatch.setitem(sys.modules, "cupy", module)


@pytest.mark.parametrize("error", [RuntimeError("no driver\nsecond line"), RuntimeError(), OSError("  ")])
def test_a_gpu_that_cannot_be_used_is_explained_in_one_line(monkeypatch, error):
    fake_cupy(monkeypatch, error=error)
    problem = backend.gpu_problem()
    assert (
        "\n" not in problem
        and "cannot use a GPU" in problem
        and type(error).__name__ in problem
        and "pip install" in problem
    )


def test_no_cupy_no_gpu_and_a_cupy_that_works(monkeypatch):
    fake_cupy(monkeypatch, count=0)
    assert backend.gpu_problem() == "CuPy finds no NVIDIA GPU on this machine"
    fake_cupy(monkeypatch)
    assert backend.gpu_problem() is None
    assert backend.resolve_device("gpu") == backend.resolve_device("auto") == "gpu"
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "not installed" in backend.gpu_problem() and "pip install" in backend.gpu_problem()


def device(name, major, minor):
    return dict(name=name.encode(), major=major, minor=minor)


@pytest.mark.parametrize(
    "runtime, expected",
    [
        (dict(getDeviceProperties=device("Tesla T4", 7, 5), runtimeGetVersion=13000), None),
        (dict(getDeviceProperties=device("Tesla V100", 7, 0), runtimeGetVersion=12080), None),
        (
            dict(getDeviceProperties=device("Tesla V100", 7, 0), runtimeGetVersion=13000),
            "the GPU (Tesla V100, compute capability 7.0) is too old for CUDA 13, which needs 7.5; pip install "
            '"cupy-cuda12x[ctk]" instead',
        ),
        (
            dict(getDeviceProperties=device("Tesla P100", 6, 0), runtimeGetVersion=12080),
            "the GPU (Tesla P100, compute capability 6.0) is too old: npunet needs 7.0; give --device cpu",
        ),
    ],
)
def test_a_gpu_that_is_too_old(monkeypatch, runtime, expected):
    fake_cupy(monkeypatch, **runtime)
    assert backend.gpu_problem() == expected


@pytest.mark.parametrize(
    "error, words",
    [
        (
            "cudaErrorInsufficientDriver: CUDA driver version is insufficient",
            "it knows CUDA 12.2, this CuPy needs 13.0",
        ),
        ("cudaErrorNoDevice: no CUDA-capable device is detected", "CuPy finds no NVIDIA GPU on this machine"),
        ("cudaErrorDevicesUnavailable: all CUDA-capable devices are busy", "another program has the GPU to itself"),
        ("cudaErrorMemoryAllocation: out of memory", "memory is full before anything has begun; end other programs"),
    ],
)
def test_what_an_error_at_the_start_means(monkeypatch, error, words):
    fake_cupy(monkeypatch, error=RuntimeError(error), driverGetVersion=12020, runtimeGetVersion=13000)
    problem = backend.gpu_problem()
    assert words in problem and "\n" not in problem
    with pytest.raises(InputError, match="^--device gpu: "):
        backend.resolve_device("gpu")


def test_no_driver_is_not_an_old_one(monkeypatch):
    error = RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    fake_cupy(monkeypatch, error=error, driverGetVersion=0, runtimeGetVersion=13020)
    assert backend.gpu_problem() == ("CuPy finds no NVIDIA driver on this machine; install one, or give --device cpu")


@pytest.mark.parametrize(
    "count, used, lines",
    [
        (1, 0.5e9, ""),
        (2, 0.5e9, "device gpu: 2 GPUs are here, and the first is used: H100. CUDA_VISIBLE_DEVICES=1 takes another\n"),
        (1, 60e9, "device gpu: 60.0 of 80.0 GB of the GPU's memory are in use by other programs (nvidia-smi"),
    ],
)
def test_what_is_said_about_a_gpu_that_works(monkeypatch, capsys, count, used, lines):
    fake_cupy(monkeypatch, count, getDeviceProperties=device("H100", 9, 0), memGetInfo=(int(80e9 - used), int(80e9)))
    assert backend.resolve_device("gpu") == backend.resolve_device("gpu") == "gpu"
    said = capsys.readouterr().err
    assert said.startswith(lines) and said.count("\n") == bool(lines)  # once, though asked twice


@pytest.mark.parametrize(
    "raised, words",
    [
        ("ImportError('libcuda.so.1 is missing')", "cannot be imported (ImportError: libcuda.so.1"),
        ("AttributeError('numpy')", "cannot be imported (AttributeError"),
        ("ModuleNotFoundError('cupy')", "not installed"),
    ],
)
def test_a_cupy_that_fails_to_import(monkeypatch, tmp_path, raised, words):
    (tmp_path / "cupy.py").write_text(f"raise {raised}")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert words in backend.gpu_problem() and "\n" not in backend.gpu_problem()


def test_auto_falls_back_aloud_and_gpu_refuses(monkeypatch, capsys):
    monkeypatch.setattr(backend, "gpu_problem", lambda: "there is none")
    assert backend.resolve_device("auto") == "cpu"
    assert capsys.readouterr().err == "device auto: using the CPU. there is none\n"
    with pytest.raises(InputError, match="^--device gpu: there is none$"):
        backend.resolve_device("gpu")
    assert backend.resolve_device("cpu") == "cpu" and capsys.readouterr().err == ""
    with pytest.raises(InputError, match="'tpu' is not known"):
        backend.resolve_device("tpu")


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: np.asarray(x),
        lambda x: np.exp(x),
        lambda x: np.sum(x),
        lambda x: np.concatenate([x, x]),
        lambda x: np.ones(3) + x,
        lambda x: x + np.ones(3),
        lambda x: x[np.array([0, 1])],
        lambda x: x.__iadd__(np.ones(3)),
        lambda x: [0, 1][x[0].astype(int)],
        lambda x: strict_array.maximum(x, np.ones(3)),
        lambda x: x.__setitem__(0, np.ones(1)),
        lambda x: np.maximum(np.ones(3), x),
        lambda x: np.ones(3).__iadd__(x),
        lambda x: np.zeros(3).__setitem__(slice(None), x),
        lambda x: range(x[0].astype(int)),
    ],
)
def test_the_stand_in_refuses_what_cupy_refuses(misuse):
    with pytest.raises(TypeError):
        misuse(strict_array.asarray([1.0, 2.0, 3.0]))


def test_the_stand_in_gives_arrays_never_scalars():
    x = strict_array.asarray([1.0, 2.0])
    for result in (x.sum(), x.mean(), x[0], x.max(), x @ x, x[0] * 2, strict_array.sum(x)):
        assert type(result) is strict_array.ndarray and result.shape == ()
    assert float(np.float32(2) * x.sum()) == 6


def test_the_name_of_a_gpu(monkeypatch):
    runtime = types.SimpleNamespace(getDeviceProperties=[{"name": b"Tesla T4"}, {"name": b"another"}].__getitem__)
    module = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert backend.device_name("gpu") == "Tesla T4" and backend.device_name("cpu") is None


def test_the_memory_of_a_recorded_step_counts(monkeypatch):
    """CuPy's own pool does not know of it; it counts as long as the recorded step is there."""
    pool, of_step = (types.SimpleNamespace(total_bytes=lambda size=size: size) for size in (100, 20))
    runtime = types.SimpleNamespace(memGetInfo=lambda: (3, 500))
    module = types.SimpleNamespace(get_default_memory_pool=lambda: pool, cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", module)
    before = backend.peak_memory()
    step = cuda.Captured(None, of_step)
    assert backend.peak_memory() == before + 20
    assert backend.memory_in_all("gpu") == before + 23
    del step
    assert backend.peak_memory() == before
