"""OpenBLAS's kernels on CPUs that are not here: a made-up /proc/cpuinfo, each time in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from npunet.machine import kernels

ROOT = str(Path(__file__).parents[1])
AVX512 = "fpu sse avx avx2 avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512_bf16"
CPU = "processor : 0\nvendor_id : {}\ncpu family : {}\nmodel : 2\nflags : {}\n\nprocessor : 1\nvendor_id : x\n\n"
ZEN_5 = CPU.format("AuthenticAMD", 26, AVX512)
OTHERS = {
    "Zen 4": CPU.format("AuthenticAMD", 25, AVX512),
    "Zen 5 without AVX-512": CPU.format("AuthenticAMD", 26, "fpu sse avx avx2"),
    "AVX-512 in part": CPU.format("AuthenticAMD", 26, AVX512.replace("avx512vl", "")),
    "Intel": CPU.format("GenuineIntel", 6, AVX512),
    "ARM": "processor : 0\nBogoMIPS : 243.75\nFeatures : fp asimd\n",
    "no family": CPU.format("AuthenticAMD", "unknown", AVX512),
    "nothing": "",
}
NUMPY = """import os
print("numpy loaded with", os.environ.get("OPENBLAS_CORETYPE"))
"""


def run_on(cpuinfo, tmp_path, code, **environment):
    """What the code printed on a machine with this /proc/cpuinfo (None: no such file)."""
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    start = (
        "import builtins, sys; real = builtins.open\n"
        f"builtins.open = lambda name, *rest, **named: real({str(path)!r} if name == '/proc/cpuinfo' else name, "
        "*rest, **named)\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != kernels.VARIABLE}
    result = subprocess.run(
        [sys.executable, "-c", start + code],
        env=clean | {"PYTHONPATH": ROOT} | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()


@pytest.fixture
def only_numpy(tmp_path):
    """A stand-in for NumPy that says what OPENBLAS_CORETYPE was when it was loaded."""
    (tmp_path / "numpy.py").write_text(NUMPY)
    return f"sys.path.insert(0, {str(tmp_path)!r})\n"


def test_zen_5_takes_avx_512_and_the_environment_is_as_before(tmp_path, only_numpy):
    code = only_numpy + "import npunet, os; print(os.environ.get('OPENBLAS_CORETYPE'))"
    assert run_on(ZEN_5, tmp_path, code) == ["numpy loaded with SkylakeX", "None"]


@pytest.mark.parametrize("name", [*OTHERS, "no such file"])
def test_nothing_is_done_elsewhere(name, tmp_path, only_numpy):
    """NumPy is not even loaded."""
    code = only_numpy + "import npunet, os; print('numpy' in sys.modules, os.environ.get('OPENBLAS_CORETYPE'))"
    assert run_on(OTHERS.get(name), tmp_path, code) == ["False None"]


@pytest.mark.parametrize("choice", ["Zen", ""])
def test_the_users_choice_is_respected(choice, tmp_path, only_numpy):
    code = only_numpy + "import npunet, os; print('numpy' in sys.modules, repr(os.environ['OPENBLAS_CORETYPE']))"
    assert run_on(ZEN_5, tmp_path, code, OPENBLAS_CORETYPE=choice) == [f"False {choice!r}"]


def test_numpy_that_cannot_be_loaded_leaves_the_environment_as_before(tmp_path, only_numpy):
    (tmp_path / "numpy.py").write_text("raise ImportError('broken')")
    code = only_numpy + "import os\ntry: import npunet\nexcept ImportError as error: print(error, os.environ.get"
    assert run_on(ZEN_5, tmp_path, code + "('OPENBLAS_CORETYPE'))") == ["broken None"]


def test_openblas_obeys(tmp_path):
    """The real NumPy, with other kernels than it would take here: so it does read the variable at that moment."""
    if "openblas" not in kernels.found() or "Nehalem" in kernels.found():
        pytest.skip(f"needs an OpenBLAS that would not take Nehalem's kernels by itself: {kernels.found()}")
    code = (
        "import importlib.util as u\n"
        f"spec = u.spec_from_file_location('kernels', {kernels.__file__!r}); one = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(one); one.KERNELS = 'Nehalem'; one.load_numpy(); print(one.found())"
    )
    (line,) = run_on(ZEN_5, tmp_path, code)
    assert line.endswith("Nehalem")


def test_too_late_is_said_once_numpy_is_there_with_slow_kernels(tmp_path):
    code = (
        "import os; os.environ['OPENBLAS_CORETYPE'] = 'Haswell'; import numpy; del os.environ['OPENBLAS_CORETYPE']\n"
        "from npunet.machine import kernels; print(kernels.too_late())"
    )
    if "openblas" not in kernels.found():
        pytest.skip(f"needs OpenBLAS: {kernels.found()}")
    (line,) = run_on(ZEN_5, tmp_path, code)
    assert "Haswell" in line and "import npunet first, or set OPENBLAS_CORETYPE=SkylakeX" in line
    assert run_on(OTHERS["Zen 4"], tmp_path, code) == ["None"]
    assert run_on(ZEN_5, tmp_path, "import npunet\nfrom npunet.machine import kernels; print(kernels.too_late())") == [
        "None"
    ]


@pytest.mark.parametrize(
    "blas, expected",
    [
        ("openblas 0.3.31 SkylakeX", True),
        ("openblas 0.3.31.188.0 Cooperlake", True),
        ("openblas 0.3.31 Haswell", False),
        ("mkl 2026.0", False),
        ("unknown BLAS", False),
    ],
)
def test_small_products_are_asked_of_the_kernels(monkeypatch, blas, expected):
    monkeypatch.setattr(kernels, "found", lambda: blas)
    kernels.small_products.cache_clear()
    try:
        assert kernels.small_products() is expected
    finally:
        kernels.small_products.cache_clear()
