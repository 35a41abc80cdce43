import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from npunet import InputError, UNet, summary
from npunet.commands import memory_needs

# The boxes of Fig. 1, read off the paper: (side, channels), in the order of the arrows. The boxes of two widths in the
# expansive path, "1024" and so on, are the concatenations.
FIG_1 = [
    (572, 1),
    (570, 64),
    (568, 64),
    (284, 64),
    (282, 128),
    (280, 128),
    (140, 128),
    (138, 256),
    (136, 256),
    (68, 256),
    (66, 512),
    (64, 512),
    (32, 512),
    (30, 1024),
    (28, 1024),
    (56, 1024),
    (54, 512),
    (52, 512),
    (104, 512),
    (102, 256),
    (100, 256),
    (200, 256),
    (198, 128),
    (196, 128),
    (392, 128),
    (390, 64),
    (388, 64),
    (388, 2),
]


@pytest.fixture(scope="module")
def paper():
    return UNet()


def test_every_box_of_fig_1_appears_in_order(paper):
    boxes = [
        (row.side, row.channels)
        for row in summary.rows(paper, 572)
        if not row.operation.startswith(("up-conv", "dropout"))
    ]
    assert boxes == FIG_1
    ups = [(row.side, row.channels) for row in summary.rows(paper, 572) if row.operation.startswith("up-conv")]
    assert ups == [(56, 512), (104, 256), (200, 128), (392, 64)]


def test_totals_of_the_paper(paper):
    found = summary.rows(paper, 572)
    assert sum(row.parameters for row in found) == 31_030_658
    assert sum("conv" in row.operation for row in found) == 23
    by_hand = {
        "contracting.0.conv1": 570 * 570 * 9 * 64,
        "bottleneck.conv2": 28 * 28 * 9 * 1024 * 1024,
        "expansive.0.up": 392 * 392 * 128 * 64,
        "output": 388 * 388 * 64 * 2,
    }
    assert {row.name: row.multiply_adds for row in found if row.name in by_hand} == by_hand


def test_release_variant():
    found = {row.name: row for row in summary.rows(UNet(variant="release"), 572)}
    assert sum(row.parameters for row in found.values()) == 31_100_354
    assert (found["expansive.0.up"].channels, found["expansive.0.concat"].channels) == (128, 192)


@pytest.mark.parametrize("variant", ["paper", "release"])
@pytest.mark.parametrize("depth, tile", [(1, 24), (2, 44), (3, 92)])
def test_rows_are_what_a_forward_pass_makes(variant, depth, tile):
    net = UNet(3, 4, base_channels=3, depth=depth, variant=variant)
    maps = net.feature_maps(np.zeros((1, tile, tile, 3), np.float32))
    for row in summary.rows(net, tile)[1:]:
        assert maps[row.name].shape == (1, row.side, row.side, row.channels)
        assert maps[row.name].nbytes == row.memory
    shown = {row.name for row in summary.rows(net, tile)}
    assert all("dropout" in name for name in maps if name not in shown)
    assert sum(row.parameters for row in summary.rows(net, tile)) == net.n_parameters


@pytest.mark.parametrize(
    "options",
    [dict(variant="pytorch-unet"), dict(variant="pytorch-unet", bilinear=True), dict(variant="style")]
    + [dict(variant="painter")],
    ids=str,
)
@pytest.mark.parametrize("tile", [32, 37])
def test_rows_of_padded_networks(options, tile):
    net = UNet(3, 4, base_channels=2, depth=3, **options)
    maps = net.feature_maps(np.zeros((1, tile, tile, 3), np.float32))
    found = summary.rows(net, tile)
    for row in found[1:]:
        assert maps[row.name].shape == (1, row.side, row.side, row.channels) and maps[row.name].nbytes == row.memory
    assert sum(row.parameters for row in found) == net.n_parameters
    text = summary.table(net, tile)
    assert ("batch norm, ReLU" in text) == (options["variant"] == "pytorch-unet") and (
        "none of them" in text
    ) == net.bilinear
    assert ("instance norm, ReLU" in text) == (options["variant"] == "painter")


def test_parameters_of_pytorch_unet():
    """As its users know them:
    31.0 million with transposed convolutions, 17.3 with bilinear upsampling (3 channels, 2 classes).
    """
    assert UNet(3, 2, variant="pytorch-unet").n_parameters == 31_037_698
    assert UNet(3, 2, variant="pytorch-unet", bilinear=True).n_parameters == 17_263_042


def test_recomputation_by_hand():
    """Depth 1, tile 8, 1 -> 2 -> 2 | 4 | 2: maps of 8 x 8 and 4 x 4 pixels."""
    net = UNet(1, 2, base_channels=2, depth=1, variant="pytorch-unet", recompute=True)
    level, below = 4 * 64 * 2, 4 * 16 * 4
    # input, norm2 | pool, norm2 | concat, norm2 | output
    kept = 4 * 64 + level + below // 2 + below + 2 * level + level + level
    assert memory_needs.kept_memory(net, summary.rows(net, 8)) == kept + 4 * level
    plain = UNet(1, 2, base_channels=2, depth=1, variant="pytorch-unet")
    assert memory_needs.kept_memory(plain, summary.rows(plain, 8)) == kept + 3 * (level + below + level)


