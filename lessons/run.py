"""Execute notebooks in place, from a clean kernel, without timestamps:  python -m lessons.run [02 06 ...]

Run it from the root of the project after any change to a lesson. Where nothing has changed but the text of a function
that a lesson prints, ``python -m lessons.run --sources [02 06 ...]`` prints it anew and runs nothing; before that, read
what the lesson says about the function.
"""

import asyncio
import os
import resource
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

LESSONS = Path(__file__).resolve().parent
# A cell that takes longer is taken for one that hangs; a machine that does other work needs more.
CELL_SECONDS = float(os.environ.get("NPUNET_CELL_SECONDS", 300))


def execute(notebook):
    """Run all code cells of a notebook in a kernel of its own; raises CellExecutionError with the cell that failed."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(LESSONS)}}
    options = dict(timeout=CELL_SECONDS, record_timing=False, coalesce_streams=True)
    client = NotebookClient(notebook, kernel_name="python3", resources=resources, **options)
    asyncio.run(client.async_execute())


def print_sources_anew(notebook):
    """Replace the printed functions of npunet by today's; returns the names of those that had changed."""
    sys.path.insert(0, str(LESSONS))
    from lesson_output import source_text

    changed = []
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if name := output.get("metadata", {}).get("source"):
            today = source_text(name, output.metadata.docstring)
            if output.data["text/markdown"] != today:
                output.data["text/markdown"] = today
                changed.append(name)
    return changed


def main(arguments):
    wanted = [argument for argument in arguments if argument != "--sources"]
    os.environ["OMP_NUM_THREADS"] = "1"  # matrices are small here: on a busy machine threads wait for each other
    os.environ["PYTHONPATH"] = os.pathsep.join([str(LESSONS.parent), os.environ.get("PYTHONPATH", "")])
    paths = [path for path in sorted(LESSONS.glob("*.ipynb")) if not wanted or path.name[:2] in wanted]
    if not paths:
        sys.exit(f"no lesson has the number {' or '.join(wanted)}; there are 00 to 16")
    for path in paths:
        start, processor = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        notebook = nbformat.read(path, as_version=4)
        if "--sources" in arguments:
            print(f"{path.name:40} {', '.join(print_sources_anew(notebook)) or 'nothing has changed'}")
            nbformat.write(notebook, path)
            continue
        execute(notebook)
        nbformat.write(notebook, path)
        processor = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - processor
        seconds = f"{time.perf_counter() - start:4.0f} s, {processor:4.0f} s of a processor"
        print(f"{path.name:40} {seconds} {path.stat().st_size / 1000:6.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
