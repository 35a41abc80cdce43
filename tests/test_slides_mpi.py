"""`mpiexec -n N python -m npunet.predict` on a slide: real processes, with MPI through mpi4py."""

import os
import signal
import subprocess
import sys
import time

import pytest
from mpi_helpers import ENVIRONMENT, MPIEXEC, ranks_of
from slide_helpers import TILE, network, picture, run, write_zarr

pytestmark = [
    pytest.mark.skipif(MPIEXEC is None, reason='mpiexec is not installed; pip install "npunet[mpi]" adds mpi4py'),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
pytest.importorskip("mpi4py", reason='mpi4py is not installed; pip install "npunet[mpi]" adds it')
pytest.importorskip("zarr", reason='zarr is not installed; pip install "npunet[zarr]" adds it')


def command(ranks, model, slide, output):
    words = ["--model", model, "--input", slide, "--output", output, "--tile", TILE]
    return [MPIEXEC, "-n", str(ranks), sys.executable, "-m", "npunet.predict", *map(str, words)]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_rank_ends_all_and_four_go_on_to_what_one_writes(tmp_path):
    network(tmp_path / "net.npz")
    slide = write_zarr(tmp_path / "slide.zarr", picture(420, 430))
    run(tmp_path / "net.npz", slide, tmp_path / "one")
    two = command(2, tmp_path / "net.npz", slide, tmp_path / "many")
    running = subprocess.Popen(two, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    work = tmp_path / "many/.slide.npunet-work"
    try:
        limit = time.monotonic() + 120
        while len(list(work.glob("block-*"))) < 3:
            assert time.monotonic() < limit and running.poll() is None, running.stdout.read()
            time.sleep(0.02)
        os.kill(ranks_of("npunet.predict", tmp_path / "many")[-1], signal.SIGKILL)
        running.communicate(timeout=10)
    finally:
        running.kill()
    assert running.returncode != 0 and ranks_of("npunet.predict", tmp_path / "many") == []
    done = len(list(work.glob("block-*")))
    assert not (tmp_path / "many/slide.zarr").exists() and 3 <= done < 81
    four = command(4, tmp_path / "net.npz", slide, tmp_path / "many")
    found = subprocess.run(four, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("going on with what an earlier run has left") == 1  # rank 0 alone speaks
    assert files(tmp_path / "many") == files(tmp_path / "one")


def test_errors_are_one_line(tmp_path):
    network(tmp_path / "net.npz")
    (tmp_path / "slide.zarr").mkdir()
    done = subprocess.run(
        command(2, tmp_path / "net.npz", tmp_path / "slide.zarr", tmp_path / "out"),
        env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("error: ") == 1, done.stderr
    assert "slide.zarr: cannot be read as OME-Zarr" in done.stderr
