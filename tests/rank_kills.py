"""Kills of one rank of `mpiexec -n 2 python -m npunet.train`, for tests/torture.py and tests/test_parallel_mpi.py."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from mpi_helpers import ENVIRONMENT, MPIEXEC, ranks_of

from npunet.files import checkpoint

RANKS, WITHIN = 2, 10  # processes of a training; seconds in which all of them have ended after the kill of one
HANG = 240  # seconds of a training that nobody kills


def bits(folder):
    """{name: bytes} of the arrays of the newest checkpoint: weights, and the state of the optimiser."""
    entries = checkpoint.load(folder / "newest.npz")
    return {name: np.asarray(array).tobytes() for name, array in entries.items() if name != "header"}


def start(words, log):
    """mpiexec with its ranks; what they say goes into the file `log`."""
    command = [MPIEXEC, "-n", str(RANKS), sys.executable, "-m", "npunet.train", *map(str, words)]
    with open(log, "w") as file:
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT)


def finish(words, log):
    """A training that nobody kills; the processor time of one rank, in seconds."""
    before, running = os.times().children_user, start(words, log)
    try:
        assert running.wait(HANG) == 0, Path(log).read_text()
    finally:
        running.kill()
    return (os.times().children_user - before) / RANKS


def computed(process):
    """Seconds that a process has computed; None if it is gone."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return None


def kill_one(running, folder, rank, seconds, late):
    """Kills this rank once it has computed for so many seconds. Returns whether it lived so long.

    late: not before there is a checkpoint. AssertionError if mpiexec or a rank is still there ten seconds later.
    """
    limit, ranks, checkpoint_of = time.monotonic() + HANG, [], folder / "newest.npz"
    while len(ranks) < RANKS or (computed(ranks[rank]) or 0) < seconds or (late and not checkpoint_of.exists()):
        assert time.monotonic() < limit, "a run hangs"
        if running.poll() is not None:
            return False
        time.sleep(0.005)
        ranks = ranks if len(ranks) == RANKS else ranks_of("npunet.train", folder)
    os.kill(ranks[rank], signal.SIGKILL)
    limit = time.monotonic() + WITHIN
    assert running.wait(WITHIN) != 0
    while left := ranks_of("npunet.train", folder):
        assert time.monotonic() < limit, f"ranks {left} live on after a kill of rank {rank}"
        time.sleep(0.05)
    return True


def chains(root, words, count, rng):
    """(kills of each rank, number of chains): a chain is one training, killed and resumed until it is done.

    AssertionError if a checkpoint does not load, somebody hangs, or a network has other bits than that of a training
    which nobody killed. words: the arguments of npunet.train without --out. The first kill of all comes as soon as
    there is a checkpoint; the others come at any moment, half of them not before that.
    """
    whole = finish([*words, "--out", root / "straight_ranks"], root / "log")
    expected, kills, number = bits(root / "straight_ranks"), [0] * RANKS, 0
    while sum(kills) < count or number == 0:
        folder, done = root / f"ranks{number}", False
        while not done:
            resume = (folder / "newest.npz").exists()
            if not resume:
                shutil.rmtree(folder, ignore_errors=True)
            arguments = ["--resume", folder] if resume else [*words, "--out", folder]
            if sum(kills) >= count:
                finish(arguments, root / "log")
                break
            rank, running = rng.randrange(RANKS), start(arguments, root / "log")
            try:
                first, seconds = not sum(kills), rng.uniform(0, whole)
                killed = kill_one(running, folder, rank, 0 if first else seconds, first or rng.random() < 0.5)
            finally:
                running.kill()
            said = (root / "log").read_text()
            assert "Traceback" not in said and (killed or running.returncode == 0), said
            kills[rank] += killed
            for path in folder.glob("[!.]*.npz"):
                checkpoint.load(path)
            done = not killed
        assert bits(folder) == expected, f"{folder} has other bits than a training that nobody killed"
        number += 1
    return kills, number
