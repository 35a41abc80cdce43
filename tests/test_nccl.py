"""NCCL's engine on a stand-in for CuPy, against the ring, which is the definition. It has not run on a GPU yet."""

import nccl_tasks
import numpy as np
import pytest

from npunet import InputError, predict
from npunet.gpu import nccl
from npunet.machine import ranks
from npunet.parallel import ring


@pytest.mark.parametrize("by_mpi", [False, True], ids=["variables and a file", "MPI"])
def test_sums_are_those_of_the_ring(tmp_path, by_mpi):
    expected = ring.run(2, nccl_tasks.by_ring)
    found = ring.run(2, nccl_tasks.by_nccl, tmp_path / "id", by_mpi)
    for rank, ((sums, mean), (own_sums, own_mean, handed, called)) in enumerate(zip(expected, found, strict=True)):
        for right, own in zip([*sums, *mean], [*own_sums, *own_mean], strict=True):
            np.testing.assert_array_equal(own, right)
            assert own.dtype == right.dtype and own.shape == right.shape
        assert handed == {"rank": 0}
        assert called == [f"device {rank}", "allReduce", "allReduce", "allReduce", "allReduce"]
    assert list(tmp_path.iterdir()) == []  # the id's file is gone


def test_more_processes_than_gpus_is_one_line(tmp_path):
    found = ring.run(2, nccl_tasks.without_gpus, tmp_path / "id", timeout=30)
    assert found[1] == ("InputError", "process 1 of this machine has no GPU: there are 1; start no more than that")


def test_alone_and_without_a_gpu(monkeypatch, tmp_path):
    assert nccl.join() is False and ranks.size() == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="WORLD_SIZE says that 2 processes were started, but without MPI only GPUs"):
        predict.main(["--model", "net.npz", "--input", "x.png", "--output", str(tmp_path)])
    monkeypatch.setenv("RANK", "one")
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(InputError, match="the variable RANK is 'one'; expected a whole number"):
        nccl.join()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(InputError, match="started without MPI, but NCCL cannot be used .* start them with mpiexec"):
        nccl.join()


def test_the_file_of_the_id(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="several machines need NPUNET_NCCL_ID"):
        nccl.id_file()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert "29500" in nccl.id_file().name
    (tmp_path / "id").touch()
    with pytest.raises(InputError, match="is there already; NPUNET_NCCL_ID names a new file for each run"):
        nccl.shared_by_file((1, 2), tmp_path / "id")
    monkeypatch.setattr(nccl, "PATIENCE", 0.1)
    with pytest.raises(InputError, match="rank 0 has not written it"):
        nccl.shared_by_file(None, tmp_path / "other")
