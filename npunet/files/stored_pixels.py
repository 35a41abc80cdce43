"""What the pixels of a picture file are, as they are stored, before any scaling: PNG, TIFF, JPEG, GIF, BMP, HEIF,
OME-Zarr.

A file is asked what it declares before anything is allocated, and what is missing in it is an error: rows of a PNG,
tiles of a TIFF. Otherwise the decoders would fill it with black in silence. A JPEG that its camera says to turn
(EXIF) is turned, as every viewer does.
"""

import contextlib
import logging
import zlib

import numpy as np
import tifffile
from PIL import Image, ImageOps, ImageSequence

from npunet.errors import InputError
from npunet.files.image_writing import TIFF
from npunet.files.ome_zarr import is_zarr, open_zarr
from npunet.files.tiff_tiles import check_directories, open_tiles, slide_series

HEIF = (".heic", ".heif")  # what phones write
MAX_IN_MEMORY = 2**28  # bytes; a compressed TIFF larger than this is unpacked to a temporary file instead
LARGEST_EXPANSION = 1100  # bytes that DEFLATE can make of one; more is declared by no honest file
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples of a pixel, by PNG's colour type

Image.MAX_IMAGE_PIXELS = None  # Pillow refuses 180-megapixel pictures as attacks; to a microscope they are slides


def open_pixels(path, for_labels):
    """Stored values as an array-like (pages, H, W, C), and whether 0 means white."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if is_zarr(path):
        return open_zarr(path), False
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected an image file")
    if not path.is_file():
        raise InputError(f"{path}: is no regular file; expected an image file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        if path.suffix.lower() in TIFF:
            return _open_tiff(path, for_labels)
        if path.suffix.lower() in HEIF:
            _learn_heif(path)
        with Image.open(path) as picture:
            if picture.format == "PNG":
                _check_png(path)
            return _from_pillow(path, picture, for_labels), False
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: too large for the memory that is free; cut it into parts") from None
    except Exception as error:  # the decoders raise a dozen kinds; each means that this file cannot be used
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as an image ({reason}); is it cut short or of another kind?"
        ) from error


def _learn_heif(path):
    """Teach Pillow to read HEIF, which it does with the package pillow-heif."""
    try:
        import pillow_heif
    except ImportError:
        raise InputError(
            f"{path}: a photograph in HEIF, which needs the package pillow-heif (pip install pillow-heif); or save it "
            "as JPEG"
        ) from None
    pillow_heif.register_heif_opener()


def _from_pillow(path, picture, for_labels):
    if picture.format == "PNG" and picture.mode.startswith("RGB") and _png_depth(path) == 16:
        raise InputError(f"{path}: 16-bit colour PNG, of which only 8 bits would be read; save it as TIFF")
    frames = [picture] if picture.format == "JPEG" else ImageSequence.Iterator(picture)
    pages = [_pillow_page(ImageOps.exif_transpose(frame), for_labels) for frame in frames]
    sizes = {page.shape for page in pages}
    if len(sizes) > 1:
        raise InputError(f"{path}: pages of different sizes {sorted(sizes)}; expected a stack of equal pages")
    return np.stack(pages)  # (pages, H, W, C)


def _check_png(path):
    """Raises InputError if a PNG declares more pixels than its data can hold, or holds fewer rows than it declares."""
    with path.open("rb") as file:
        file.seek(8)
        needed, found, unpack = 0, 0, zlib.decompressobj()
        while len(head := file.read(8)) == 8:
            size, kind = int.from_bytes(head[:4]), head[4:]
            if kind == b"IHDR":
                needed = _png_bytes(file.read(size))
            elif kind == b"IDAT":
                for start in range(0, size, 2**20):
                    found += len(unpack.decompress(file.read(min(2**20, size - start))))
            else:
                file.seek(size, 1)
            file.seek(4, 1)  # the check sum
            if needed > LARGEST_EXPANSION * path.stat().st_size:
                raise InputError(f"{path}: declares {needed:,} bytes of pixels in a file of {path.stat().st_size:,}")
    if found < needed:
        raise InputError(f"{path}: holds {found:,} of {needed:,} bytes of pixels; rows are missing, copy it again")


def _png_bytes(header):
    """Bytes of all rows, with the byte before each that names its filter, as the header declares them."""
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    bits = header[8] * CHANNELS.get(header[9], 1)
    if header[12] == 0:
        return height * (1 + -(-width * bits // 8))
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # Adam7
    sizes = [(-(-(height - top) // down), -(-(width - left) // across)) for top, left, down, across in passes]
    return sum(rows * (1 + -(-columns * bits // 8)) for rows, columns in sizes if rows > 0 and columns > 0)


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


def mask_palette(path):
    """[(R, G, B) of index 0, 1, ..] of a mask whose indices are read though they show colours; None for any other."""
    if path.suffix.lower() in TIFF:
        return None
    with Image.open(path) as picture:
        if picture.mode not in ("P", "PA"):
            return None
        colours = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)  # (entries, 3)
        used = [index for index in np.unique(picture.convert("P")) if index < len(colours)]
    grey = (colours[used] == colours[used][:, :1]).all()
    return None if grey else [tuple(map(int, colour)) for colour in colours[: max(used) + 1]]


def _open_tiff(path, for_labels):
    check_directories(path)
    with _complaints() as complaints, tifffile.TiffFile(path) as tiff:
        stacks = slide_series(tiff)
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
        _check_tiff(path, stacks, page)
        axes = stacks[0].axes  # such as "QYX", "YXS", "TZCYX"
        alpha = "S" in axes and len(page.extrasamples) == 1
        inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not for_labels
        try:
            if len(stacks) == 1 and (tiles := open_tiles(path, tiff, stacks[0], for_labels)):
                return tiles, inverted
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


def _check_tiff(path, stacks, page):
    """Raises InputError for tiles or strips that are not there, sizes that the file cannot hold, complex numbers."""
    if np.dtype(page.dtype).kind == "c":
        raise InputError(f"{path}: holds complex numbers; expected grey values, save the magnitude")
    size = path.stat().st_size
    if sum(stack.nbytes for stack in stacks) > LARGEST_EXPANSION * size:
        declared = sum(stack.nbytes for stack in stacks)
        raise InputError(f"{path}: declares {declared:,} bytes of pixels in a file of {size:,}; it is damaged")
    for stack in stacks:
        for part in stack.pages:
            if part is None or not hasattr(part, "dataoffsets"):
                continue
            expected = int(np.prod(part.chunked)) if part.chunked else 1
            gone = sum(not count for count in part.databytecounts) + max(0, expected - len(part.dataoffsets))
            if gone:
                raise InputError(f"{path}: {gone} of {expected} tiles or strips are missing; copy it again")
            if any(at + count > size for at, count in zip(part.dataoffsets, part.databytecounts)):
                raise InputError(f"{path}: the file is cut short at {size} bytes; copy it again")


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
    few = (
        "C" in axes and pixels.shape[axes.index("C")] <= 4
    )  # a stack saved in ImageJ's format without axes calls its pages C
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
