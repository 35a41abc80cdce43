"""JupyterLite for the site: the lessons run in the page that shows them. docs/site/build.py calls it.

JupyterLite is JupyterLab as a static page. Its Python is Pyodide, CPython compiled to WebAssembly, which comes from
its own server; npunet's wheel and what else it needs in pure Python come with the site.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
PURE = ("comm", "tifffile", "tqdm", "threadpoolctl")  # pure Python; NumPy, SciPy, Pillow, Matplotlib are Pyodide's
# Parts of JupyterLab that no lesson uses are switched off, and their large files are left out: 5 MB
SWITCHED_OFF = ["@jupyterlab/mermaid-extension", "@jupyterlab/vega5-extension", "@jupyterlab/terminal-extension"]
UNUSED = re.compile(r"mermaid|org\.eclipse\.elk|chevrotain|cytoscape|katex|vega|xterm")
LARGE = 60_000  # bytes
# Seconds of a processor that all cells of lesson 0, 1, ... take in Pyodide (benchmarks/results/browser.md)
SECONDS = (10, 100, 18, 17, 207, 94, 110, 82, 22, 52, 21, 141, 132, 275, 9, 81, 33)
ICONS = ("*.map", "fa-*.svg", "fa-*.ttf", "fa-*.eot", "fa-*.woff")  # browsers take the icons' .woff2


def how_long(name: str) -> str:
    """What a reader should know before a lesson runs in a page: Python has one thread there."""
    return f"In a browser this lesson takes about {in_words(SECONDS[int(name[:2])])}."


def in_words(seconds: float) -> str:
    """Seconds as a reader wants to know them: "40 seconds", "a minute", "3 minutes"."""
    if seconds < 55:
        return f"{10 * round(seconds / 10)} seconds"
    return f"{round(seconds / 60)} minutes" if seconds >= 90 else "a minute"


def to_be_run(book: dict, name: str) -> dict:
    """A lesson without its results, and with a first cell that installs npunet where the lesson runs in a page.

    A cell that takes long there says so in its first line: "seconds_in_a_page" of its metadata, which were measured.
    """
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            if seconds := cell["metadata"].get("seconds_in_a_page"):
                says = f"# In a browser this cell takes about {in_words(seconds)}.\n"
                cell["source"] = says + "".join(cell["source"])
    first = {"cell_type": "code", "id": "install", "metadata": {}, "outputs": [], "execution_count": None}
    book["cells"].insert(0, first | {"source": f"# {how_long(name)}\n%pip install -q npunet"})
    return book


def gather(work: Path) -> None:
    """work/content: the lessons with their helpers; work/pypi: the wheels; work/jupyter-lite.json: the settings."""
    content, wheels = work / "content", work / "pypi"
    content.mkdir(parents=True)
    wheels.mkdir()
    for path in (ROOT / "lessons").glob("*.py"):
        shutil.copy(path, content)
    for path in (ROOT / "lessons").glob("*.ipynb"):
        book = to_be_run(json.loads(path.read_text(encoding="utf-8")), path.stem)
        (content / path.name).write_text(json.dumps(book), encoding="utf-8")
    for folder in ("figures", "networks"):
        shutil.copytree(ROOT / "lessons" / folder, content / folder)
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", str(wheels), str(ROOT)], check=True)
    subprocess.run([*PIP, "download", "--no-deps", "-d", str(wheels), *PURE], check=True)
    settings = {"jupyter-lite-schema-version": 0, "jupyter-config-data": {"disabledExtensions": SWITCHED_OFF}}
    (work / "jupyter-lite.json").write_text(json.dumps(settings))


def leave_out_unused(folder: Path) -> None:
    """Deletes icons in old formats and the large files of what is switched off, which nothing loads unless asked."""
    for pattern in ICONS:
        for path in folder.rglob(pattern):
            path.unlink()
    for path in (folder / "build").glob("[0-9]*.js"):
        if path.stat().st_size > LARGE and UNUSED.search(path.read_text(encoding="utf-8")):
            path.unlink()


def build(out: Path, work: Path) -> None:
    """JupyterLite with the lessons and npunet's own wheel in the folder ``out``."""
    shutil.rmtree(work, ignore_errors=True)
    gather(work)
    command = [sys.executable, "-m", "jupyter", "lite", "build", "--lite-dir", str(work)]
    command += ["--contents", str(work / "content"), "--output-dir", str(out)]
    command += ["--apps", "lab", "--no-sourcemaps", "--no-unused-shared-packages"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"jupyter lite build failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    leave_out_unused(out)
