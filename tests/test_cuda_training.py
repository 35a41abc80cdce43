"""A whole network, forward, backward and update, through the CUDA kernels on a CPU (cuda_on_cpu.py), against NumPy."""

import json

import numpy as np
import pytest
from cuda_on_cpu import networks_live_on

from npunet import optimizers, train, unet
from npunet.augmentation import Settings
from npunet.commands import cli, memory_needs, session
from npunet.datasets import synthetic
from npunet.errors import InputError
from npunet.files import images
from npunet.gpu import augmentation as gpu_augmentation
from npunet.gpu import cublas, cuda
from npunet.machine.backend import to_cpu
from npunet.ops import dropout_backward
from npunet.training import NotFinite, Recipe, batches, placed, read_back, training_step
from npunet.weight_map import border_reach


@pytest.fixture
def gpu(gpu, monkeypatch):
    """The strict stand-in for CuPy, with the package's kernels at work on it; networks with device="gpu" live there."""
    networks_live_on(gpu, monkeypatch, "npunet.training", "npunet.tiling")
    return gpu


def make(device, variant="paper", **options):
    return unet.UNet(1, 2, 8, 2, variant=variant, device=device, seed=3, **options)


def batch(rng, net, size):
    output = net.output_size(size)
    return (
        rng.standard_normal((1, size, size, 1)).astype("float32"),
        rng.integers(0, 2, (1, output, output)),
        rng.random((1, output, output), dtype="float32") + 0.5,
    )


@pytest.mark.parametrize("variant, size", [("paper", 44), ("release", 44), ("pytorch-unet", 32)])
def test_a_training_step(gpu, rng, variant, size):
    nets = [make(device, variant) for device in ("gpu", "cpu")]
    steps = [optimizers.SGD(net.parameters, 0.05, momentum=0.9) for net in nets]
    for _ in range(2):
        tile = batch(rng, nets[0], size)
        mine, other = (training_step(net, optimizer, *tile, clip=1.0) for net, optimizer in zip(nets, steps))
        assert all(isinstance(number, float) for number in mine)
        np.testing.assert_allclose(mine, other, rtol=2e-4)
    for name, parameter in nets[1].parameters.items():
        scale = abs(parameter.value).max() + 1e-3
        np.testing.assert_allclose(
            to_cpu(nets[0].parameters[name].value), parameter.value, rtol=0, atol=1e-4 * scale, err_msg=name
        )


def test_the_kernels_are_really_used(gpu, rng, monkeypatch):
    launched = set()
    launch = cuda.CudaFile.launch

    def noted(self, name, *arguments, **keywords):
        launched.add(name)
        launch(self, name, *arguments, **keywords)

    monkeypatch.setattr(cuda.CudaFile, "launch", noted)
    net = make("gpu")
    training_step(net, optimizers.Adam(net.parameters, 1e-3), *batch(rng, net, 44), clip=1.0)
    assert launched >= {
        "widen",
        "narrow",
        "tap_sums",
        "dropout",
        "mask_and_sum",
        "add_up",
        "max_pool",
        "max_pool_backward",
        "input_transform",
        "output_transform",
        "weight_transform",
        "gradient_transform",
        "weight_gradient",
        "cross_entropy",
        "mean_energy",
        "sum_of_squares",
        "gradient_scale",
        "adam",
    }


def test_without_waiting(gpu, rng):
    nets = [make("gpu"), make("gpu")]
    steps = [optimizers.Adam(net.parameters, 1e-3) for net in nets]
    tile = batch(rng, nets[0], 44)
    report = training_step(nets[0], steps[0], *tile, clip=1.0, wait=False)
    assert isinstance(report, gpu.ndarray) and tuple(to_cpu(report)) == training_step(
        nets[1], steps[1], *tile, clip=1.0
    )
    for name, parameter in nets[1].parameters.items():
        np.testing.assert_array_equal(to_cpu(nets[0].parameters[name].value), to_cpu(parameter.value))


