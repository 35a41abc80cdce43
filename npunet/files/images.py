"""Pictures in and out:
any microscope's file becomes float32 in 0..1, and what npunet writes any viewer shows (§4, the data).

The one scaling rule, for `read_image` and `open_image` alike:

- **8-bit** pixels are divided by 255 (1-bit ones are 0 and 1 already).
- **everything else** (16 and 32 bit, float) is stretched so that the 0.1 percentile of the file becomes 0 and the 99.9
  percentile becomes 1, with the rest clipped. A `GreyRule` may say something else: one range for all files, or the
  range of their type. Cameras fill 12 of 16 bits, or a hundredth of them, and a few hot pixels
  must not turn the picture black, so neither division by 65535 nor the extremes will do. The percentiles are taken over
  all pages together, which keeps the pages of a stack comparable, and from at most 2^22 pixels at equal steps, which
  keeps it the same rule for a slide that never fits into memory. Where the percentiles coincide (a few bright spots on
  black) smallest and largest value take their place; a constant picture becomes 0.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npunet.errors import InputError
from npunet.files.chunked import ChunkedPixels
from npunet.files.image_writing import EXTENSIONS, TIFF, write_image, write_labels, write_mask, write_pages
from npunet.files.stored_pixels import HEIF, open_pixels

__all__ = [
    "EXTENSIONS",
    "HEIF",
    "TIFF",
    "GreyRule",
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
GREY_RULES = ("file", "training", "type")
LEAST_RANGE = 0.25  # of the narrowest range of a training file: see GreyRule.least
COLOUR = 1 << 24  # read_labels writes a coloured pixel as COLOUR + 65536 R + 256 G + B


@dataclass(frozen=True)
class GreyRule:
    """Which stored values become 0 and 1 in files that are not of 8 bits (§4, the data).

    by: "file", the percentiles of each file; "training", `low` and `high`, those of the training files taken together;
    "type", 0 and the largest value of the integers (0 and 1 for floats).
    least: with "file", no range is taken narrower than this, so that the noise of an empty field is not stretched until
    it looks like cells. 0 if nothing is known.
    """

    by: str = "file"
    low: float = 0.0
    high: float = 0.0
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.by not in GREY_RULES:
            raise InputError(f"grey values scaled by {self.by!r}; expected one of {', '.join(GREY_RULES)}")

    @classmethod
    def of_training(cls, by: str, ranges: Sequence[tuple[float, float]]) -> "GreyRule":
        """The rule of a network. ranges: (low, high) of each training file by its percentiles; [] for 8 bits alone."""
        if not ranges:
            return cls(by)
        lows, highs = zip(*ranges)
        if by == "training":
            return cls(by, low=min(lows), high=max(highs))
        return cls(by, least=LEAST_RANGE * min(high - low for low, high in ranges) if by == "file" else 0.0)

    @classmethod
    def of(cls, known: dict[str, Any] | None) -> "GreyRule":
        """The rule that `as_dict` wrote into a network's file; the usual one where nothing is known."""
        return cls(**{name: known[name] for name in cls.__dataclass_fields__}) if known else cls()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class ImageStack:
    """The pages of one file, read and scaled one at a time (the file stays on disk where its layout allows).

    `stack[i]` is page i as (H, W, C) float32 in 0..1; `window` reads a part of it. `shape` is (pages, H, W, C).
    """

    def __init__(self, path: str | Path, rule: GreyRule = GreyRule()) -> None:
        self.path = Path(path)
        self.pixels, self._inverted = open_pixels(self.path, for_labels=False)
        self.shape, self.stored = self.pixels.shape, self.pixels.dtype  # stored: their type in the file
        self._rule = rule
        if not isinstance(self.pixels, ChunkedPixels):
            self.value_range  # an error comes at once

    @functools.cached_property
    def value_range(self) -> tuple[float, float]:
        """(low, high), which become 0 and 1. For a slide every chunk is read: once, when they are first needed."""
        return _value_range(self.pixels, self.path, self._rule)

    @property
    def low(self) -> float:
        return self.value_range[0]

    @property
    def high(self) -> float:
        return self.value_range[1]

    @property
    def held_back(self) -> bool:
        """Whether the file spans less than the rule's `least`."""
        least = self._rule.least
        return least > 0 and self.stretched == (self.low, self.low + least)

    @property
    def stretched(self) -> tuple[float, float] | None:
        """(low, high) that became 0 and 1; None for 8 bits, which are never stretched."""
        return None if self.stored in (np.uint8, bool) else (self.low, self.high)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, page: int) -> np.ndarray:
        return self.window(page, 0, 0, *self.shape[1:3])

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.__getitem__, range(len(self)))

    def raw(self, page: int) -> np.ndarray:
        """One page as the file stores it, (H, W, C) of its own type; read when sliced, where the layout allows."""
        return self.pixels[page]

    def window(self, page: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Rows top..top+height and columns left..left+width of one page: (height, width, C) float32 in 0..1."""
        raw, (low, high) = self.pixels[page, top : top + height, left : left + width], self.value_range
        scaled = _scaled(raw, low, high)
        return 1 - scaled if self._inverted else scaled


def _scaled(values, low, high):
    """float32 in 0..1: low and what is below become 0, high and what is above 1; all 0 if they are the same."""
    # In float64, so that 16-bit steps survive the subtraction whatever the range is.
    return np.clip((values.astype(np.float64) - low) / ((high - low) or 1), 0, 1).astype(np.float32)


def open_image(path: str | Path, rule: GreyRule = GreyRule()) -> ImageStack:
    """A file as an `ImageStack`, whose pages are read only when asked for. Raises InputError naming the file."""
    return ImageStack(path, rule)


def read_image(path: str | Path, rule: GreyRule = GreyRule()) -> list[np.ndarray]:
    """All pages of a PNG, TIFF, JPEG, GIF or BMP: a list of (H, W, C) float32 arrays in 0..1 (rule: top of this file).

    C is 1 for grey, 3 for RGB, or the channels of a microscope's TIFF. Alpha is dropped. A PNG or GIF with a palette is
    turned into its colours (one channel if they are all grey); a TIFF with a palette keeps its values as grey, since
    there the palette is a microscope's look-up table. TIFF pages declared "min is white" are inverted. Raises
    InputError.
    """
    return list(open_image(path, rule))


def as_floats(image: np.ndarray, rule: GreyRule = GreyRule()) -> np.ndarray:
    """An array (H, W) or (H, W, C) as the network takes it: floats as they are; other types by the rule for files."""
    image = np.asarray(image)
    if image.dtype.kind == "f":
        return image
    return _scaled(image, *_value_range(image[None], "the image", rule))


def read_labels(path: str | Path) -> list[np.ndarray]:
    """All pages of a mask, values as stored: a list of (H, W) int64 arrays. Nothing is scaled or decided here.

    A colour (R, G, B) becomes one number: the grey value where R = G = B, else COLOUR + 65536 R + 256 G + B, so grey
    RGB masks read like grey ones. Of a mask with a palette the indices are returned, or the grey values if the palette
    is grey. Raises InputError for an unreadable file, and for values that are fractions or below 0.
    """
    path = Path(path)
    pixels, _ = open_pixels(path, for_labels=True)
    if pixels.shape[3] not in (1, 3):
        raise InputError(f"{path}: a mask with {pixels.shape[3]} channels; expected grey or RGB")
    pixels = np.asarray(pixels)
    if np.issubdtype(pixels.dtype, np.floating) and not np.array_equal(pixels, np.round(pixels)):
        raise InputError(
            f"{path}: mask values such as {_a_fraction(pixels):g} are not whole numbers; save labels as integers"
        )
    labels = pixels.astype(np.intp)
    if labels.size and labels.min() < 0:
        raise InputError(f"{path}: mask value {labels.min()}; expected 0 for background and positive labels")
    if labels.shape[3] == 3:
        red, green, blue = np.moveaxis(labels, 3, 0)
        grey = (red == green) & (green == blue)
        return list(np.where(grey, red, COLOUR + 65536 * red + 256 * green + blue))
    return list(labels[..., 0])


def is_grey(image: np.ndarray) -> bool:
    """Whether an (H, W, C) picture says the same in all its channels."""
    return bool((image == image[..., :1]).all())


def with_channels(image: np.ndarray, channels: int, name: str = "image") -> np.ndarray:
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


def _value_range(pixels, path, rule):
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
    if rule.by == "training" and rule.high > rule.low:
        return rule.low, rule.high
    if rule.by == "type":
        return 0.0, float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "iu" else 1.0
    return float(low), float(max(high, low + rule.least))


def _a_fraction(pixels):
    return pixels[pixels != np.round(pixels)].flat[0]
