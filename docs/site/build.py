"""Builds the site: python docs/site/build.py [--out build/site] [--no-lite]. `make site` sets itself up and calls it.

build/site-pages   what Sphinx reads: pages of docs/site, copies of the lessons and of benchmarks/results, a page for
                   each module of npunet, and the numbers of the interactive pictures, which npunet computes here
build/site         the site. It needs no server and no network, except for lessons that run in the page
"""

import argparse
import importlib.util
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]
import lite  # noqa: E402

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
IN_LESSON = {  # the interactive picture of a lesson stands after its first cell
    "01_a_tour": "skips",
    "02_convolution": "convolution",
    "04_the_u": "fig1",
    "05_energy_and_weight_map": "weightmap",
    "08_augmentation": "deformation",
    "10_measures": "threshold",
}


RUN = """<p class="np-run"><a href="../lite/lab/index.html?path={name}.ipynb">Run this lesson in the page</a>.
npunet and the lesson come with this site. Python for the browser (Pyodide, with NumPy, SciPy and Matplotlib) comes from
cdn.jsdelivr.net. It needs a web server; <code>python -m http.server</code> is one. {minutes}</p>

"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def modules() -> list[str]:
    """Dotted names of the package's modules; a __main__ would run when imported."""
    import npunet

    names = ["npunet", *(module.name for module in pkgutil.walk_packages(npunet.__path__, "npunet."))]
    return [name for name in names if not name.endswith("__main__")]


def first_line(name: str) -> str:
    """The first sentence of a module's docstring, as reStructuredText."""
    text = (importlib.import_module(name).__doc__ or "").strip().split("\n\n")[0]
    return re.sub(r"([*_|])", r"\\\1", " ".join(text.split()))


def page_of(file: PurePosixPath) -> str | None:
    """The page that shows a file or folder of the repository, as a path from the site's root; None if there is none."""
    text = str(file)
    if file.suffix == ".ipynb":
        return f"lessons/{file.stem}.html"
    if file.parts[:1] == ("npunet",) and file.suffix in ("", ".py"):
        name = text.removesuffix(".py").removesuffix("/__init__").removesuffix("/__main__").replace("/", ".")
        return f"api/{name}.html"
    if file.parts[:2] == ("benchmarks", "results") and file.suffix in (".md", ".txt"):
        return f"{file.with_suffix('.html')}"
    if file.parts[:1] == ("tests",) and file.suffix == ".py":
        return f"{file.with_suffix('.html')}"
    if text in ("lessons/README.md", "lessons"):
        return "lessons/index.html"
    if text in ("lessons/build/README.md", "lessons/build"):
        return "lessons/build.html"
    if file.parts[:1] == ("lessons",) and file.suffix == ".md":
        return f"{file.with_suffix('.html')}"
    if text == "README.md":
        return "readme.html"
    if text == "docs/paper.md":
        return "paper.html"
    if file.parts[:1] == ("docs",) and file.suffix == ".md":
        return f"{file.with_suffix('.html')}"
    return None


def linked(text: str, source: str, page: str) -> str:
    """Markdown of the file ``source`` whose links to other files of the repository lead to pages of the site instead.

    ``page``: the page that the text will be, such as "lessons/02_convolution".
    """
    up = "../" * page.count("/")

    def sub(match):
        label, (path, _, anchor) = match.group(1), match.group(2).partition("#")
        if re.match(r"[a-z]+:", path) or not path:
            return match.group(0)
        parts: list[str] = []
        for part in (PurePosixPath(source).parent / path).parts:
            parts = parts[:-1] if part == ".." else parts + [part]
        found = page_of(PurePosixPath(*parts))
        if found is None:
            return f"{label}" if not (ROOT / Path(*parts)).suffix == ".png" else match.group(0)
        return f'<a href="{up}{found}{"#" + anchor if anchor else ""}">{label}</a>'

    return LINK.sub(sub, text)


def picture(name: str, up: str = "../") -> str:
    """The HTML that an interactive picture needs on a page."""
    return (
        f'<div class="npunet-picture" data-picture="{name}"></div>\n'
        f'<script src="{up}_static/numbers/{name}.js"></script>\n'
        f'<script src="{up}_static/pictures/common.js"></script>\n'
        f'<script src="{up}_static/pictures/{name}.js"></script>\n'
    )


def add_lessons(pages: Path) -> None:
    names = sorted(path.stem for path in (ROOT / "lessons").glob("[0-9]*.ipynb"))
    for name in names:
        book = json.loads((ROOT / "lessons" / f"{name}.ipynb").read_text(encoding="utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "markdown":
                text = linked("".join(cell["source"]), f"lessons/{name}.ipynb", f"lessons/{name}")
                cell["source"] = text.splitlines(keepends=True)
            elif "%matplotlib" in "".join(cell["source"]) or "hide-input" in cell["metadata"].get("tags", []):
                cell["metadata"]["tags"] = sorted({*cell["metadata"].get("tags", []), "hide-input"})
        text = RUN.format(name=name, minutes=lite.how_long(name)) + (
            picture(IN_LESSON[name]) if name in IN_LESSON else ""
        )
        book["cells"].insert(1, {"cell_type": "markdown", "id": "picture", "metadata": {}, "source": text})
        write(pages / "lessons" / f"{name}.ipynb", json.dumps(book))
    for figure in (ROOT / "lessons" / "figures").glob("*"):
        target = pages / "lessons" / "figures" / figure.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(figure, target)
    others = {path.stem: path for path in sorted((ROOT / "lessons").glob("*.md")) if path.stem != "README"}
    others["build"] = ROOT / "lessons" / "build" / "README.md"
    for name, path in others.items():
        text = linked(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)), f"lessons/{name}")
        write(pages / "lessons" / f"{name}.md", text)
    text = linked((ROOT / "lessons" / "README.md").read_text(), "lessons/README.md", "lessons/index")
    entries = "\n".join([*names, *others])
    write(pages / "lessons" / "index.md", f"{text}\n\n```{{toctree}}\n:hidden:\n{entries}\n```\n")


