"""Slides: images that no memory holds, in and out chunk by chunk, by one process or by many (§1, Fig. 2).

    python -m npunet.predict --model net.npz --input slide.zarr --output found
    mpiexec -n 4 python -m npunet.predict ...                        the processes share the tiles

The output is cut into *blocks*, squares of one chunk each. A block is predicted by itself, from the part of the slide
that its pixels see; so the processes share the blocks, and no two ever write one chunk. What is finished is noted in a
folder beside the results, and a run that was killed goes on from there. Cells are found from one byte a pixel, block by
block too (`npunet.instances.blocks`), and are the same whatever the blocks and the number of processes.

    plan.py        which blocks there are, and the memory that one takes
    work.py        the folder of a run: what is finished, and who does what
    output.py      the pyramids that are written: OME-Zarr, or tiled TIFF
    prediction.py  the run from its beginning to its end
    cells.py       numbers of cells, and their table
    overview.py    the whole slide with outlines, small
"""

from npunet.slides.plan import FORMATS, LARGEST_TILE
from npunet.slides.prediction import is_slide, predict_slide

__all__ = ["FORMATS", "LARGEST_TILE", "is_slide", "predict_slide"]