def test_a_loss_that_is_not_finite_stops_and_leaves_the_parameters(gpu, rng):
    net = make("gpu")
    optimizer = optimizers.Adam(net.parameters, 1e-3)
    images, labels, weights = batch(rng, net, 44)
    before = {name: to_cpu(parameter.value) for name, parameter in net.parameters.items()}
    for bad in ((images * np.float32(np.inf), labels, weights), (images, labels + 2, weights)):
        with pytest.raises(NotFinite, match="loss nan"), np.errstate(all="ignore"):
            training_step(net, optimizer, *bad)
        assert optimizer.steps == 0
    for name, parameter in net.parameters.items():
        np.testing.assert_array_equal(to_cpu(parameter.value), before[name])
    training_step(net, optimizer, images, labels, weights)
    assert any((to_cpu(parameter.value) != before[name]).any() for name, parameter in net.parameters.items())


def test_dropout_masks_and_weights_are_the_same_on_both_devices(gpu, rng):
    mine, other = make("gpu", dropout=0.5), make("cpu", dropout=0.5)
    for name, parameter in other.parameters.items():
        np.testing.assert_array_equal(to_cpu(mine.parameters[name].value), parameter.value)
    x = rng.standard_normal((1, 44, 44, 1)).astype("float32")
    mine.forward(gpu.asarray(x), train=True), other.forward(x, train=True)
    assert [layer.context for layer in mine.dropouts] == [layer.context for layer in other.dropouts]
    ones, mask = np.ones((1, 6, 6, 32), "float32"), other.dropouts[2].context
    np.testing.assert_array_equal(to_cpu(dropout_backward(gpu.asarray(ones), mask)) > 0, mask.keep(ones.shape))


def test_a_checkpoint_goes_from_one_device_to_the_other(gpu, rng, tmp_path):
    from npunet.files import checkpoint

    mine = make("gpu")
    training_step(mine, optimizers.Adam(mine.parameters, 1e-2), *batch(rng, mine, 44))
    mine.save(tmp_path / "net.npz")
    other = checkpoint.restore_network(unet.UNet, checkpoint.load(tmp_path / "net.npz"), tmp_path / "net.npz", "cpu")
    x = rng.standard_normal((1, 44, 44, 1)).astype("float32")
    np.testing.assert_allclose(to_cpu(mine.forward(gpu.asarray(x))), other.forward(x), atol=2e-5)


SMALL = "--base-channels 8 --depth 1 --tile 36 --held-out 1 --evaluate-every 2 --threads 1 --grey 0 --elastic 3".split()


@pytest.fixture
def command(gpu, monkeypatch, without_pictures):
    """npunet.train, with --device gpu meaning the stand-in."""
    monkeypatch.setattr(cli, "use_precision", lambda name: monkeypatch.setattr(cublas, "_precision", name))
    monkeypatch.setattr(session, "peak_memory", lambda device: 1.25e9 if device == "gpu" else None)
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: None)
    monkeypatch.setattr(memory_needs, "memory_in_all", lambda device: None)
    return train.main


