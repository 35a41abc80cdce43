"""What a lesson stores beside its text: pictures with a description and a caption, and npunet's own source.

Each carries what tests/test_lessons.py needs to see that it is not older than the code it came from: a picture the code
that had run when it was drawn and a summary of what it shows, a source the name of its function.
"""

import base64
import hashlib
import importlib
import inspect
import io
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import Markdown, display
from PIL import Image

import npunet

ROOT = Path(npunet.__file__).resolve().parents[1]  # where npunet is; a browser has it elsewhere than the lessons
WIDEST = 740  # pixels of the page
LARGE = 120_000  # bytes of a picture above which it gets fewer colours, then fewer pixels


def show(fig, alt, caption, *, varies=False):
    """Display a figure with a caption and close it. alt: what it shows, for those who do not see it.

    varies: its numbers are timings, or come from a training that takes another course on another machine; then a test
    compares what kind of picture it is, not its numbers.
    """
    summary = drawn(fig, numbers=not varies)
    picture = small_png(fig)
    plt.close(fig)
    with Image.open(io.BytesIO(picture)) as opened:
        scale = max(2 * opened.info.get("dpi", (160,))[0] / 160, opened.width / WIDEST)
        size = {"width": round(opened.width / scale), "height": round(opened.height / scale)}
    bundle = {"image/png": base64.b64encode(picture).decode(), "text/plain": alt}
    display(bundle, raw=True, metadata={"image/png": {"alt": alt, **size}, "drawn": summary, "code": code_so_far()})
    display(Markdown(f"*{caption}*"))


def small_png(fig):
    """The figure as PNG: 256 colours, fewer if it is large, fewer pixels if it is very large."""
    for dpi, colours in ((160, 256), (160, 128), (120, 128), (100, 64)):
        whole, small = io.BytesIO(), io.BytesIO()
        fig.savefig(whole, format="png", bbox_inches="tight", dpi=dpi)
        image = Image.open(whole).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        image.save(small, "PNG", optimize=True, dpi=(dpi, dpi))
        if small.tell() < LARGE:
            break
    return small.getvalue()


def drawn(fig, numbers=True):
    """{"kinds": what each axes holds, "numbers": the mean size of its data}, short enough to store beside a picture."""
    kinds, means = [], []
    for axes in fig.axes:
        images = [np.asarray(image.get_array()) for image in axes.images]
        lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
        words = [text.get_text() for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)]
        words += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        words = re.sub(r"[\W\d_]+", " ", " ".join(words)).split()
        kinds.append(
            f"{[image.shape for image in images]} {[line.size for line in lines]} {len(axes.patches)} patches, "
            f"{len(axes.collections)} collections, {' '.join(words)}"
        )
        data = [np.abs(array[np.isfinite(array)]) for array in images + lines]
        data += [np.abs([getattr(patch, "get_height", lambda: 0)() for patch in axes.patches])] if axes.patches else []
        means += [float(f"{array.mean():.4g}") for array in data if array.size]
    return {"kinds": kinds} | ({"numbers": means} if numbers else {})


def code_so_far():
    """A hash of all code that has run in this notebook, this cell included."""
    return code_hash(get_ipython().history_manager.input_hist_raw[1:])


def code_hash(sources):
    return hashlib.sha256("\n".join(source.strip() for source in sources).encode()).hexdigest()[:16]


def show_source(*functions, docstring=True):
    """Print functions or classes of npunet as they stand in their files; docstring=False leaves theirs out."""
    for function in functions:
        function = inspect.unwrap(function)
        name = f"{function.__module__}:{function.__qualname__}"
        display(
            Markdown(source_text(name, docstring)),
            metadata={"source": name, "docstring": docstring},
        )


def show_kernel(file, name):
    """Print one function of npunet/gpu/FILE.cu as it stands there."""
    name = f"npunet/gpu/{file}.cu:{name}"
    display(Markdown(source_text(name)), metadata={"source": name, "docstring": True})


def source_text(name, docstring=True):
    """The Markdown that is shown for "module:qualified name" or "npunet/gpu/FILE.cu:function"."""
    place, _, qualname = name.partition(":")
    if place.endswith(".cu"):
        text = (ROOT / place).read_text(encoding="utf-8")
        found = re.search(r"^(?:extern|__device__)[^\n;]*\b" + qualname + r"\(.*?^}$", text, re.DOTALL | re.MULTILINE)
        return f"`{place}`\n\n```cuda\n{found.group()}\n```"
    found = importlib.import_module(place)
    path = Path(inspect.getsourcefile(found)).resolve().relative_to(ROOT).as_posix()
    for part in qualname.split("."):
        found = inspect.unwrap(getattr(found, part))
    source = textwrap.dedent(inspect.getsource(found)).rstrip()
    if not docstring and found.__doc__:
        source = re.sub(r'\n *(?:""".*?""")(?=\n)', "", source, count=1, flags=re.DOTALL)
    return f"`{path}`\n\n```python\n{source}\n```"
