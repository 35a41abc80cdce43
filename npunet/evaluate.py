"""python -m npunet.evaluate: the scores of §4 on a labelled set, per image and their mean, as a table and as JSON.

    pixel_accuracy   share of pixels whose predicted class is the true one
    mean_iou         intersection over union, mean over the classes that occur in truth or prediction
    iou, dice        of class 1, the object; 1 where neither truth nor prediction has any of it
    pixel_error, rand_error, warping_error, v_rand, v_info       of the probability of class 1, as the ISBI challenge
                                                                 defines
                     them (`npunet.metrics`), each at its best threshold of 0, 0.1 .. 1, which is one for all images

The predicted class is 1 where its probability is above 0.5 for two classes, otherwise the most likely one. Images are
seen at the scale of the training run, and predictions are enlarged before they are scored. Pixels without annotation
(sample.ignore) do not count: they are left out of the first four, and are background in both truth and prediction for
the others.
"""

import argparse

from npunet import datasets, tiling
from npunet.commands import cli, memory_needs, ranges
from npunet.commands.run_folder import trained_scale, training_config
from npunet.commands.scoring import mean_scores, predict_samples, score_samples
from npunet.errors import InputError
from npunet.files.whole_file import write_json
from npunet.unet import UNet


def choose_samples(dataset, held_out, config):
    """The samples to score and, in words, which they are.

    held_out: "run" for those that the training run held out, as its configuration says (all, if there is
    none or it names other images); "all"; or a number: the last so many.
    """
    samples, total = dataset.samples, len(dataset.samples)
    if held_out == "run":
        names = set(config.get("held_out", []))
        chosen = [sample for sample in samples if sample.name in names]
        if chosen:
            return chosen, f"{len(chosen)} of {total} images, those held out in training"
        held_out = "all"
    if held_out == "all":
        return samples, f"all {total} images"
    if not held_out.isdecimal() or not 0 < int(held_out) <= total:
        raise InputError(f"--held-out {held_out}; expected all, run, or how many of the last images, 1 to {total}")
    return samples[-int(held_out) :], f"the last {held_out} of {total} images"


def table(names, scores, mean):
    """The scores as text: a line for each image and one for the mean."""
    columns = list(mean)
    width = max(map(len, [*names, "mean"]))
    lines = [f"{'image':<{width}}  " + "  ".join(columns)]
    for name, row in [*zip(names, scores), ("mean", mean)]:
        lines.append(f"{name:<{width}}  " + "  ".join(f"{row[column]:{len(column)}.4f}" for column in columns))
    lines.insert(-1, "-" * len(lines[0]))
    return "\n".join(lines)


def main(arguments=None):
    options = parser().parse_args(arguments)
    options.scale = trained_scale(options.model) if options.scale is None else options.scale
    ranges.check(vars(options))
    net = UNet.load(options.model, device=options.device)
    cli.set_tf32(options.tf32, options.device, net.device)
    options.tile = options.tile or tiling.default_tile(net)
    if options.tile != "auto":
        net.output_size(options.tile)  # an invalid tile is refused before any work
    config = training_config(options.model)
    dataset = datasets.load(options.data, labels=options.labels, class_values=class_values_of(net, config))
    samples, which = choose_samples(dataset, options.held_out, config)
    scores, thresholds = scored(options, net, samples)
    mean, names = mean_scores(scores), [sample.name for sample in samples]
    seen = f", seen at a scale of {options.scale:g}" if options.scale != 1 else ""
    print(f"{options.model} on {dataset.name}: {which}{seen}")
    print(table(names, scores, mean))
    print("best thresholds: " + ", ".join(f"{name} {threshold:g}" for name, threshold in thresholds.items()))
    if options.json:
        rows = [{"name": name} | row for name, row in zip(names, scores)]
        write_report(options.json, report(options, which, mean=mean, thresholds=thresholds, per_image=rows))
        print(f"scores written to {options.json}")


def class_values_of(net, config):
    """The mask values of class 0, 1, .. as training read them; None if nobody knows, or there are only two classes."""
    known = config.get("data", {}).get("class_values")
    if known is None and net.n_labels > 2 and net.mask_values and not isinstance(net.mask_values[0], list):
        return net.mask_values
    return known


def scored(options, net, samples):
    """Scores and thresholds of `scoring.score_samples`, with a progress bar."""
    longest = round(options.scale * max(max(sample.labels.shape) for sample in samples))
    if options.tile == "auto":
        options.tile = memory_needs.tile_for_inference(net, longest)
    with cli.progress_bar(total=len(samples), unit="image", leave=False) as bar:

        def predicted(done, total):
            bar.update()

        with memory_needs.out_of_memory(net, options.tile, covering=longest):
            probabilities = predict_samples(net, samples, options.tile, options.augment, predicted, options.scale)
        return score_samples(samples, probabilities, progress=lambda name: bar.set_description(f"scoring {name}"))


def report(options, which, **found):
    """What --json writes: how the scores were made, and the scores."""
    how = {"model": str(options.model), "data": str(options.data), "images": which}
    return how | {"tile": options.tile, "scale": options.scale, "augment": options.augment} | found


def write_report(path, found):
    """Write the report to the file of --json."""
    try:
        write_json(path, found)
    except OSError as error:
        raise InputError(f"--json {path}: cannot be written ({error.strerror or error}); give another place") from None


def parser():
    parse = argparse.ArgumentParser(
        prog="python -m npunet.evaluate", description="Score a trained network on labelled images."
    )
    parse.add_argument("--model", required=True, help=cli.MODEL_HELP)
    parse.add_argument("--data", required=True, help="synthetic, or a folder as for npunet.train")
    parse.add_argument(
        "--held-out",
        default="run",
        metavar="run|all|N",
        help="which images: those the training run of the model held out (default), all, or the last N",
    )
    parse.add_argument(
        "--labels",
        choices=["auto", "binary", "instances", "classes"],
        default="auto",
        help="what the masks hold (default auto)",
    )
    parse.add_argument("--json", help="also write the scores to this file", metavar="FILE")
    cli.add_tile_and_scale(parse)
    cli.add_device(parse)
    cli.add_augment(parse)
    return parse


if __name__ == "__main__":
    cli.run(main)
