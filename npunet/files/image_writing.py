"""Pictures out: images, masks of classes and numbers of cells, as files that any viewer shows, whole or not at all."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from npunet.errors import InputError
from npunet.files.calibration import Calibration, png_options
from npunet.files.whole_file import written_whole

TIFF = (".tif", ".tiff")
EXTENSIONS = (".png", *TIFF, ".jpg", ".jpeg", ".gif", ".bmp")
LARGEST_CLASSIC = 2**32 - 2**25  # bytes of pixels: the offsets of a classic TIFF have 32 bits


def write_image(path: str | Path, image: np.ndarray) -> None:
    """(H, W), (H, W, 1) or (H, W, 3) values in 0..1, rounded to 8 bits. The suffix chooses the format.

    Raises InputError for integers above 1: those are numbers of cells, which `write_labels` writes, or 8-bit values.
    """
    image = np.asarray(image)
    if image.dtype.kind in "iu" and image.max(initial=0) > 1:
        raise InputError(
            f"{path}: the image holds {image.dtype} up to {image.max()}; expected values in 0..1: "
            f"write_labels writes numbers of cells, and 8-bit values are to be divided by 255"
        )
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    eight_bit = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    write_pages(path, eight_bit[None], 1)


def write_mask(path: str | Path, classes: np.ndarray | list[np.ndarray], n_classes: int = 2) -> None:
    """Predicted classes as an 8-bit picture: 0 and 255 for two classes, so that it is not black; else 0, 1, .. as they
    are.

    classes: (H, W) integers below n_classes, or a sequence of such pages for a multi-page TIFF.
    """
    if n_classes > 256:
        raise InputError(f"a mask of {n_classes} classes does not fit into 8 bits; at most 256 can be written")
    scale = np.uint8(255 if n_classes == 2 else 1)
    pages = _pages(classes)
    write_pages(path, pages, len(pages), lambda page: page.astype(np.uint8) * scale)


def write_labels(path: str | Path, cells: np.ndarray | list[np.ndarray]) -> None:
    """Numbers of cells as they are, none clipped: 16 bit up to 65535, else 32 bit (TIFF alone).

    cells: (H, W) integers, 0 = background, or a sequence of such pages for a multi-page TIFF. Raises InputError for
    fractions, negative numbers, and a format that cannot hold them.
    """
    pages = [np.asarray(page) for page in _pages(cells)]
    if any(page.ndim != 2 or page.dtype.kind not in "biu" for page in pages):
        raise InputError(
            f"{path}: cells are {[(page.shape, str(page.dtype)) for page in pages[:3]]}; expected (H, W) whole numbers"
        )
    least, most = min(int(page.min(initial=0)) for page in pages), max(int(page.max(initial=0)) for page in pages)
    suffix = Path(path).suffix.lower()
    if least < 0 or most >= 2**32 or suffix not in (".png", *TIFF) or (most >= 2**16 and suffix not in TIFF):
        raise InputError(
            f"{path}: cells are numbered {least} to {most}; expected 0 to 65535 in a .png, or 0 to 2^32 - 1 in a .tif"
        )
    dtype = np.uint16 if most < 2**16 else np.uint32
    write_pages(path, pages, len(pages), lambda page: page.astype(dtype))


def write_pages(
    path: str | Path,
    pages: Iterable[np.ndarray],
    count: int,
    convert: Callable = lambda page: page,
    calibration: Calibration = Calibration(),
) -> None:
    """`count` pages, (H, W) or (H, W, 3), one at a time, each as convert(page) makes it; several need a TIFF.

    calibration: the size of a pixel, which goes into a PNG.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in EXTENSIONS:
        raise InputError(
            f"{path}: cannot write {suffix or 'a file without suffix'!r}; use one of {' '.join(EXTENSIONS)}"
        )
    if count > 1 and suffix not in TIFF:
        raise InputError(f"{path}: {count} pages do not fit into {suffix}; use a name that ends in .tif")
    pages = map(convert, pages)
    first = next(pages)
    with written_whole(path) as temporary:
        if suffix not in TIFF:
            Image.fromarray(first).save(temporary, **(png_options(calibration) if suffix == ".png" else {}))
            return
        with tifffile.TiffWriter(temporary, bigtiff=count * first.nbytes > LARGEST_CLASSIC) as tiff:
            for page in itertools.chain([first], pages):
                tiff.write(
                    page, photometric="rgb" if page.ndim == 3 else "minisblack", compression="zlib", metadata=None
                )


def _pages(pages):
    """A list of pages: of one (H, W) array, or a sequence of them."""
    return [pages] if isinstance(pages, np.ndarray) and pages.ndim == 2 else pages
