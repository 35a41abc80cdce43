"""Pictures in and out:
any microscope's file becomes float32 in 0..1, and what npunet writes any viewer shows (§4, the data).

The one scaling rule, for `read_image` and `open_image` alike:

- **8-bit** pixels are divided by 255 (1-bit ones are 0 and 1 already).
- **everything else** (16 and 32 bit, float) is stretched so that the 0.1 percentile of the file becomes 0 and the 99.9
  percentile becomes 1, with the rest clipped. Cameras fill 12 of 16 bits, or a hundredth of them, and a few hot pixels
  must not turn the picture black, so neither division by 65535 nor the extremes will do. The percentiles are taken over
  all pages together, which keeps the pages of a stack comparable, and from at most 2^22 pixels at equal steps, which
  keeps it the same rule for a slide that never fits into memory. Where the percentiles coincide (a few bright spots on
  black) smallest and largest value take their place; a constant picture becomes 0.
"""

import contextlib
import logging
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageSequence

from npunet.errors import InputError
from npunet.files.image_writing import EXTENSIONS, TIFF, write_image, write_labels, write_mask, write_pages

__all__ = [
    "EXTENSIONS",
    "TIFF",
    "ImageStack",
    "as_floats",
    "is_grey",
    "open_image",
    "read_image",
    "read_labels",
    "with_channels",
    "write_image",
    "write_labels",
    "write_mask",
    "write_pages",
]
LOW_PERCENTILE, HIGH_PERCENTILE, MAX_SAMPLED = 0.1, 99.9, 2**22
COLOUR = 1 << 24  # read_labels writes a coloured pixel as COLOUR + 65536 R + 256 G + B
MAX_IN_MEMORY = 2**28  # bytes; a compressed TIFF larger than this is unpacked to a temporary file instead

Image.MAX_IMAGE_PIXELS = None  # Pillow refuses 180-megapixel pictures as attacks; to a microscope they are slides


class ImageStack:
    """The pages of one file, read and scaled one at a time (the file stays on disk where its layout allows).

    ``stack[i]`` is page i as (H, W, C) float32 in 0..1; ``window`` reads a part of it. ``shape`` is (pages, H, W, C).
    """

    def __init__(self, path):
        self.path = Path(path)
        self._pixels, self._inverted = _open_pixels(self.path, for_labels=False)
        self.shape, self.stored = self._pixels.shape, self._pixels.dtype  # stored: their type in the file
        self.low, self.high = _value_range(self._pixels, self.path)

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, page):
        return self.window(page, 0, 0, *self.shape[1:3])

    def raw(self, page):
        """One page as the file stores it, (H, W, C) of its own type; read when sliced, where the layout allows."""
        return self._pixels[page]

    def window(self, page, top, left, height, width):
        """Rows top..top+height and columns left..left+width of one page: (height, width, C) float32 in 0..1."""
        raw = self._pixels[page, top : top + height, left : left + width]
        # In float64, so that 16-bit steps survive the subtraction whatever the range is.
        scaled = (raw.astype(np.float64) - self.low) / ((self.high - self.low) or 1)
        scaled = np.clip(scaled, 0, 1).astype(np.float32)
        return 1 - scaled if self._inverted else scaled


def open_image(path):
    """A file as an `ImageStack`, whose pages are read only when asked for. Raises InputError naming the file."""
    return ImageStack(path)


def read_image(path):
    """All pages of a PNG, TIFF, JPEG, GIF or BMP: a list of (H, W, C) float32 arrays in 0..1 (rule: top of this file).

    C is 1 for grey, 3 for RGB, or the channels of a microscope's TIFF. Alpha is dropped. A PNG or GIF with a palette is
    turned into its colours (one channel if they are all grey); a TIFF with a palette keeps its values as grey, since
    there the palette is a microscope's look-up table. TIFF pages declared "min is white" are inverted. Raises
    InputError.
    """
    return list(open_image(path))


def as_floats(image):
    """An array (H, W) or (H, W, C) as the network takes it: floats as they are; other types by the rule for files."""
    image = np.asarray(image)
    if image.dtype.kind == "f":
        return image
    low, high = _value_range(image[None], "the image")
    return np.clip((image.astype(np.float64) - low) / ((high - low) or 1), 0, 1).astype(np.float32)