def test_memory_by_hand():
    """Depth 1, so that every term can be written down: 24 -> 22 -> 20 | 10 -> 8 -> 6 | 12 -> 10 -> 8."""
    net = UNet(1, 2, base_channels=2, depth=1)
    found = summary.rows(net, 24)
    skip, up, concat = 20 * 20 * 2, 12 * 12 * 2, 12 * 12 * 4
    assert memory_needs.waiting_memory(found) == 4 * max(skip + up + concat, 22 * 22 * 2 + skip)
    kept = (
        24 * 24
        + 22 * 22 * 2
        + skip
        + 10 * 10 * 2
        + 8 * 8 * 4
        + 2 * 6 * 6 * 4
        + concat
        + 10 * 10 * 2
        + 8 * 8 * 2
        + 8 * 8 * 2
    )
    assert memory_needs.kept_memory(net, found) == 4 * kept
    # Worst where the concatenation splits its gradient; logits and the two maps behind the concatenation are done with
    # by then.
    assert memory_needs.gradient_memory(net, found) == 4 * (concat + up + skip - 2 * (8 * 8 * 2) - 10 * 10 * 2)


def test_training_memory_is_what_a_fresh_process_needs():
    """Peak less what the libraries take, 16 channels, tile 572 (64 channels:
    "net MB" in benchmarks/results/train_step.txt). Within 15 %.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from /proc, which only Linux has")
    script = (
        "from benchmarks import peers\nimport npunet\nbefore = peers.peak_bytes()\nstep = peers.npunet_step('train', "
        "572, 16)\n"
        "step()\nprint(peers.peak_bytes() - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    net = UNet(base_channels=16)
    assert memory_needs.training_memory(net, summary.rows(net, 572)) == pytest.approx(float(result.stdout), rel=0.15)


def test_inference_memory_is_what_a_fresh_process_needs():
    """Peak less what the libraries take, 16 channels, tile 572.

    Within 20 % (benchmarks/results/inference.txt has 64 channels).
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from /proc, which only Linux has")
    script = (
        "from benchmarks import peers\nimport npunet\nbefore = peers.peak_bytes()\nstep = peers.npunet_step('infer', "
        "572, 16)\n"
        "step()\nstep()\nprint(peers.peak_bytes() - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    net = UNet(base_channels=16)
    assert memory_needs.inference_memory(net, summary.rows(net, 572)) == pytest.approx(float(result.stdout), rel=0.2)


@pytest.mark.parametrize(
    "variant, covering, ample, scarce",
    [("paper", 512, 700, 572), ("paper", 4, 188, 188), ("pytorch-unet", 500, 512, 416)],
)
def test_auto_tile_covers_the_image_or_fills_the_memory(monkeypatch, variant, covering, ample, scarce):
    """512 pixels need 700 -> 516. Memory for exactly 572, or 416, in four fifths of what is free gives that tile;
    next to none the smallest.
    """
    net = UNet(base_channels=2, variant=variant)

    def tiles(free):
        monkeypatch.setattr(memory_needs, "free_memory", lambda device: free)
        return memory_needs.tile_for_training(net, covering), memory_needs.tile_for_inference(net, covering)

    least_inference = 208 if net.options.padding else 204  # two margins of 96 and the grid; an output of 16 or more
    assert tiles(10**12) == (ample, max(ample, least_inference))
    assert tiles(1) == (16 if net.options.padding else 188, least_inference)
    found = summary.rows(net, scarce)
    assert tiles(1.2501 * memory_needs.training_memory(net, found))[0] == scarce
    assert tiles(1.2501 * memory_needs.inference_memory(net, found))[1] == max(scarce, least_inference)
    assert tiles(None)[0] <= 576


def test_memory_of_inference_by_hand_where_the_last_concatenation_is_the_peak():
    """Depth 2: 180 -> 178 -> 176 | 88 -> 86 -> 84 | 42 -> 40 -> 38 | 76 -> 74 -> 72 | 144 -> 142 -> 140;
    the deeper skip is gone by then.
    """
    net = UNet(1, 2, base_channels=2, depth=2)
    assert memory_needs.waiting_memory(summary.rows(net, 180)) == 4 * (176 * 176 * 2 + 144 * 144 * 2 + 144 * 144 * 4)


def test_paper_network_trains_within_the_memory_of_its_time(paper):
    assert 1e9 < memory_needs.training_memory(paper, summary.rows(paper, 572)) < 4e9


def test_table_shows_sizes_and_totals(paper):
    text = summary.table(paper, 572)
    for words in (
        "tile 572 -> 388",
        "568 x 568",
        "28 x 28",
        "31,030,658",
        "23 convolutional layers, 4 of them up-convolutions",
        "training step",
    ):
        assert words in text
    assert "training step" not in summary.table(paper, 572, train_memory=False)


def test_invalid_tile_is_answered_with_the_nearest_valid_ones():
    command = [sys.executable, "-m", "npunet.summary", "--base-channels", "1", "--tile", "570"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (
        2,
        "",
        "error: tile 570 is not a valid input size; nearest are 556 and 572\n",
    )
    with pytest.raises(InputError, match="the smallest is 188"):
        summary.rows(UNet(base_channels=1), 100)


SMALL = "--tile 320 --depth 2 --base-channels 16 --variant pytorch-unet --channels 3 --train-memory"


@pytest.mark.parametrize(
    "option",
    "--tile=96 --depth=3 --base-channels=5 --variant=padded --channels=1 --classes=5 --bilinear --recompute".split(),
)
def test_every_option_of_summary_changes_the_table(option, capsys):
    tables = []
    for words in (SMALL, f"{SMALL} {option}"):
        summary.main(words.split())
        tables.append(capsys.readouterr().out)
    assert tables[0] != tables[1]
    net = UNet(3, 2, 16, 2, variant="pytorch-unet")
    assert f"{net.n_parameters:,}" in tables[0]
