"""Style transfer through the CUDA kernels on a CPU (cuda_on_cpu.py), against NumPy;
and what crosses the bus meanwhile.
"""

import numpy as np
import pytest
from cuda_on_cpu import networks_live_on

from npunet.gpu import cuda
from npunet.machine.backend import to_cpu
from npunet.optimizers import SGD, Adam
from npunet.style import VGG, Generator, Objective, generator_step, optimize_picture, vgg


@pytest.fixture
def gpu(gpu, monkeypatch):
    """The strict stand-in for CuPy, as in test_cuda_training.py;
    and a VGG narrow enough for it, wide enough for Winograd.
    """
    networks_live_on(gpu, monkeypatch, "npunet.style.vgg", "npunet.style.generator", "npunet.style.direct")
    monkeypatch.setattr(vgg, "resolve_device", lambda name: name)
    monkeypatch.setattr(vgg, "CHANNELS", (8, 8, 16, 16, 16))
    return gpu


def picture(seed, height=32, width=32):
    return np.random.default_rng(seed).random((1, height, width, 3), dtype=np.float32)


def objective(place, device, **options):
    return Objective(VGG.random(device=device), style_weight=1e3, variation_weight=0.1, **options).set_style(
        place(picture(1, 24, 40))
    )


def test_vgg_there_and_back(gpu, rng):
    layers = ("conv1_2", "conv3_4", "conv5_1")
    mine, other = VGG.random(device="gpu"), VGG.random()
    found, expected = mine.forward(gpu.asarray(picture(0)), layers), other.forward(picture(0), layers)
    for name in layers:
        np.testing.assert_allclose(to_cpu(found[name]), expected[name], rtol=0, atol=1e-5 * abs(expected[name]).max())
    gradients = {name: rng.standard_normal(expected[name].shape).astype("float32") for name in layers}
    dx, wanted = (
        mine.backward({name: gpu.asarray(gradient) for name, gradient in gradients.items()}),
        other.backward(gradients),
    )
    np.testing.assert_allclose(to_cpu(dx), wanted, rtol=0, atol=2e-5 * abs(wanted).max())


@pytest.mark.parametrize("bilinear", [True, False])
def test_generator_steps(gpu, emulated, bilinear, monkeypatch):
    """Three steps on either device; on the way nothing comes to the host but the terms of the loss."""
    generators = [Generator(8, 2, bilinear=bilinear, device=device, seed=4) for device in ("gpu", "cpu")]
    places = gpu.asarray, np.asarray
    objectives = [objective(place, device) for place, device in zip(places, ("gpu", "cpu"))]
    # Not Adam: it moves a parameter by as much as any other where its gradient is nothing but rounding.
    # The rate leaves the tanh in its middle: at its ends, rounding turns a pixel from 0 to 1.
    optimizers = [SGD(generator.net.parameters, 0.002, momentum=0.9) for generator in generators]
    before = {name: parameter.value.copy() for name, parameter in generators[1].net.parameters.items()}
    contents = [place(picture(2)) for place in places]
    targets = [one.content_targets(content) for one, content in zip(objectives, contents)]
    launched, scalars = set(), []
    launch, to_float = cuda.CudaFile.launch, gpu.ndarray.__float__
    monkeypatch.setattr(
        cuda.CudaFile,
        "launch",
        lambda self, name, *rest, **keywords: launched.add(name) or launch(self, name, *rest, **keywords),
    )
    for step in range(3):
        with monkeypatch.context() as during:
            during.setattr(gpu.ndarray, "get", lambda self: pytest.fail("an array came to the host"))
            during.setattr(gpu.ndarray, "__bool__", lambda self: pytest.fail("the host waited for a comparison"))
            during.setattr(gpu.ndarray, "__float__", lambda self: scalars.append(self.size) or to_float(self))
            mine = generator_step(generators[0], objectives[0], optimizers[0], contents[0], targets[0])
        other = generator_step(generators[1], objectives[1], optimizers[1], contents[1], targets[1])
        assert mine.keys() == other.keys() == {"total", "content", "style", "variation"}
        np.testing.assert_allclose(list(mine.values()), list(other.values()), rtol=1e-4)
    assert scalars == [1] * 9  # content, style and variation of three steps
    assert launched >= {
        "input_transform",
        "output_transform",
        "gradient_transform",
        "weight_gradient",
        "widen",
        "narrow",
        "tap_sums",
        "mask_and_sum",
        "max_pool",
        "max_pool_backward",
        "sgd",
    }
    for name, parameter in generators[1].net.parameters.items():
        there = to_cpu(generators[0].net.parameters[name].value)
        # of how far it went
        assert np.linalg.norm(there - parameter.value) <= 2e-3 * np.linalg.norm(parameter.value - before[name]), name
    whole = picture(3, 37, 43)[0]  # a size of its own
    np.testing.assert_allclose(generators[0].paint(whole), generators[1].paint(whole), atol=5e-3)


def test_a_loss_that_is_not_finite_leaves_the_parameters(gpu):
    generator = Generator(8, 2, device="gpu")
    before = {name: to_cpu(parameter.value) for name, parameter in generator.net.parameters.items()}
    with np.errstate(all="ignore"):
        terms = generator_step(
            generator,
            objective(gpu.asarray, "gpu"),
            Adam(generator.net.parameters, 1e-3),
            gpu.asarray(np.inf * picture(2)),
        )
    assert not np.isfinite(terms["total"])
    for name, parameter in generator.net.parameters.items():
        np.testing.assert_array_equal(to_cpu(parameter.value), before[name])


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_direct_optimisation(gpu, method):
    start, found = picture(5), []
    for place, device in ((gpu.asarray, "gpu"), (np.asarray, "cpu")):
        losses = []
        last = optimize_picture(
            objective(place, device),
            place(picture(2)),
            place(start),
            3,
            method,
            report=lambda step, terms, picture: losses.append(terms["total"]),
        )
        found.append((losses, to_cpu(last)))
    assert found[0][0][-1] < found[0][0][0]
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-3)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-2)