def read_labels(path):
    """All pages of a mask, values as stored: a list of (H, W) int64 arrays. Nothing is scaled or decided here.

    A colour (R, G, B) becomes one number: the grey value where R = G = B, else COLOUR + 65536 R + 256 G + B, so grey
    RGB masks read like grey ones. Of a mask with a palette the indices are returned, or the grey values if the palette
    is grey. Raises InputError for an unreadable file, and for values that are fractions or below 0.
    """
    path = Path(path)
    pixels, _ = _open_pixels(path, for_labels=True)
    if pixels.shape[3] not in (1, 3):
        raise InputError(f"{path}: a mask with {pixels.shape[3]} channels; expected grey or RGB")
    if np.issubdtype(pixels.dtype, np.floating) and not np.array_equal(pixels, np.round(pixels)):
        raise InputError(
            f"{path}: mask values such as {_a_fraction(pixels):g} are not whole numbers; save labels as integers"
        )
    labels = pixels.astype(np.int64)
    if labels.size and labels.min() < 0:
        raise InputError(f"{path}: mask value {labels.min()}; expected 0 for background and positive labels")
    if labels.shape[3] == 3:
        red, green, blue = np.moveaxis(labels, 3, 0)
        grey = (red == green) & (green == blue)
        return list(np.where(grey, red, COLOUR + 65536 * red + 256 * green + blue))
    return list(labels[..., 0])


def is_grey(image):
    """Whether an (H, W, C) picture says the same in all its channels."""
    return bool((image == image[..., :1]).all())


def with_channels(image, channels, name="image"):
    """(H, W, C) as (H, W, channels): grey is repeated, equal channels are reduced to one;
    real colour is not thrown away.
    """
    if image.shape[2] == channels:
        return image
    if (image.shape[2], channels) == (1, 3) or (channels == 1 and is_grey(image)):
        return np.ascontiguousarray(np.broadcast_to(image[..., :1], (*image.shape[:2], channels)))
    raise InputError(
        f"{name} has {image.shape[2]} channels, expected {channels}; convert it to {'grey' if channels == 1 else 'RGB'}"
    )


# Reading -------------------------------------------------------------------------------------------------------------


