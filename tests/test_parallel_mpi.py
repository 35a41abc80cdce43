"""`mpiexec -n N python -m npunet.train`: real processes, with MPI through mpi4py."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rank_kills
import torture
from mpi_helpers import ENVIRONMENT, MPIEXEC

pytestmark = pytest.mark.skipif(
    MPIEXEC is None, reason='mpiexec is not installed; pip install "npunet[mpi]" adds mpi4py and MPICH'
)
pytest.importorskip("mpi4py", reason='mpi4py is not installed; pip install "npunet[mpi]" adds it')
OPTIONS = "--data synthetic --base-channels 2 --depth 2 --tile 60 --evaluate-every 4".split()


def command(ranks, *arguments):
    start = [MPIEXEC, "-n", str(ranks)] if ranks > 1 else []
    return [*start, sys.executable, "-m", "npunet.train", *map(str, arguments)]


def train(ranks, *arguments):
    return subprocess.run(command(ranks, *arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


def arrays(folder):
    with np.load(folder / "newest.npz") as file:
        return {name: file[name] for name in file.files if file[name].dtype.kind == "f"}


def test_ranks_equal_the_big_batch_repeat_to_the_bit_and_go_on_with_another_number(tmp_path):
    alone = train(1, *OPTIONS, "--steps", 8, "--batch", 4, "--out", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    for folder in ("four", "again"):
        done = train(4, *OPTIONS, "--steps", 8, "--out", tmp_path / folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("best held-out scores") == 1  # rank 0 alone speaks
        assert "4 processes, 4 tiles a step" in done.stdout
    big, four, again = (arrays(tmp_path / folder) for folder in ("alone", "four", "again"))
    assert all(np.array_equal(four[name], again[name]) for name in four)
    for name, array in big.items():
        np.testing.assert_allclose(four[name], array, rtol=1e-4, atol=1e-6, err_msg=name)
    done = train(2, "--resume", tmp_path / "four", "--steps", 12, "--batch", 2)
    assert done.returncode == 0 and "going on from step 8" in done.stdout, done.stderr
    done = train(1, "--resume", tmp_path / "alone", "--steps", 12)
    assert done.returncode == 0, done.stderr
    two, one = arrays(tmp_path / "four"), arrays(tmp_path / "alone")
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-3, atol=1e-5, err_msg=name)


def test_an_error_is_one_line_and_status_2(tmp_path):
    done = train(2, "--data", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert done.returncode == 2 and done.stderr.count("error: ") == 1, done.stderr
    done = train(2, *OPTIONS, "--loss", "cross-entropy+dice", "--out", tmp_path / "run")
    assert done.returncode == 2 and "give --loss cross-entropy, or start one process" in done.stderr


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc, which only Linux has")
def test_a_killed_rank_ends_all_and_the_run_goes_on_to_the_same_bits(tmp_path):
    """The short form of `tests/torture.py --ranks 10`."""
    kills, number = rank_kills.chains(tmp_path, torture.data(tmp_path), 1, random.Random(0))
    assert sum(kills) == number == 1