@pytest.fixture
def folder(tmp_path):
    """Three small images and masks."""
    for sample in synthetic(n_sections=3, size=48, seed=2).samples:
        for kind, picture in (("images", sample.image[..., 0] > 0.5), ("masks", sample.labels)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            images.write_mask(tmp_path / "data" / kind / f"{sample.name}.png", picture.astype("uint8"))
    return tmp_path / "data"


def losses(run):
    return [
        record["loss"]
        for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if "loss" in record
    ]


@pytest.mark.parametrize("border", [[], ["--w0", "10"]])
def test_a_run_begun_on_the_gpu_goes_on_on_the_cpu(command, folder, tmp_path, capsys, border):
    """With and without the border term of Eq. 2, the tiles of the GPU give the losses of the CPU."""
    options = ["--data", str(folder), *SMALL, *border]
    command([*options, "--steps", "2", "--schedule", "constant", "--device", "gpu", "--out", str(tmp_path / "short")])
    assert "most GPU memory in use: 1.2 GB" in capsys.readouterr().out
    command([*options, "--steps", "4", "--schedule", "constant", "--out", str(tmp_path / "constant")])
    command(["--resume", str(tmp_path / "short"), "--steps", "4", "--device", "cpu"])
    np.testing.assert_allclose(losses(tmp_path / "short"), losses(tmp_path / "constant"), rtol=2e-3)


def test_losses_are_read_together_and_all_of_them(command, gpu, folder, tmp_path, monkeypatch, capsys):
    """Nine steps, evaluated after five, read every three: after 3, 5, 8, 9.

    Nothing else comes to the host in between.
    """
    monkeypatch.setattr(session, "steps_ahead", lambda device: 3 if device == "gpu" else 1)
    read, evaluated = [], []
    read_back, evaluate = session.read_back, train.Session.evaluate
    monkeypatch.setattr(session, "read_back", lambda reports: read.append(len(reports)) or read_back(reports))
    monkeypatch.setattr(
        train.Session, "evaluate", lambda self: evaluated.append(len(losses(self.run.path))) or evaluate(self)
    )
    options = ["--data", str(folder), *SMALL, "--steps", "9", "--evaluate-every", "5"]
    command([*options, "--device", "gpu", "--out", str(tmp_path / "gpu")])
    assert read == [3, 2, 3, 1] and evaluated == [5, 9]  # a checkpoint's steps are all recorded
    command([*options, "--out", str(tmp_path / "cpu")])
    assert read[4:] == [1] * 9
    mine, other = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("gpu", "cpu")
    )
    assert (
        [record["step"] for record in mine] == [record["step"] for record in other] == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 9]
    )
    for a, b in zip(mine, other):
        assert a.keys() == b.keys()
        if "loss" in a:
            assert (
                a["learning_rate"] == b["learning_rate"]
                and a["loss"] == pytest.approx(b["loss"], rel=5e-3)
                and a["seconds"] >= 0
            )


def test_a_step_that_was_not_finite_is_found_when_it_is_read(command, gpu, folder, tmp_path, monkeypatch):
    """Steps 1 to 3 are good, 4 is not, 5 and 6 were begun before the host knew: they changed nothing."""
    step, kept = session.training_step, {}

    def spoiled(net, optimizer, images, labels, weights, **how):
        kept["count"] = kept.get("count", 0) + 1
        if kept["count"] == 4:
            kept["parameters"] = net, {name: to_cpu(parameter.value) for name, parameter in net.parameters.items()}
            weights = weights * np.float32(np.inf)
        return step(net, optimizer, images, labels, weights, **how)

    monkeypatch.setattr(session, "training_step", spoiled)
    monkeypatch.setattr(session, "steps_ahead", lambda device: 6)
    with (
        pytest.raises(
            InputError, match=r"^step 4: loss (nan|inf).*largest activation \d.*; no checkpoint yet$"
        ) as error,
        np.errstate(all="ignore"),
    ):
        command(
            [
                "--data",
                str(folder),
                *SMALL,
                "--steps",
                "8",
                "--evaluate-every",
                "8",
                "--device",
                "gpu",
                "--out",
                str(tmp_path / "run"),
            ]
        )
    assert "\n" not in str(error.value) and len(losses(tmp_path / "run")) == 3 and kept["count"] == 6
    net, before = kept["parameters"]
    for name, parameter in net.parameters.items():
        np.testing.assert_array_equal(to_cpu(parameter.value), before[name])


