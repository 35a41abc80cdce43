"""What benchmarks/gpu.py found, as files: results.json, report.md, the picture of the training."""

import contextlib
import json
import time
from pathlib import Path

BARS = {  # what a run must reach: (the number, the bar, True if less is better)
    "TF32 step over PyTorch's": (lambda f: step(f, "npunet TF32") / step(f, "PyTorch TF32"), 1.25, True),
    "float32 step over PyTorch's": (lambda f: step(f, "npunet float32") / step(f, "PyTorch float32"), 1.0, True),
    "bf16 step over PyTorch's autocast": (lambda f: step(f, "npunet bf16") / step(f, "PyTorch bf16"), 1.25, True),
    "TF32 memory over PyTorch's": (lambda f: row(f, "npunet TF32", "peak_bytes") / memory(f), 1.0, True),
    "steps a second, tiles drawn": (lambda f: row(f, "tiles", "steps a second, w0 = 0"), 60, False),
    "... with the border term": (lambda f: row(f, "tiles", "steps a second, w0 = 10"), 50, False),
    "512 x 512 ms": (lambda f: row(f, "npunet TF32", "segmentation_512_ms"), 8, True),
    "v_rand": (lambda f: row(f, "isbi", "scores")["v_rand"], 0.97, False),
    "v_info": (lambda f: row(f, "isbi", "scores")["v_info"], 0.985, False),
}


def row(found, name, key):
    """One number of a part, or of one of PyTorch's rows; KeyError where it was not measured."""
    return found.get("PyTorch", {})[name][key] if name.startswith("PyTorch") else found[name][key]


def step(found, name):
    """Milliseconds of a training step, whichever is less: with a host that waits for each, or one that runs ahead."""
    ways = [row(found, name, "train_ms")]
    with contextlib.suppress(KeyError):
        ways.append(row(found, name, "train_without_waiting_ms"))
    return min(ways)


def memory(found):
    return row(found, "PyTorch TF32", "peak_bytes")


def bars(found):
    """The numbers that were promised, with what was measured: [(name, bar, value, reached)]."""
    rows = []
    for name, (measured, bar, less) in BARS.items():
        with contextlib.suppress(KeyError, TypeError):  # not measured
            value = measured(found)
            rows.append((name, bar, value, value <= bar if less else value >= bar))
    return rows


def report(found, options):
    """report.md from what was found so far."""
    lines = [f"# npunet on a GPU, {time.strftime('%Y-%m-%d')}", "", f"`{options.command}`", ""]
    lines += [
        "| promised | bar | measured | reached |",
        "|---|---|---|---|",
        *(
            f"| {name} | {bar:g} | {value:.4g} | {'yes' if reached else 'no'} |"
            for name, bar, value, reached in bars(found)
        ),
        "",
    ]
    for name, part in found.items():
        lines += [f"## {name}", ""]
        if "error" in part and isinstance(part["error"], str):
            lines += [f"failed: {part['error']}", ""]
        if name.startswith(("PyTorch", "npunet ")):
            part = part if name.startswith("PyTorch") else {name: part}
            lines += [
                "| | training step, ms | without waiting | forward, ms | 512 x 512, ms | steps/s | memory, GB |",
                "|---|---|---|---|---|---|---|",
            ]
            for peer, row in part.items():
                if not isinstance(row, dict):
                    continue
                if "train_ms" not in row:
                    lines.append(f"| {peer} | {row.get('error', '')} | | | | | |")
                    continue
                cells = [
                    row.get(key)
                    for key in (
                        "train_ms",
                        "train_without_waiting_ms",
                        "infer_ms",
                        "segmentation_512_ms",
                        "steps_a_second",
                    )
                ]
                lines.append(
                    f"| {peer} | "
                    + " | ".join("" if cell is None else f"{cell:.2f}" for cell in [*cells, row["peak_bytes"] / 1e9])
                    + " |"
                )
            lines.append("")
        elif name == "profile" and "error" not in part:
            for precision, row in part.items():
                lines += [
                    f"{precision}, {row['step_ms']:.2f} ms a step",
                    "",
                    "| layer | forward, ms | backward, ms |",
                    "|---|---|---|",
                    *(
                        f"| {layer} | {forward:.3f} | {backward:.3f} |"
                        for layer, (forward, backward) in row["layers"].items()
                    ),
                    "",
                    "| kernel | launches | ms |",
                    "|---|---|---|",
                    *(
                        f"| {kernel} | {launches} | {ms:.3f} |"
                        for kernel, (launches, ms) in sorted(row["kernels"].items(), key=lambda item: -item[1][1])
                    ),
                    "",
                ]
        elif name == "layers" and "rows" in part or name == "layers" and "error" not in part:
            names = sorted({key for row in part["rows"] for key in row.get("ms", {})})
            lines += [
                "forward / forward and backward, ms",
                "",
                "| layer | " + " | ".join(names) + " |",
                "|---" * (len(names) + 1) + "|",
            ]
            for row in part["rows"]:
                cells = [row.get("ms", {}).get(key, "") for key in names]
                lines.append(
                    "| "
                    + "x".join(map(str, row["layer"]))
                    + " | "
                    + " | ".join(
                        f"{cell[0]:.2f} / {cell[1]:.2f}" if isinstance(cell, list) else cell[:40] for cell in cells
                    )
                    + " |"
                )
            lines += ["", *(f"{mode}: {note}" for mode, note in part["notes"].items()), ""]
        else:
            flat = {key: value for key, value in part.items() if key not in ("losses", "errors", "energy_and_norm")}
            flat |= part.get("errors", {})
            lines += [
                *(
                    f"- {key}: {value:.3g}" if isinstance(value, float) else f"- {key}: {value}"
                    for key, value in flat.items()
                ),
                "",
            ]
    return "\n".join(lines)


def plain(value):
    """For JSON: a NumPy number as a float, anything else as its text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def write(found, options):
    out = Path(options.out)
    text = json.dumps(dict(command=options.command, parts=found), indent=1, default=plain)
    (out / "results.json").write_text(text + "\n")
    try:
        text = report(found, options)
    except Exception as error:  # the figures are what matters, and the next part is still to run
        text = f"no report: {type(error).__name__}: {error}; results.json has everything"
    (out / "report.md").write_text(text)


def isbi_picture(rows, sample, probabilities, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots(1, 4)
    axes[0].plot([row[0] for row in rows], [row[1] for row in rows], linewidth=0.6)
    axes[0].set(title="loss", xlabel="seconds", yscale="log")
    for one, title, array in zip(
        axes[1:],
        ("held-out section 20", "truth", "probability"),
        (sample.image[..., 0], sample.labels, probabilities[..., 1]),
    ):
        one.imshow(array, cmap="gray")
        one.set(title=title, xticks=[], yticks=[])
    figure.savefig(path)
