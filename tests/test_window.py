"""The picture of `predict --viz`: an image beside its mask."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from npunet.commands import window


@pytest.mark.parametrize("channels, values", [(1, 2), (3, 3)])
def test_the_view_shows_image_and_mask(tmp_path, monkeypatch, channels, values):
    shown = []
    monkeypatch.setattr(plt, "close", shown.append)
    rng = np.random.default_rng(0)
    image, mask = rng.random((30, 40, channels)), rng.integers(0, values, (30, 40)).astype(np.uint8)
    assert window.show("a title", image, mask, tmp_path / "view.png") == tmp_path / "view.png"
    monkeypatch.undo()
    left, right = shown[-1].axes  # Matplotlib 3.9 closes all others first
    np.testing.assert_array_equal(left.images[0].get_array(), image[..., 0] if channels == 1 else image)
    np.testing.assert_array_equal(right.images[0].get_array(), mask)
    assert left.images[0].get_clim() == (0, 1) or channels == 3
    assert (left.get_title(), right.get_title()) == ("a title", "mask")
    assert right.images[0].get_cmap().name == ("gray" if values == 2 else "viridis")
    with Image.open(tmp_path / "view.png") as picture:
        assert not left.axison and not right.axison and picture.size == (1000, 500)
    plt.close(shown[0])


def test_the_view_counts_values_in_all_pixels_of_a_small_mask(tmp_path, monkeypatch):
    shown, mask = [], np.zeros((3, 5), np.uint8)
    mask[0, 1], mask[0, 3] = 1, 2  # at odd places
    monkeypatch.setattr(plt, "close", shown.append)
    window.show("", np.zeros((3, 5, 1)), mask, tmp_path / "view.png")
    assert shown[0].axes[1].images[0].get_cmap().name == "viridis"
    monkeypatch.undo()
    plt.close(shown[0])
