"""The options of npunet.stylize: their defaults, what is refused, and what may change when a run is resumed."""

import argparse
import functools

from npunet.commands import cli, ranges
from npunet.errors import InputError
from npunet.style import losses
from npunet.style.direct import METHODS
from npunet.style.generator import COLOURS, INITIAL_WEIGHTS, TILE
from npunet.style.weights import FILES

# The notes' demo, Fingsinz/StyleTransfer on GitHub, src/01.ref_and_note/02.UNet_StyleTransfer.py: it squeezes both
# pictures into a square and begins with PyTorch's default weights.
FAITHFUL = dict(
    size=512,
    square=True,
    base_channels=64,
    colours="normalised",
    up_convolutions=True,
    norm="none",
    initial_weights="pytorch",
    schedule="constant",
    **{name: value if isinstance(value, float) else ",".join(value) for name, value in losses.DEMO.items()},
)
BETTER = dict(
    size=256,
    square=False,
    base_channels=32,
    colours="full",
    up_convolutions=False,
    norm="instance",
    initial_weights="gaussian",
    schedule="cosine",
    style_weight=None,  # from the style, `npunet.style.setting.style_weight_for`
)
SHARED = dict(
    content=None,
    style=None,
    weights=None,
    out="runs/style",
    style_size=None,
    content_layers=",".join(losses.CONTENT_LAYERS),
    style_layers=",".join(losses.STYLE_LAYERS),
    content_weight=losses.CONTENT_WEIGHT,
    style_weight=losses.STYLE_WEIGHT,
    variation_weight=0.0,
    preview_every=None,
    seed=0,
    device="cpu",
    tf32=False,
    threads=None,
)
DEFAULTS = {
    "train": SHARED | BETTER | dict(steps=500, learning_rate=1e-3, batch=1, photo_size=None, faithful=False),
    "optimize": SHARED
    | dict(size=512, sizes=2, steps=200, learning_rate=2e-2, method="lbfgs", start="content")
    | dict(strength=1.0, keep_colours=False),
}
FIRST_RELEASE = "conv3_4,conv4_4"  # what content_layers None meant in config.json of version 0.1.0
BEFORE = dict(norm="none")  # what a config.json means that does not say it
CHANGEABLE_ON_RESUME = (
    "content",
    "style",
    "weights",
    "steps",
    "device",
    "threads",
    "tf32",
    "preview_every",
)  # files may have moved; they must be the same
FROM_STYLE = f" (default: what makes that of untouched photographs {losses.PAINTER_STYLE_LOSS:g})"
GRID = 16  # pixels: the pooling grid of a generator of depth 4


def complete(command, given):
    """Every option of train or optimize as a Namespace: what was given, and defaults.

    Raises InputError for what cannot work.
    """
    options = argparse.Namespace(**DEFAULTS[command] | (FAITHFUL if given.get("faithful") else {}) | given)
    for name in ("content", "style"):
        if not getattr(options, name):
            raise InputError(
                f"--{name} is missing; expected "
                + ("a picture" if name == "style" or command == "optimize" else "a picture or a folder of them")
            )
    ranges.check(vars(options))
    if command == "train" and (options.size < 32 or options.size % GRID):
        raise InputError(f"--size is {options.size}; expected a multiple of {GRID}, at least 32")
    return options


def resumed(path, config, given):
    """The options of the run in the folder `path` with those given now.

    Raises InputError if one of these cannot change, or it is no such run.
    """
    if not isinstance(config, dict) or config.get("command") != "train":
        raise InputError(f"--resume {path}: that is no run of npunet.stylize train; expected the --out folder of one")
    refused = [name for name in given if name not in CHANGEABLE_ON_RESUME]
    if refused:
        raise InputError(
            f"--{refused[0].replace('_', '-')} cannot change when a run is resumed; only "
            f"--{', --'.join(CHANGEABLE_ON_RESUME)} can"
        )
    if not isinstance(config.get("options"), dict):
        raise InputError(f"--resume {path}: config.json is damaged: it holds no options")
    stored = BEFORE | config["options"]
    if "content_layers" in stored and stored["content_layers"] is None:
        stored = stored | {"content_layers": FIRST_RELEASE}
    ranges.check_stored(stored, DEFAULTS["train"], f"{path}/config.json")
    return complete("train", stored | given)


def check_same_files(config, sizes, path):
    """Raises InputError if pictures or weights are not those that the run in the folder `path` began with."""
    for name, size in sizes.items():
        if name not in config.get("file_sizes", sizes) or config.get("file_sizes", sizes)[name] != size:
            raise InputError(
                f"--{name}: not what the run in {path} began with; files may have moved since, but must be the same"
            )