def test_ctrl_c_keeps_every_step_that_was_done(command, gpu, folder, tmp_path, monkeypatch, capsys):
    step = session.training_step
    sessions, done = [], []
    init = train.Session.__init__
    monkeypatch.setattr(train.Session, "__init__", lambda self, *rest: sessions.append(self) or init(self, *rest))

    def interrupted(*arguments, **how):
        done.append(1)
        if len(done) == 4:
            sessions[0].request_stop(None, None)
        return step(*arguments, **how)

    monkeypatch.setattr(session, "training_step", interrupted)
    with pytest.raises(SystemExit):
        command(
            [
                "--data",
                str(folder),
                *SMALL,
                "--steps",
                "8",
                "--evaluate-every",
                "8",
                "--device",
                "gpu",
                "--out",
                str(tmp_path / "run"),
            ]
        )
    assert len(losses(tmp_path / "run")) == 4 and "stopped after step 4" in capsys.readouterr().out


class OutOfMemoryError(MemoryError):  # as cupy.cuda.memory's is
    pass


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Out of memory allocating 1 bytes"),
        RuntimeError("cudaErrorMemoryAllocation: out of memory"),  # what CUDA itself says: its driver, and cuBLAS
        RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_runs_out_is_one_line(command, folder, tmp_path, monkeypatch, error):
    def full(self, *arguments, **keywords):
        raise error

    monkeypatch.setattr(cuda.CudaFile, "launch", full)
    with pytest.raises(InputError, match="^out of memory at tile 36 with 8 base channels; .* should fit$"):
        command(
            [
                "--data",
                str(folder),
                *SMALL,
                "--w0",
                "10",
                "--steps",
                "2",
                "--device",
                "gpu",
                "--out",
                str(tmp_path / "run"),
            ]
        )


@pytest.fixture
def crossings(gpu, emulated, monkeypatch):
    """What crosses the bus from now on:
    bytes of each array that goes to the device, and how each result comes back or is waited for.
    """
    found = {"there": [], "back": []}
    asarray = gpu.asarray

    def counted(x, *rest, **keywords):
        if not isinstance(x, gpu.ndarray):
            found["there"].append(np.asarray(x).nbytes)
        return asarray(x, *rest, **keywords)

    monkeypatch.setattr(gpu, "asarray", counted)
    for name in ("get", "__float__", "__int__", "__bool__"):

        def waits(self, name=name, method=getattr(gpu.ndarray, name)):
            found["back"].append(name)
            return method(self)

        monkeypatch.setattr(gpu.ndarray, name, waits)
    return found


@pytest.mark.parametrize("w0", [0.0, 10.0])
def test_what_crosses_the_bus_in_ten_steps(gpu, crossings, w0, monkeypatch):
    """Nothing but 24 numbers of each tile's deformation and a few of the step (drop-out's key, Adam's factors), and
    nothing back until somebody asks for the losses.
    """
    settings = Settings(w0=w0)
    monkeypatch.setattr(gpu_augmentation, "_bases", {})
    samples = placed(synthetic(n_sections=2, size=48, seed=2).samples, "gpu")
    recipe, net = Recipe(steps=10, tile=20), unet.UNet(1, 2, 8, 1, device="gpu")
    optimizer, reports, output = optimizers.Adam(net.parameters, 1e-3), [], net.output_size(20)
    for moved in crossings.values():
        moved.clear()
    for batch in batches(samples, recipe, output, 0, settings):
        reports.append(training_step(net, optimizer, *batch, clip=1.0, wait=False))
    region = output + 2 * (border_reach(w0, settings.sigma) or 0)
    once = [3 * 8 * 20, 3 * 8 * region]  # grid_basis of the tile and of what its weights depend on
    # the deformation; drop-out's key, forward and backward; two factors of Adam
    assert sorted(crossings["there"]) == sorted(10 * [24 * 8, 8, 8, 16] + once) and crossings["back"] == []
    energies = [energy for energy, _ in read_back(reports)]
    assert crossings["back"] == ["get"] and len(energies) == 10 and np.isfinite(energies).all()
    training_step(net, optimizer, *batch, clip=1.0)
    assert crossings["back"] == ["get", "get"]  # who waits for each step waits once
