"""One HTML file with its pictures inside, by hand: the parts that `npunet.report` puts together."""

import base64
import datetime
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npunet.commands import run_pictures
from npunet.commands.cell_pictures import cells_panel

STYLE = """
body { font-family: sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; line-height: 1.4 }
h2 { margin-top: 1.6em; border-bottom: 1px solid #ccc } img { max-width: 100% }
table { border-collapse: collapse } td, th { padding: 0.15em 0.7em; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } pre { background: #f4f4f4; padding: 0.8em; overflow-x: auto }
figure { margin: 1em 0 } figcaption { font-size: 90%; color: #555 }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """The whole file."""
    name, day = html.escape(title), datetime.date.today()
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
        f"</head>\n<body>\n<h1>{name}</h1>\n<p>{day}</p>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def heading(words: str) -> str:
    return f"<h2>{html.escape(words)}</h2>"


def paragraph(words: str) -> str:
    return f"<p>{html.escape(words)}</p>" if words else ""


def commands(lines: Sequence[str]) -> str:
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words."""

    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>\n" + "\n".join([line(header, "th"), *(line(row, "td") for row in rows)]) + "\n</table>"


def picture(path: Path, words: str) -> str:
    """A PNG file inside the document, with a caption."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    words = html.escape(words)
    return f'<figure><img alt="{words}" src="data:image/png;base64,{data}"><figcaption>{words}</figcaption></figure>'


def curves(folder: Path, outcome) -> str:
    """The curves of an `experiments.running.Outcome`."""
    run_pictures.loss_curve(folder / "curves.png", outcome.records, outcome.options["loss"])
    return picture(folder / "curves.png", "Loss and held-out scores.")


def sample(folder: Path, outcome, index: int, ranking: str, best: bool) -> str:
    """One held-out image: panel, and cells where there are any."""
    one, score = outcome.samples[index], outcome.rows[index][ranking]
    parts = [heading(f"{'The best image' if best else 'One of the worst images'}: {one.name}")]
    run_pictures.prediction_panel(folder / "panel.png", [one], [outcome.probabilities[index]])
    words = f"Image, truth, probability and error; {ranking.replace('_', ' ')} {score:.3f}."
    parts.append(picture(folder / "panel.png", words))
    if outcome.found is not None:
        cells_panel(folder / "cells.png", one, outcome.found[index])
        words = "Image, true cells, and found cells in the colours of the true ones; white are invented."
        parts.append(picture(folder / "cells.png", words))
    return "\n".join(parts)


def ranked(rows: Sequence[dict], ranking: str) -> list[int]:
    """Indices of the images, the one with the lowest score first."""
    values = np.array([row[ranking] for row in rows])
    return np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable").tolist()
