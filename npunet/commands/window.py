"""An image beside its predicted mask, in a window: `npunet.predict --viz`."""

from npunet.errors import InputError


def show(title, image, mask, path=None):
    """Open a window with image (H, W, C) in 0..1 and mask (H, W) or (H, W, 3) uint8, and wait until it is closed.

    Where there is no screen the picture goes to `path` instead. Raises InputError if there is neither. Returns the path
    written, or None.
    """
    import matplotlib  # here, because it takes a second to prepare a window
    import matplotlib.pyplot as plt

    screen = matplotlib.get_backend().lower() in {
        name.lower()
        for name in matplotlib.backends.backend_registry.list_builtin(matplotlib.backends.BackendFilter.INTERACTIVE)
    }
    if not screen and path is None:
        raise InputError("--viz: there is no screen to show pictures on; leave out --no-save, then they are written")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained", num=title)
    left.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=1)
    left.set_title(title)
    right.imshow(
        mask,
        cmap="gray" if len(set(mask.ravel()[:: max(1, mask.size // 10_000)])) <= 2 else "viridis",
        interpolation="nearest",
    )
    right.set_title("mask")
    for axes in (left, right):
        axes.set_axis_off()
    if screen:
        plt.show()
    else:
        figure.savefig(path, dpi=100)
    plt.close(figure)
    return None if screen else path
