"""The profile: every layer in both directions, shares of one whole, and a network that is the same afterwards."""

import numpy as np
import pytest

from npunet import UNet, profile, summary
from npunet.layers import Convolution


@pytest.mark.parametrize(
    "options", [dict(), dict(variant="release"), dict(variant="pytorch-unet", bilinear=True), dict(recompute=True)]
)
def test_every_layer_appears_in_both_directions(options):
    net = UNet(base_channels=2, depth=2, **options)
    entries = profile.measure(net, 44, steps=2)
    found = profile.by_layer(entries)
    names = [row.name for row in summary.rows(net, 44)[1:]]
    assert set(found) == {*names, "loss", "optimizer", "between layers"}
    for name in names:
        assert {*found[name]} == {"forward", "backward"} and all(entry.seconds > 0 for entry in found[name].values())


def test_operations_of_direct_convolution():
    net = UNet(base_channels=2, depth=1)
    found = profile.by_layer(profile.measure(net, 24, steps=1))
    first, second = 22 * 22 * 9 * 2, 20 * 20 * 9 * 2 * 2
    # no dx
    assert [found["contracting.0.conv1"][way].operations for way in ("forward", "backward")] == [2 * first, 2 * first]
    assert [found["contracting.0.conv2"][way].operations for way in ("forward", "backward")] == [2 * second, 4 * second]
    assert found["contracting.0.pool"]["forward"].operations == 0


def test_a_slow_layer_stands_out(monkeypatch):
    """A layer that sleeps 30 ms going forward takes 30 ms more in its own line, and in no other."""
    net = UNet(base_channels=1, depth=2)
    slow, forward = net.bottleneck.conv2, Convolution.forward

    def sleep(self, x, train):
        if self is slow:
            profile.time.sleep(0.03)
        return forward(self, x, train)

    monkeypatch.setattr(Convolution, "forward", sleep)
    found = profile.by_layer(profile.measure(net, 44, steps=1))
    times = {name: pair["forward"].seconds for name, pair in found.items() if "forward" in pair}
    assert times["bottleneck.conv2"] >= 0.03 and max(times, key=times.get) == "bottleneck.conv2"


def test_a_network_of_one_logit_has_its_own_energy():
    """The soft-max of a single logit is 1 whatever it is: nothing would be left for the backward pass to do."""
    net = UNet(n_classes=1, base_channels=2, depth=1)
    profile._step(net, 24, True, lambda name, way, function: function)()
    assert np.abs(net.parameters["output.weight"].grad).max() > 0


def test_the_network_is_as_before():
    net = UNet(base_channels=2, depth=1)
    before = {name: parameter.value.copy() for name, parameter in net.parameters.items()}
    profile.measure(net, 24, steps=1)
    assert all(np.array_equal(before[name], parameter.value) for name, parameter in net.parameters.items())
    assert not any("forward" in vars(layer) or "backward" in vars(layer) for layer in net.layers.values())


@pytest.mark.parametrize("arguments", [[], ["--forward"], ["--variant", "style"]])
def test_command(arguments, tmp_path, capsys):
    picture = tmp_path / "made" / "profile.png"
    profile.main(
        [
            "--tile",
            "192" if arguments[-1:] == ["style"] else "188",
            "--base-channels",
            "1",
            "--steps",
            "1",
            "--out",
            str(picture),
            *arguments,
        ]
    )
    text = capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "bottleneck.conv2" in text and "GFLOP/s" in text and ("optimizer" in text) == ("--forward" not in arguments)


def test_every_operation_has_the_colour_of_its_arrow_in_fig_1():
    colours = {row.operation: profile._colour(row.operation) for row in summary.rows(UNet(base_channels=1), 188)[1:]}
    assert len(set(colours.values())) == 6  # the five arrows, and dropout
    assert (
        colours["up-conv 2x2"] == profile.COLOURS["up-conv 2x2"]
        and colours["crop, concatenate"] == profile.COLOURS["copy and crop"]
    )


def test_bad_input():
    with pytest.raises(profile.InputError, match="tile 570 is not a valid input size; nearest are 556 and 572"):
        profile.main(["--tile", "570", "--base-channels", "1"])
    with pytest.raises(profile.InputError, match="--steps is 0; expected at least 1"):
        profile.main(["--steps", "0"])
    with pytest.raises(profile.InputError, match="--threads is 0; expected at least 1"):
        profile.main(["--threads", "0"])


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "taken.png").mkdir()
    small = ["--tile", "188", "--base-channels", "1", "--steps", "1", "--forward", "--out"]
    with pytest.raises(profile.InputError, match=r"--out .*taken.png: cannot be written \(.*\); give another place"):
        profile.main([*small, str(tmp_path / "taken.png")])
    assert "bottleneck.conv2" in capsys.readouterr().out and [path.name for path in tmp_path.iterdir()] == ["taken.png"]
    for name in ("profile.xyz", "profile"):
        with pytest.raises(profile.InputError, match="ends in .png"):
            profile.main([*small, str(tmp_path / name)])
