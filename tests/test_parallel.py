"""Data-parallel training: n ranks take the steps of one process with the big batch. The engine here is the ring."""

import types

import numpy as np
import parallel_tasks
import pytest

from npunet import InputError, parallel
from npunet.machine import ranks, threads
from npunet.machine.philox import Mask
from npunet.parallel import ring
from npunet.parallel.mpi import MPI


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
    for start in (0, 3, 8, 21):
        np.testing.assert_array_equal(Mask(7, 0.5, start).keep((40 - start,)), whole[start:])


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
