"""Report about runs of `npunet.stylize train --faithful`: did they learn, did they stay, is the content still there?

    python -m benchmarks.style_faithful RUN_FOLDERS... --content PICTURE [--reference PICTURE] --out FOLDER

Prints a table for benchmarks/results/style_faithful.md and writes FOLDER/report.html with the pictures: content, each
run's newest picture, and the author's result (--reference). The demo's two pictures are not free, so FOLDER stands
outside the project. For each run

    below     the first step with less than a tenth of the first loss
    falls     steps after that one with more than a tenth again; a fall that lasts is one into saturation
    last      the newest loss, and its share of the first
    SSIM      structural similarity of the luminance with the content's, both of the run's size (scikit-image, Gaussian
              windows of 1.5 pixels as Wang et al. 2004, doi:10.1109/TIP.2003.819861); 1 is the same picture
"""

import argparse
import base64
import html
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from npunet.commands import cli
from npunet.style.finish import luminance
from npunet.style.pictures import fitted, read_picture

COLUMNS = ("run", "steps", "first", "below", "falls", "lowest", "last", "SSIM")


def similarity(picture, content):
    """Structural similarity of the luminance of two pictures (H, W, 3) in 0..1."""
    from skimage.metrics import structural_similarity

    how = dict(data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return structural_similarity(luminance(picture)[..., 0], luminance(content)[..., 0], **how)


def row(folder, content):
    """A run as the cells of COLUMNS, and its newest picture."""
    losses = np.array([json.loads(line)["total"] for line in (folder / "losses.jsonl").read_text().splitlines()])
    tenth = losses < losses[0] / 10
    below = int(tenth.argmax()) if tenth.any() else None
    picture = read_picture(folder / "picture.png")
    cells = {
        "run": folder.name,
        "steps": len(losses),
        "first": f"{losses[0]:.0f}",
        "below": "never" if below is None else below + 1,
        "falls": "" if below is None else int((~tenth[below:]).sum()),
        "lowest": f"{losses.min():.0f} at {losses.argmin() + 1}",
        "last": f"{losses[-1]:.0f} ({losses[-1] / losses[0]:.3f})",
        "SSIM": f"{similarity(picture, fitted(content, min(picture.shape[:2]), square=True)):.2f}",
    }
    return cells, picture


def inline(picture):
    """A picture (H, W, 3) as an HTML image that needs no file."""
    buffer = io.BytesIO()
    Image.fromarray(np.round(picture * 255).astype(np.uint8)).save(buffer, "PNG")
    return f'<img width="400" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def main(arguments=None):
    options = parser().parse_args(arguments)
    content = read_picture(options.content)
    found = [row(Path(folder), content) for folder in options.runs]
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(str(cells[name]) for name in COLUMNS)} |" for cells, _ in found]
    print("\n".join(lines))
    shown = {"content": fitted(content, 512, square=True)} | {cells["run"]: picture for cells, picture in found}
    if options.reference:
        shown["the author's result"] = reference = read_picture(options.reference)
        print(f"\nauthor's result: SSIM {similarity(reference, fitted(content, len(reference), square=True)):.2f}")
    figures = "".join(
        f"<figure>{inline(picture)}<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, picture in shown.items()
    )
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    style = "<style>figure{display:inline-block;margin:8px}</style>"
    text = f"<!doctype html><meta charset='utf-8'>{style}<pre>{html.escape(chr(10).join(lines))}</pre>{figures}"
    (out / "report.html").write_text(text)


def parser():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.style_faithful", description=__doc__.splitlines()[0])
    parse.add_argument("runs", nargs="+", help="folders that stylize train --faithful wrote", metavar="RUN")
    parse.add_argument("--content", required=True, help="the content picture of the runs", metavar="C")
    parse.add_argument("--reference", help="what the demo's author got", metavar="PICTURE")
    parse.add_argument("--out", required=True, help="folder for report.html", metavar="FOLDER")
    return parse


if __name__ == "__main__":
    cli.run(main)
