"""What style transfer needs of memory:
the formula by hand, peaks of processes of their own, and what is named when it is not there.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from style_helpers import small_vgg

from npunet import InputError, stylize
from npunet.files import images
from npunet.style import VGG, Generator, Objective, losses, memory_needs, vgg


@pytest.fixture
def objective(monkeypatch):
    """VGG's chain with 2, 3, 4, 5 and 5 channels, compared at the demo's layers."""
    return Objective(small_vgg(monkeypatch, dtype="float32"), **losses.DEMO)


def test_maps_of_vgg_by_hand(objective):
    """On 16 x 8 pixels: blocks 1 to 4 have 128, 32, 8 and 2 pixels; 1_1 1_2 p | 2_1 2_2 p | 3_1 .. 3_4 p | 4_1 ..

    4_4, and the picture itself.
    """
    kept = 128 * 3 + 128 * (2 + 2) + 32 * 2 + 32 * (3 + 3) + 8 * 3 + 8 * 4 * 4 + 2 * 4 + 2 * 4 * 5
    compared = 128 * 2 + 32 * 3 + 8 * 4 + 2 * 5
    assert memory_needs.vgg_maps(objective, 128) == 4 * (kept + compared + 2 * 128 * 2)
    low = Objective(objective.vgg, content_layers=("conv1_2",), style_layers=("conv1_2",))
    assert memory_needs.vgg_maps(low, 128) == 4 * (128 * (3 + 2 + 2) + 128 * 2 + 2 * 128 * 2), (
        "and nothing above the last layer"
    )


def test_kilobytes_a_pixel_of_the_real_layers():
    eye = VGG.__new__(VGG)
    eye.kind, eye.dtype, eye.device = "vgg19", np.dtype("float32"), "cpu"
    eye.weights = {
        name: (np.broadcast_to(np.float32(0), vgg.weight_shape("vgg19", name)),)
        for name, _ in vgg.chain("vgg19")
        if name.startswith("conv")
    }
    assert memory_needs.GAPS * memory_needs.vgg_maps(
        Objective(eye, **losses.DEMO), 512 * 512
    ) / 512**2 == pytest.approx(2700, rel=0.02), "what the file says"


MEASURED = """
import sys
import numpy as np
from benchmarks.peers import peak_bytes
from npunet.optimizers import Adam
from npunet.style import VGG, Generator, Objective, generator_step, memory_needs
height, width, base = map(int, sys.argv[1:])
content, style = np.random.default_rng(0).random((2, 1, height, width, 3), np.float32)
before = peak_bytes()
objective = Objective(VGG.random()).set_style(style)
targets = objective.content_targets(content)
generator = Generator(base) if base else None
optimizer = Adam(generator.net.parameters, 1e-3) if base else None
for _ in range(2):                                        # the second has Adam's arrays from the start
    generator_step(generator, objective, optimizer, content, targets) if base else objective(content, targets)
