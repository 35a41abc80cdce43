"""The same bits: what a run's bits must not depend on (docs/reliability.md)."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from test_inspect import healthy

from npunet import UNet
from npunet.files import checkpoint, images

ROOT = Path(__file__).resolve().parent.parent
TRAIN = "--base-channels 2 --depth 1 --tile 44 --steps 3 --evaluate-every 3 --held-out 1 --threads 1 --seed 5"


def test_neither_the_hash_seed_nor_the_folder_one_stands_in_changes_a_bit(tmp_path):
    """Sets of words are ordered by the hash seed. --data and --out are absolute in one run, relative in the other."""
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for sample in healthy(4, size=64).samples:
        images.write_image(tmp_path / "data/images" / sample.name, sample.image)
        images.write_mask(tmp_path / "data/masks" / sample.name, sample.labels)
    (tmp_path / "elsewhere").mkdir()
    runs = []
    for seed, folder, data, out in (
        ("0", tmp_path, tmp_path / "data", tmp_path / "absolute"),
        ("1", tmp_path / "elsewhere", "../data", "relative"),
    ):
        command = [sys.executable, "-m", "npunet.train", "--data", data, "--out", out, *TRAIN.split()]
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        runs.append((folder / out, subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)))
    assert [process.wait(300) for _, process in runs] == [0, 0]
    for name in ("newest.npz", "best.npz"):
        one, other = (checkpoint.load(path / name) for path, _ in runs)
        assert one["header"] == other["header"] and list(one) == list(other)
        assert all(one[key].tobytes() == other[key].tobytes() for key in one.keys() - {"header"}), name


def work(seed, inputs, found, together):
    """Forward and backward passes of a network of this seed; their bits go into `found`."""
    net = UNet(1, 2, 4, 2, seed=seed)
    for x in inputs:
        together.wait(60)
        y = net.forward(x, train=True)
        net.backward(np.cos(y), need_dx=False)
        found.append([y.tobytes(), *(parameter.grad.tobytes() for parameter in net.parameters.values())])


def test_two_networks_used_at_once_in_threads_do_not_disturb_each_other():
    tiles = np.random.default_rng(0).random((2, 5, 1, 60, 60, 1), np.float32)
    alone, at_once, together = ([], []), ([], []), threading.Barrier(2)
    for seed, inputs, found in zip((1, 2), tiles, alone):
        work(seed, inputs, found, threading.Barrier(1))
    workers = [threading.Thread(target=work, args=(*each, together)) for each in zip((1, 2), tiles, at_once)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert alone == at_once and len(alone[0]) == 5
