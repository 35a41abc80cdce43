"""Data-parallel training: n ranks take the steps of one process with the big batch. The engine here is the ring."""

import multiprocessing
import os
import sys
import types

import numpy as np
import parallel_tasks
import pytest

from npunet import InputError, parallel
from npunet.machine import ranks, threads
from npunet.machine.philox import Mask
from npunet.parallel import gradients, ring, start
from npunet.parallel.mpi import MPI
from npunet.parallel.ring import Ring


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_ring_adds_up_and_all_ranks_have_the_same_bits(size):
    results = ring.run(size, parallel_tasks.summed, 10, "float32")
    expected = sum(np.random.default_rng(rank).standard_normal(10) for rank in range(size))
    np.testing.assert_allclose(results[0], expected, rtol=1e-5, atol=1e-6)
    assert {result.tobytes() for result in results} == {results[0].tobytes()}


def test_fewer_numbers_than_ranks_and_what_rank_0_hands_in():
    assert [result.shape for result in ring.run(3, parallel_tasks.summed, 2, "float64")] == [(2,)] * 3
    assert ring.run(3, parallel_tasks.handed) == [{"rank": 0}] * 3


def test_a_rank_that_dies_ends_the_others():
    with pytest.raises(RuntimeError, match="rank [01] ended without a result"):
        ring.run(2, parallel_tasks.die, timeout=20)


@pytest.mark.parametrize("name", ["paper", "pytorch-unet"])
def test_two_ranks_take_the_steps_of_the_big_batch(name):
    """With drop-out, the border weights of Eq. 2, clipping, and batch normalisation over all ranks."""
    results = ring.run(2, parallel_tasks.train_as_rank, name, 6)
    before = threads.get_num_threads()
    threads.set_num_threads(1)
    energies, values = parallel_tasks.train(name, 2, 6)
    threads.set_num_threads(before)
    (first, own), (second, other) = results
    assert first == second and all(np.array_equal(own[key], other[key]) for key in own)
    np.testing.assert_allclose(first, energies, rtol=1e-9)
    for key, value in values.items():
        np.testing.assert_allclose(own[key], value, rtol=1e-6, atol=1e-9, err_msg=key)


def test_a_mask_that_begins_later_is_the_rest_of_the_whole():
    whole = Mask(key=7, rate=0.5).keep((40,))
    for first in (0, 3, 8, 21):
        np.testing.assert_array_equal(Mask(7, 0.5, first).keep((40 - first,)), whole[first:])


def test_a_loss_that_is_no_mean_is_refused_from_two_processes_on(monkeypatch):
    for size, refused in ((1, False), (2, True)):
        monkeypatch.setattr(ranks, "size", lambda: size)
        parallel.check_loss("cross-entropy")
        if refused:
            with pytest.raises(InputError, match="over 2 processes"):
                parallel.check_loss("cross-entropy+dice")
        else:
            parallel.check_loss("cross-entropy+dice")


def test_mpi_hands_out_what_rank_0_has_when_all_have_come():
    """MPI's library is not needed to see what is asked of it."""
    asked = []
    ready = iter((False, True))
    world = types.SimpleNamespace(
        Ibarrier=lambda: types.SimpleNamespace(Test=lambda: asked.append("waited") or next(ready)),
        bcast=lambda thing: asked.append("handed out") or {"of rank 0": True},
    )
    engine = MPI.__new__(MPI)
    engine.world = world
    assert engine.from_first({"own": True}) == {"of rank 0": True}
    assert asked == ["waited", "waited", "handed out"]


def test_one_process_alone(monkeypatch):
    assert ranks.any_of(True) is True and ranks.any_of(False) is False
    for name in start.COUNTS:
        monkeypatch.delenv(name, raising=False)
    slurm = next(name for name in start.COUNTS if name.startswith("SLURM"))
    monkeypatch.setenv(slurm, "4")
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    assert start.processes() == 1
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert start.processes() == 4


@pytest.mark.parametrize(
    "rank, size, variable, expected", [(0, 2, None, 3), (1, 2, None, 3), (1, 9, None, 1), (2, 3, "5", 4)]
)
def test_ranks_share_the_cores_and_the_first_one_speaks(rank, size, variable, expected, monkeypatch):
    monkeypatch.setattr(ranks, "rank", lambda: rank)
    monkeypatch.setattr(ranks, "on_this_machine", lambda: size)
    monkeypatch.setattr(threads, "default_num_threads", lambda: 6)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    before = sys.stdout
    threads.set_num_threads(4)
    start.settle()
    assert threads.get_num_threads() == expected
    assert (sys.stdout is before) == (rank == 0)
    if rank:
        assert sys.stdout.name == os.devnull
        sys.stdout.close()


def test_what_the_first_rank_has_goes_once_around_the_ring():
    size = 4
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(size)]  # pipe r leads from rank r to rank r + 1
    for rank in range(size):
        ring = Ring(rank, size, pipes[rank - 1][0], pipes[rank][1])
        assert rank == 0 or ring.left.poll()
        assert ring.from_first({"seed": 3} if rank == 0 else None) == {"seed": 3}
    assert not any(reader.poll() for reader, _ in pipes)


def test_every_gradient_and_the_energy_become_the_mean_of_the_ranks(monkeypatch):
    grads = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([7.0])}
    parameters = {name: types.SimpleNamespace(grad=grad) for name, grad in grads.items()}
    energy = np.float64(5)
    assert gradients.average(parameters, energy) is energy
    assert all(parameters[name].grad is grads[name] for name in grads)
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "mean", lambda flat: flat / 2)  # the other rank has zeros
    assert gradients.average(parameters, energy) == 2.5
    for name in grads:
        np.testing.assert_array_equal(parameters[name].grad, grads[name] / 2)
