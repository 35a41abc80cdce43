"""A style generator beside direct optimisation, on photographs that it has not been trained on.

    python -m benchmarks.style_generator --model DIR/model.npz --style PICTURE --weights FILE --out FILE.jsonl PHOTOS...
    [--size 256] [--style-size 256] [--steps 200]

For each photograph, at the same size and with the same losses: the loss of what the generator paints in one pass, the
loss of direct optimisation after `--steps` steps of L-BFGS, and that of the photograph itself, the worst that a painter
can do. The ratio of the first two says how much is lost by painting in one pass. One line of JSON for each photograph,
written when it is done; those that are there already are not done again, so a run that was ended goes on. Last, the
geometric mean of the ratios.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from npunet.commands import cli
from npunet.machine.backend import to_device
from npunet.style import VGG, Generator, Objective, optimize_picture
from npunet.style.pictures import fitted, read_picture
from npunet.style.setting import names


def main(arguments=None):
    options = parser().parse_args(arguments)
    generator = Generator.load(options.model)
    info = generator.info
    objective = Objective(
        VGG.load(options.weights),
        names(info["content_layers"]),
        names(info["style_layers"]),
        info["content_weight"],
        info["style_weight"],
        info["variation_weight"],
    ).set_style(fitted(read_picture(options.style), options.style_size or options.size)[None])
    out = Path(options.out)
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(line["photograph"], line["size"], line["steps"]): line for line in lines}
    for path in map(Path, options.photographs):
        key = path.name, options.size, options.steps
        if key not in done:
            done[key] = dict(zip(("photograph", "size", "steps"), key, strict=True)) | compared(
                generator, objective, fitted(read_picture(path), options.size, 16), options.steps
            )
            with out.open("a") as file:
                file.write(json.dumps(done[key]) + "\n")
        print(f"{path.name}: {described(done[key])}", flush=True)
    ratios = [done[Path(path).name, options.size, options.steps]["ratio"] for path in options.photographs]
    print(f"{len(ratios)} photographs, {options.size} pixels: ratio {statistics.geometric_mean(ratios):.2f}")


def compared(generator, objective, photograph, steps):
    """The losses of one photograph (H, W, 3), as a line of the record."""
    content = to_device(photograph[None], objective.vgg.device)
    targets = objective.content_targets(content)

    def loss(picture):
        terms, _ = objective(to_device(picture[None], objective.vgg.device), targets)
        return {name: round(value, 3) for name, value in terms.items()}

    start = time.perf_counter()
    painted = generator.paint(photograph)
    seconds = time.perf_counter() - start
    found = {"untouched": loss(photograph), "generator": loss(painted)}
    start = time.perf_counter()
    found["direct"] = loss(optimize_picture(objective, content, steps=steps)[0])
    found["seconds"] = {"generator": round(seconds, 2), "direct": round(time.perf_counter() - start, 1)}
    return found | {"ratio": round(found["generator"]["total"] / found["direct"]["total"], 3)}


def described(line):
    """One line for the terminal."""
    terms = ", ".join(f"{name} {line[name]['total']:.4g}" for name in ("untouched", "generator", "direct"))
    return f"{terms}; ratio {line['ratio']:.2f}"


def parser():
    parse = argparse.ArgumentParser(prog="python -m benchmarks.style_generator", description=__doc__.splitlines()[0])
    parse.add_argument("photographs", nargs="+", help="photographs that it was not trained on", metavar="PHOTO")
    parse.add_argument("--model", required=True, help="model.npz of npunet.stylize train", metavar="M")
    parse.add_argument("--style", required=True, help="the style picture that it was trained for", metavar="S")
    parse.add_argument("--weights", required=True, help="VGG19's", metavar="FILE")
    parse.add_argument("--size", type=int, default=256, help="shorter side in pixels (default 256)")
    parse.add_argument("--style-size", type=int, help="of the style picture (default as --size)")
    parse.add_argument("--steps", type=int, default=200, help="of direct optimisation (default 200)")
    parse.add_argument("--out", required=True, help="one line of JSON for each photograph", metavar="FILE")
    return parse


if __name__ == "__main__":
    cli.run(main)
