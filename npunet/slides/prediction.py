"""One slide from its beginning to its end: predict the blocks, number the cells, add the smaller levels, publish."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from npunet import tiling
from npunet.commands.grey_values import rule_of, stranger
from npunet.commands.inputs import stem
from npunet.commands.prediction import LARGEST_PNG, Page, Wanted, head_of, written_values
from npunet.commands.settled_marks import SettledMarks
from npunet.files import images
from npunet.files.calibration import read_calibration
from npunet.files.chunked import ChunkedPixels
from npunet.files.ome_zarr import is_zarr, library, metadata_file, zarr_version
from npunet.machine import ranks
from npunet.slides import overview
from npunet.slides import plan as plans
from npunet.slides.cells import SlideCells
from npunet.slides.output import Output, add_levels
from npunet.slides.work import Work


def is_slide(path: Path, form: str, stack=None) -> bool:
    """Whether a picture is predicted block by block: asked for by --format, OME-Zarr, or a large TIFF in tiles."""
    if form != "auto" or is_zarr(path):
        return True
    if path.suffix.lower() not in images.TIFF:
        return False
    stack = stack or images.open_image(path)
    return isinstance(stack.pixels, ChunkedPixels) and stack.shape[1] * stack.shape[2] > LARGEST_PNG


def predict_slide(
    net,
    path: Path,
    output: Path,
    tile: int,
    *,
    form: str = "auto",
    wanted: Wanted = Wanted(),
    threshold: float = 0.5,
    augment: bool = False,
    model: Path | None = None,
) -> list[int]:
    """Predict all pages of one slide; returns how many cells each has, [] without a cutting. All ranks call it.

    output     the folder of the results: each is there whole or not at all
    form       of `plan.FORMATS`; "auto" writes what the input is
    model      the network's file, by which a run that goes on knows that it is the same
    Raises InputError for what cannot be read, written or held in memory.
    """
    slide = Slide(net, path, output, tile, form, wanted, threshold, augment)
    plans.check_memory(slide.memory, ranks.on_this_machine())
    print(slide.described(), flush=True)
    if ranks.rank() == 0 and (strange := stranger(net, slide.stack)):
        print(strange, file=sys.stderr)
    with slide.work.begun(slide.settings(model)) as work:
        if work.goes_on:
            print("going on with what an earlier run has left", flush=True)
        return slide.run()


def version_of(path: Path, form: str) -> str | None:
    """The version of OME-Zarr in which the results are written; None for TIFF. Raises InputError without zarr."""
    if form == "auto":
        return zarr_version(path) if is_zarr(path) else None
    if form == "tiff":
        return None
    library()
    return "0.4" if form == "zarr-0.4" else zarr_version(path) if form == "zarr" and is_zarr(path) else "0.5"


class Slide:
    """One slide with all that its prediction needs; see `predict_slide`."""

    def __init__(self, net, path, output, tile, form, wanted, threshold, augment):
        self.net, self.path, self.folder = net, path, output
        self.wanted, self.threshold, self.augment = wanted, threshold, augment
        self.stack = images.open_image(path, rule_of(net))
        self.stack.value_range = ranks.from_first(self.stack.value_range if ranks.rank() == 0 else None)
        self.shape = self.stack.shape[:3]
        self.side = plans.side_of(net, tile, max(self.shape[1:]))
        self.plan, self.grid = plans.blocks(self.shape, net, self.side)
        self.memory = plans.memory(net, self.side, self.stack.pixels)
        calibration = read_calibration(path)
        if wanted.pixel_size:
            calibration = replace(calibration, x=wanted.pixel_size, y=wanted.pixel_size)
        self.version = version_of(path, form)
        self.work = Work(output / f".{stem(path)}.npunet-work")
        self.output = Output(self.work, stem(path), self.version, self.side, calibration, self.shape[0])
        self.cells = wanted.cutting and SlideCells(self.work, wanted.cutting, self.plan, self.grid, self.shape)
        self.heads, self.level = head_of(net), overview.level_of(self.shape)
        self.classes = 2 if self.heads else net.n_labels
        self.shown = [1] if self.classes == 2 else list(range(self.classes))

    def described(self) -> str:
        """What is going to happen, and the memory that it needs, in one line."""
        pages, height, width = self.shape
        size = f"{pages} x " * (pages > 1) + f"{height:,} x {width:,}"
        form = f"OME-Zarr {self.version}" if self.version else "tiled TIFF"
        return (
            f"{self.path.name}: {size} pixels, {len(self.plan):,} blocks of {self.side}, {ranks.size()} "
            f"process{'es' * (ranks.size() > 1)} of about {self.memory / 1e6:,.0f} MB each; {form} in {self.folder}/"
        )

    def settings(self, model: Path | None) -> dict:
        """All that the results depend on."""
        stat = metadata_file(self.path).stat()
        return {
            "input": [str(self.path.resolve()), list(self.stack.shape), stat.st_size, stat.st_mtime_ns],
            "range": list(self.stack.value_range),
            "model": hashlib.sha256(Path(model).read_bytes()).hexdigest() if model else None,
            "side": self.side,
            "version": self.version,
            "threshold": self.threshold,
            "augment": self.augment,
            "probabilities": self.wanted.probabilities,
            "cutting": repr(self.wanted.cutting),
            "pixel_size": self.wanted.pixel_size,
        }

    def run(self) -> list[int]:
        values = written_values(self.net)
        written = {"mask": self.output.mask((*self.shape, *values.shape[1:]))}
        if self.wanted.probabilities != "none":
            shape = (*self.shape, *[len(self.shown)] * (len(self.shown) > 1))
            written["probability"] = self.output.probabilities(shape, self.wanted.probabilities)
        self.work.share("block", self.plan, lambda block: self.predict(block, written, values), self.path.name)
        counts = []
        if self.cells:
            found = self.cells.find()
            counts = [joined.count for joined in found]
            written["cells"] = self.output.cells(self.shape, max(counts))
            self.cells.write(written["cells"], found)
            self.cells.measure(
                written["cells"], found, self.stack, self.output.table, self.output.calibration.pixel_size
            )
        for name, pyramid in written.items():
            add_levels(self.work, pyramid, self.shape[0], self.side, name)
        if self.cells and ranks.rank() == 0:
            small = overview.Small(self.work, self.plan, self.grid, self.shape)
            overview.write(self.output.overview, small, written["cells"], self.level, self.output.calibration)
        ranks.barrier()
        print(self.output.publish(self.folder, sum(counts) if self.cells else None), flush=True)
        return counts

    def predict(self, block: plans.Block, written: dict, values: np.ndarray) -> dict:
        """One block of mask and probabilities is written; what its cells are found from is returned."""
        image = Page(self.stack, block.page, self.net.in_channels)
        row, column = block.rows, block.columns
        size = row.stop - row.start, column.stop - column.start
        piece = tiling.gather(image, row.start, column.start, *size)
        p = tiling.predict_piece(self.net, piece, self.augment)[tiling.within(row), tiling.within(column)]
        kept = {}
        if self.cells:
            marks = SettledMarks(self.net, image, self.wanted.cutting, self.augment).of(*block.place, p)
            kept = self.cells.summary(block, marks) | {"seen": overview.seen(piece, block, 2**self.level)}
        p = self.heads.foreground(p) if self.heads else p  # (h, w, classes)
        written["mask"].write(0, block.page, *block.place, values[tiling.classify(p, self.threshold)])
        if "probability" in written:
            p = p[..., self.shown] if len(self.shown) > 1 else p[..., self.shown[0]]
            p = np.round(p * 65535).astype(np.uint16) if self.wanted.probabilities == "uint16" else p
            written["probability"].write(0, block.page, *block.place, p)
        return kept