print((peak_bytes() - before) / memory_needs.needed(objective, (height, width), generator and generator.net))
"""


@pytest.mark.parametrize("height, width, base", [(256, 160, 32), (256, 256, 0)], ids=["training", "direct"])
def test_predictions_are_about_what_a_step_takes(height, width, base):
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, str(height), str(width), str(base)],
        cwd=Path(__file__).parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert 0.75 < float(result.stdout) < 1.25, result.stdout + result.stderr


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_what_is_named_before_starting_fits(objective, monkeypatch, device, batch):
    net = Generator(16).net
    monkeypatch.setattr(objective.vgg, "device", device)
    monkeypatch.setattr(memory_needs, "WORK", 0)
    # what does not depend on sizes
    monkeypatch.setattr(memory_needs.gpu_convolution, "WORKSPACE", -memory_needs.unet_needs.CUBLAS_BUFFERS)
    shape = (192, 256)
    wanted = memory_needs.needed(objective, shape, net, batch)
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: wanted)
    memory_needs.check(objective, shape, net, batch)  # just enough
    free = 0.6 * wanted
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: free)
    with pytest.raises(InputError) as error:
        memory_needs.check(objective, shape, net, batch)
    found = re.fullmatch(
        rf"a step at {'3 times ' if batch == 3 else ''}256 x 192 pixels with 16 base channels needs about \S+ GB, but "
        rf"\S+ GB are free; "
        r"--size (\d+) or --base-channels (\d+)(?: or --batch (\d+))? would fit",
        str(error.value),
    )
    size, width, fewer = (int(number or 0) for number in found.groups())

    def fits(size, net, batch):
        return memory_needs.needed(objective, (size, round(size / 0.75 / 16) * 16), net, batch) <= free

    assert fits(size, net, batch) and not fits(size + 16, net, batch) and size < 192
    assert fits(192, Generator(width).net, batch) and not fits(192, Generator(2 * width).net, batch) and width < 16
    assert (not fewer) if batch == 1 else fits(192, net, fewer) and not fits(192, net, fewer + 1)


def test_direct_optimisation_names_a_size_only(objective, monkeypatch):
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: 0.8 * memory_needs.needed(objective, (512, 512)))
    with pytest.raises(
        InputError, match=r"^a step at 512 x 512 pixels needs about \S+ GB, but \S+ GB are free; --size \d+ would fit$"
    ):
        memory_needs.check(objective, (512, 512))
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: 1000)
    with pytest.raises(InputError, match="nothing: a smaller picture or more memory would fit"):
        memory_needs.check(objective, (512, 512))
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: None)  # the system does not tell
    memory_needs.check(objective, (512, 512))


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch, rng, objective):
    """Two pictures and a generator; VGG without a file is the small one."""
    monkeypatch.chdir(tmp_path)
    for name in ("content", "style"):
        images.write_image(tmp_path / f"{name}.png", rng.random((256, 192, 3)))
    Generator(4).save("painter.npz")


class OutOfMemoryError(MemoryError):
    """CuPy's, by its place among the errors."""


TRAIN = "train --content content.png --style style.png --base-channels 8 --size 96"


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
@pytest.mark.parametrize(
    "where, arguments, message",
    [
        (
            "npunet.stylize.generator_step",
            TRAIN,
            r"out of memory: a step at 96 x 128 pixels with 8 base channels needs about \d\.\d GB, \d+\.\d GB are "
            r"there; "
            r"--size \d+ or --base-channels \d should fit",
        ),
        (
            "npunet.style.losses.Objective.set_style",
            TRAIN,
            r"out of memory: a step at 96 x 128 pixels with 8 base channels needs .* should fit",
        ),
        (
            "npunet.style.scales.optimize_picture",
            TRAIN.replace("train", "optimize").replace("--base-channels 8", ""),
            r"out of memory: a step at 96 x 128 pixels needs about .*; --size \d+ should fit",
        ),
        (
            "npunet.style.generator.Generator.paint",
            "apply --model painter.npz --input content.png --output found --size 2048",
            r"out of memory at tile 1024; --tile \d+ should fit",
        ),
        (
            "npunet.style.vgg.VGG.random",
            TRAIN,
            "out of memory before the first step; give fewer --base-channels or smaller pictures, "
            "or end other programs",
        ),
    ],
    ids=["step", "style", "direct", "apply", "VGG"],
)
def test_running_out_of_memory_is_one_line_with_numbers(folder, monkeypatch, error, where, arguments, message):
    def run_out(*arguments, **keywords):
        raise error("no more")

    monkeypatch.setattr(memory_needs, "WORK", 0)
    monkeypatch.setattr(where, run_out)
    with pytest.raises(InputError) as found:
        stylize.main(arguments.split())
    assert re.fullmatch(message, str(found.value)), found.value


def test_a_run_that_would_not_fit_does_not_begin(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: 10**6)
    with pytest.raises(InputError, match="^a step at 96 x 128 pixels with 8 base channels needs about"):
        stylize.main(TRAIN.split())
    monkeypatch.setattr(memory_needs, "free_memory", lambda device: 9 * 10**7)
    with pytest.raises(
        InputError, match=r"^a style picture of 768 x 1024 pixels needs about .*; --style-size \d+ would fit$"
    ):
        stylize.main(f"{TRAIN} --style-size 768".split())
    assert not (tmp_path / "runs").exists()