def parser():
    """Of all commands; train and optimize leave out what is not given, see `complete`."""
    parse = argparse.ArgumentParser(
        prog=cli.program("stylize"), description="Paint one picture in the style of another."
    )
    commands = parse.add_subparsers(dest="command", required=True, metavar="train | apply | optimize | download")
    add_painting(
        commands.add_parser(
            "train", help="train a U-Net that paints in the style of a picture", argument_default=argparse.SUPPRESS
        ),
        "train",
    )
    add_painting(
        commands.add_parser(
            "optimize",
            help="paint one picture by direct optimisation, without a generator",
            argument_default=argparse.SUPPRESS,
        ),
        "optimize",
    )
    painter = commands.add_parser("apply", help="paint pictures of any size with a trained generator")
    painter.add_argument("--model", required=True, help="model.npz that train wrote", metavar="M")
    painter.add_argument("--input", required=True, nargs="+", help="pictures, or folders of pictures", metavar="IMAGE")
    painter.add_argument(
        "--output", required=True, help="folder for NAME.png; files of the same name in it are replaced", metavar="DIR"
    )
    painter.add_argument(
        "--size",
        type=int,
        help="scale pictures to this shorter side first: a generator paints best at the size it was trained with",
    )
    add_finish(painter)
    painter.set_defaults(strength=1.0)
    painter.add_argument(
        "--tile", type=int, default=TILE, help=f"largest side that is painted at once (default {TILE})"
    )
    cli.add_device(painter)
    painter.add_argument("--threads", type=int, help="CPU threads (default one a core)")
    loader = commands.add_parser("download", help="fetch VGG's weights from torchvision's address")
    loader.add_argument("kind", choices=list(FILES))
    loader.add_argument("--out", default=".", help="folder (default here)", metavar="DIR")
    return parse


def add_finish(parse):
    """What is done to a painting at the end, see `npunet.style.finish`."""
    parse.add_argument("--strength", type=float, help="how much of the painting: 1 all, 0 the content (default 1)")
    parse.add_argument(
        "--keep-colours",
        action="store_true",
        help="paint the luminance only, and keep the content's colours",
    )


def add_painting(parse, command):
    """The options of train or optimize."""
    option = functools.partial(_add_option, parse, command)
    training = command == "train"
    option(
        "content",
        "the picture to be painted" + (", or a folder of pictures to learn on" if training else ""),
        metavar="C",
    )
    option("style", "the picture whose style it gets", metavar="S")
    option(
        "weights",
        "VGG19 or VGG16 of torchvision, .pth or .safetensors (default: random weights, which see less)",
        metavar="FILE",
    )
    option("out", "folder for the results", metavar="DIR")
    if training:
        parse.add_argument(
            "--resume",
            help="go on with the run in this folder, to the same bits as if it had not been stopped",
            metavar="DIR",
        )
    option(
        "size",
        "shorter side of the content in pixels" + (", or side of squares from a folder" if training else ""),
        type=int,
    )
    option(
        "style-size", "shorter side of the style picture: smaller is finer texture (default as the content)", type=int
    )
    option("steps", "steps of gradient descent", type=int)
    option("learning-rate", "of Adam", type=float)
    option("content-layers", "compared with the content; or none", metavar="NAMES")
    option("style-layers", "whose Gram matrices are compared with the style; or none", metavar="NAMES")
    option("content-weight", "of the content loss", type=float)
    option("style-weight", "of the style loss" + (FROM_STYLE if training else ""), type=float)
    option("variation-weight", "of the total variation, which smooths", type=float)
    option("preview-every", "steps between two previews, picture.png (default an eighth of the steps)", type=int)
    option("seed", "of all random numbers", type=int)
    option("device", "where to compute", choices=["cpu", "gpu", "auto"])
    option("tf32", cli.TF32_HELP, action="store_true")
    option("threads", "CPU threads (default one a core)", type=int)
    if training:
        add_generator(option)
    else:
        option("method", "of minimisation", choices=METHODS)
        option("start", "where to begin", choices=["content", "noise"])
        option("sizes", "paint at so many sizes, coarse to fine, each twice the one before, none below 128", type=int)
        add_finish(parse)


def _add_option(parse, command, name, help, **keywords):
    default = DEFAULTS[command][name.replace("-", "_")]
    shown = f"{default:g}" if isinstance(default, float) else default
    silent = default is None or default is False
    parse.add_argument(f"--{name}", help=help + ("" if silent else f" (default {shown})"), **keywords)


def add_generator(option):
    """The options of train alone."""
    option("batch", "squares a step, from a folder", type=int)
    option("photo-size", "shorter side, about, that a folder's photographs have (default as --size)", type=int)
    option("base-channels", "of the generator's first level", type=int)
    option(
        "colours",
        "range of the output: all of 0..1, or tanh in VGG's units, which is greyish",
        choices=list(COLOURS),
    )
    option(
        "up-convolutions",
        "enlarge by up-convolutions instead of resize-convolutions; they leave checkerboards",
        action="store_const",
        const=True,
    )
    option("norm", "after each convolution: instance normalisation, or none", choices=["instance", "none"])
    option(
        "initial-weights",
        "the paper's Gaussian, or PyTorch's default: uniform and weaker",
        choices=list(INITIAL_WEIGHTS),
    )
    option("square", "squeeze content and style into squares of --size", action="store_const", const=True)
    option("schedule", "of the learning rate: a rise and half a cosine, or constant", choices=["cosine", "constant"])
    option(
        "faithful",
        "the setting of the demo Fingsinz/StyleTransfer: --size 512 --square --base-channels 64 --colours normalised "
        "--up-convolutions --norm none --initial-weights pytorch --schedule constant --content-layers conv3_4,conv4_4 "
        "--style-layers conv1_2,conv2_2 --style-weight 1e6",
        action="store_true",
    )