def add_api(pages: Path) -> None:
    """A page for each module. They are kept out of the side bar, which would repeat all their names on every page."""
    names = modules()
    for before, name, after in zip(["index", *names], names, [*names[1:], "index"]):
        ways = f":doc:`{before}` | :doc:`all modules <index>` | :doc:`{after}`"
        title = f":orphan:\n\n{name}\n{'=' * len(name)}\n\n{ways}\n\n"
        write(pages / "api" / f"{name}.rst", f"{title}.. automodule:: {name}\n   :ignore-module-all:\n")
    rows = "\n".join(f"* :doc:`{name} <{name}>`: {first_line(name)}" for name in names)
    write(pages / "api" / "index.rst", f"Modules\n=======\n\n{rows}\n")


def add_results(pages: Path) -> None:
    """benchmarks/results: every Markdown page, text tables as they are, and the pictures."""
    results, entries = ROOT / "benchmarks" / "results", []
    for path in sorted(results.rglob("*")):
        relative = path.relative_to(ROOT)
        if path.suffix == ".png":
            (pages / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, pages / relative)
        elif path.suffix == ".md":
            write(pages / relative, linked(path.read_text(), str(relative), str(relative.with_suffix(""))))
            entries.append(relative.with_suffix(""))
        elif path.suffix == ".txt" and not path.with_suffix(".md").exists():
            drawn = f"![{path.stem}]({path.stem}.png)\n\n" if path.with_suffix(".png").exists() else ""
            write(pages / relative.with_suffix(".md"), f"# {path.stem}\n\n{drawn}```text\n{path.read_text()}\n```\n")
            entries.append(relative.with_suffix(""))
    rows = "\n".join(str(entry.relative_to("benchmarks")) for entry in entries)
    intro = (HERE / "benchmarks.md").read_text()
    write(pages / "benchmarks" / "index.md", f"{intro}\n```{{toctree}}\n:maxdepth: 1\n{rows}\n```\n")


def add_paper_table(pages: Path) -> None:
    """docs/paper.md, and a page for each test file that it names."""
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    for test in sorted(set(re.findall(r"\(\.\./(tests/\w+\.py)\)", text))):
        code = (ROOT / test).read_text()
        page = f"---\norphan: true\n---\n# {test}\n\n````python\n{code}\n````\n"
        write(pages / f"{test.removesuffix('.py')}.md", page)
    write(pages / "paper.md", linked(text, "docs/paper.md", "paper"))


def add_docs(pages: Path) -> None:
    paths = [path for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "paper"]
    for path in paths:
        write(pages / "docs" / path.name, linked(path.read_text(), f"docs/{path.name}", f"docs/{path.stem}"))
    shutil.copytree(ROOT / "docs" / "pictures", pages / "docs" / "pictures")
    names = "\n".join(path.stem for path in paths)
    write(pages / "docs" / "index.md", f"# Guides\n\n```{{toctree}}\n:maxdepth: 1\n{names}\n```\n")


def add_readme(pages: Path) -> None:
    write(pages / "readme.md", linked((ROOT / "README.md").read_text(encoding="utf-8"), "README.md", "readme"))


def add_home(pages: Path) -> None:
    text = (HERE / "index.md").read_text(encoding="utf-8")
    for name in dict.fromkeys(IN_LESSON.values()):
        text = text.replace(f"{{{name}}}", picture(name, ""))
    write(pages / "index.md", text)


def copy_mathjax(folder: Path) -> None:
    """MathJax as one file that needs no fonts and no network."""
    package = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent
    folder.mkdir()
    shutil.copy(package / "static" / "mathjax" / "tex-svg.js", folder)


def shrink_pictures(folder: Path) -> None:
    """Pictures of more than 256 colours get a palette of 256, as the lessons' own pictures have already."""
    for path in folder.rglob("*.png"):
        with Image.open(path) as picture:
            if picture.mode in ("RGB", "RGBA"):
                solid = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
                solid.convert("RGB").quantize(256).save(path, optimize=True)


def assemble(pages: Path) -> None:
    import numbers_of_pictures

    shutil.rmtree(pages, ignore_errors=True)
    for folder in ("_static", "_templates"):
        shutil.copytree(HERE / folder, pages / folder)
    shutil.copy(HERE / "conf.py", pages / "conf.py")
    numbers_of_pictures.write_all(pages / "_static" / "numbers")
    copy_mathjax(pages / "_static" / "mathjax")
    for add in (add_home, add_readme, add_lessons, add_api, add_results, add_paper_table, add_docs):
        add(pages)


def main(arguments: list[str] | None = None) -> None:
    parse = argparse.ArgumentParser(description="Build npunet's site.")
    parse.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="folder for the site")
    parse.add_argument("--no-lite", action="store_true", help="without the lessons that run in the page")
    options = parse.parse_args(arguments)
    options.out = options.out.resolve()
    start, pages = time.perf_counter(), options.out.with_name(options.out.name + "-pages")
    assemble(pages)
    shutil.rmtree(options.out, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-j", "2", "-b", "html", "-d", str(pages) + "-cache"]
    subprocess.run([*command, str(pages), str(options.out)], check=True)
    if not options.no_lite:
        lite.build(options.out / "lite", options.out.with_name(options.out.name + "-lite"))
    shrink_pictures(options.out)
    print(f"{time.perf_counter() - start:.0f} s; open {options.out}/index.html")


if __name__ == "__main__":
    main()