def _open_pixels(path, for_labels):
    """Stored values as an array-like (pages, H, W, C), and whether 0 means white."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        if path.suffix.lower() in TIFF:
            return _open_tiff(path, for_labels)
        with Image.open(path) as picture:
            return _from_pillow(path, picture, for_labels), False
    except InputError:
        raise
    except Exception as error:  # the decoders raise a dozen kinds; each means that this file cannot be used
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as an image ({reason}); is it cut short or of another kind?"
        ) from error


def _from_pillow(path, picture, for_labels):
    if picture.format == "PNG" and picture.mode.startswith("RGB") and _png_depth(path) == 16:
        raise InputError(f"{path}: 16-bit colour PNG, of which only 8 bits would be read; save it as TIFF")
    pages = [_pillow_page(frame, for_labels) for frame in ImageSequence.Iterator(picture)]
    sizes = {page.shape for page in pages}
    if len(sizes) > 1:
        raise InputError(f"{path}: pages of different sizes {sorted(sizes)}; expected a stack of equal pages")
    return np.stack(pages)  # (pages, H, W, C)


def _png_depth(path):
    with path.open("rb") as file:
        return file.read(25)[24]  # signature 8, IHDR's length and name 8, width and height 8, then bits per sample


def _pillow_page(frame, for_labels):
    if frame.mode in ("P", "PA"):
        indices = np.asarray(frame.convert("P") if frame.mode == "PA" else frame)
        colours = np.array(frame.getpalette("RGB"), np.uint8).reshape(-1, 3)  # (entries, 3)
        used = colours[np.unique(indices)]
        grey = (used == used[:, :1]).all()
        page = colours[indices, 0] if grey else indices if for_labels else colours[indices]
    else:
        frame = frame.convert("RGB") if frame.mode in ("CMYK", "YCbCr", "LAB", "HSV") else frame
        page = np.asarray(frame)
    if page.ndim == 3 and page.shape[2] in (2, 4):
        page = page[..., :-1]  # grey or RGB, without alpha
    return page if page.ndim == 3 else page[..., None]  # (H, W, C)


def _open_tiff(path, for_labels):
    with _complaints() as complaints, tifffile.TiffFile(path) as tiff:
        stacks = tiff.series
        page = stacks[0].keyframe
        if any(
            "invalid page offset" in line for line in complaints
        ):  # else the pages that are left would pass for the whole stack
            raise InputError(f"{path}: the file is cut short at {path.stat().st_size} bytes; copy it again")
        if len({(stack.shape, stack.axes, stack.dtype) for stack in stacks}) > 1:
            raise InputError(
                f"{path}: pages of different sizes or types {[stack.shape for stack in stacks][:4]}; expected equal "
                f"pages"
            )
        axes = stacks[0].axes  # such as "QYX", "YXS", "TZCYX"
        alpha = "S" in axes and len(page.extrasamples) == 1
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not for_labels
        try:
            pixels = [_tiff_pixels(path, stack, alone=len(stacks) == 1) for stack in stacks]
        except ValueError as error:
            if not any(words in str(error) for words in ("imagecodecs", "not supported")):  # new and old tifffile
                raise
            with Image.open(
                path
            ) as picture:  # LZW, or JPEG in TIFF: Pillow brings libtiff, tifffile wants one package more
                return _from_pillow(path, picture, for_labels), False
    pixels = [_pages_first(path, part, axes, for_labels) for part in pixels]
    pixels = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)  # (pages, H, W, C)
    return pixels[..., :-1] if alpha else pixels, inverted


def _tiff_pixels(path, stack, alone):
    if alone and stack.dataoffset is not None and stack.keyframe.is_memmappable:
        return tifffile.memmap(path, mode="r").reshape(stack.shape)
    return stack.asarray(out="memmap" if stack.nbytes > MAX_IN_MEMORY else None).reshape(stack.shape)


def _pages_first(path, pixels, axes, for_labels):
    """A TIFF's own order of axes -> (pages, H, W, C): colour samples or up to 4 channels last;
    time, depth and the like are pages.
    """
    if "Y" not in axes or "X" not in axes:
        raise InputError(f"{path}: a TIFF with axes {axes}; expected pages of rows and columns")
    # a stack saved in ImageJ's format without axes calls its pages C
    few = "C" in axes and pixels.shape[axes.index("C")] <= 4
    channel = "S" if "S" in axes else "C" if few and not for_labels else ""
    pages = [name for name in axes if name not in "YX" + channel]
    pixels = np.transpose(pixels, [axes.index(name) for name in [*pages, "Y", "X", *channel]])
    pixels = pixels if channel else pixels[..., None]
    return pixels.reshape(-1, *pixels.shape[-3:])


@contextlib.contextmanager
def _complaints():
    """What tifffile says to its logger, as a list of lines instead of noise on the terminal."""
    lines, logger = [], logging.getLogger("tifffile")

    def keep(record):
        lines.append(record.getMessage())
        return False

    logger.addFilter(keep)
    try:
        yield lines
    finally:
        logger.removeFilter(keep)


def _value_range(pixels, path):
    """The stored values that become 0 and 1."""
    if pixels.size == 0:
        raise InputError(f"{path}: the picture has no pixels")
    if pixels.dtype == bool:
        return 0, 1
    if pixels.dtype == np.uint8:
        return 0, 255
    step = max(1, int(np.ceil(np.sqrt(pixels.size / MAX_SAMPLED))))
    sample = np.asarray(pixels[:, ::step, ::step], dtype=np.float64)
    if not np.isfinite(sample).all():
        raise InputError(f"{path}: the picture holds values that are not finite (NaN or infinity); replace them first")
    low, high = np.percentile(sample, [LOW_PERCENTILE, HIGH_PERCENTILE])
    if low == high:
        low, high = sample.min(), sample.max()
    return float(low), float(high)


def _a_fraction(pixels):
    return pixels[pixels != np.round(pixels)].flat[0]
