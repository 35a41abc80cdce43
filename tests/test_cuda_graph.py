"""A recorded training step: the same losses and weights, bit by bit, as one that is not; and what it refuses.

The stand-in records as a GPU does: nothing happens while it does, and what a CUDA graph forbids is refused.
"""

import numpy as np
import pytest
from conftest import poisoned
from cuda_on_cpu import networks_live_on

from npunet import optimizers, unet
from npunet.errors import InputError
from npunet.gpu import cublas
from npunet.machine.backend import to_cpu
from npunet.training import recorded_step, training_step

OPTIMIZERS = {
    "adam": lambda p: optimizers.Adam(p, 1e-3),
    "sgd": lambda p: optimizers.SGD(p, 1e-2, momentum=0.9),
}


@pytest.fixture
def gpu(gpu, monkeypatch):
    """Networks with device="gpu" live on the stand-in, where there is no GPU; TF32 is on.

    The stand-in's `empty` is filled by an assignment too, as it is on a device: a recorded one would be replayed.
    """
    networks_live_on(gpu, monkeypatch, "npunet.training")
    monkeypatch.setattr(gpu, "empty", poisoned(gpu.empty))
    monkeypatch.setattr(cublas, "_precision", "tf32")
    return gpu


def batches(gpu, rng, net, size, count):
    output = net.output_size(size)
    for _ in range(count):
        yield (
            gpu.asarray(rng.standard_normal((1, size, size, 1)).astype("float32")),
            gpu.asarray(rng.integers(0, 2, (1, output, output))),
            gpu.asarray(rng.random((1, output, output), dtype="float32") + np.float32(0.5)),
        )


@pytest.mark.parametrize("name, loss", [("adam", "cross-entropy+dice"), ("sgd", "cross-entropy")])
def test_a_recorded_step_is_the_same_step(gpu, rng, name, loss):
    """Drop-out's keys, the learning rate and Adam's factors change from step to step; two steps are not recorded."""
    nets = [unet.UNet(1, 2, 16, 1, device="gpu", seed=3) for _ in range(2)]
    first, second = (OPTIMIZERS[name](net.parameters) for net in nets)
    replayed, reports = recorded_step(nets[1], second, 0.5, loss), []
    for number, batch in enumerate(batches(gpu, rng, nets[0], 20, 4)):
        first.learning_rate = second.learning_rate = 1e-2 / (number + 1)
        expected = training_step(nets[0], first, *batch, clip=0.5, loss=loss, wait=False)
        reports.append((replayed(*batch), expected))
        assert first.steps == second.steps == number + 1
    for mine, expected in reports:  # read at the end: a replay does not write over an older report
        np.testing.assert_array_equal(to_cpu(mine), to_cpu(expected))
    assert len({float(to_cpu(mine)[0]) for mine, _ in reports}) == 4
    for name, parameter in nets[0].parameters.items():
        np.testing.assert_array_equal(to_cpu(nets[1].parameters[name].value), to_cpu(parameter.value), err_msg=name)


def test_what_a_graph_cannot_hold_is_refused(gpu, rng, monkeypatch):
    with pytest.raises(InputError, match="^--graph needs --device gpu; leave it out$"):
        recorded_step(unet.UNet(1, 2, 4, 1), None)
    with pytest.raises(InputError, match="^--graph cannot be used with batch normalisation; leave it out$"):
        recorded_step(unet.UNet(1, 2, 4, 1, variant="pytorch-unet", device="gpu"), None)
    monkeypatch.setattr(cublas, "_precision", "float32")
    net = unet.UNet(1, 2, 16, 1, device="gpu")
    replayed = recorded_step(net, optimizers.SGD(net.parameters, 1e-2))
    with pytest.raises(
        InputError, match="^--graph: this step calls cuBLAS, which CuPy cannot record; give --precision"
    ):
        for batch in batches(gpu, rng, net, 20, 3):
            replayed(*batch)


@pytest.mark.parametrize(
    "forbidden, message",
    [
        (lambda gpu, x: float(x.sum()), "the host waits for the device"),
        (lambda gpu, x: x.get(), "the host waits for the device"),
        (lambda gpu, x: gpu.asarray(np.ones(2)), "a copy from the host"),
    ],
)
def test_the_stand_in_holds_what_a_graph_forbids(emulated, forbidden, message):
    x = emulated.asarray(np.ones(3))
    with pytest.raises(RuntimeError, match=f"{message} while a step is recorded"):
        emulated.record(lambda: forbidden(emulated, x))


def test_the_stand_in_does_nothing_while_it_records(emulated):
    x = emulated.asarray(np.arange(3.0))

    def body():
        y = x * 2 + 1
        x[1:] = y[:2]
        return y

    tape, y = emulated.record(body)
    assert np.isnan(to_cpu(y)).all() and list(to_cpu(x)) == [0, 1, 2]
    for do in tape:
        do()
    assert list(to_cpu(y)) == [1, 3, 5] and list(to_cpu(x)) == [0, 1, 3]
