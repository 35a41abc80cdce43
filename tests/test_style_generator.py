"""The generator and direct optimisation: gradients, PyTorch's ten steps, pictures of any size, files."""

import numpy as np
import pytest
from style_helpers import SHARED, real_vgg, small_vgg

from npunet import UNet
from npunet.errors import InputError
from npunet.files import checkpoint
from npunet.gradient_check import directional_derivative, random_directions, relative_error
from npunet.machine.backend import to_cpu
from npunet.optimizers import Adam
from npunet.style import Generator, Objective, generator_step, optimize_picture
from npunet.style.pictures import fitted, read_picture
from npunet.training import Recipe, learning_rate

LAYERS = dict(content_layers=("conv3_4", "conv4_4"), style_layers=("conv1_2", "conv2_2"))
SETTINGS = [
    dict(colours="full", bilinear=True),
    dict(colours="full", bilinear=True, instance_norm=False),
    dict(colours="normalised", bilinear=False, instance_norm=False),
]


def described(options):
    return f"{options['colours']}{'' if options.get('instance_norm', True) else ', no norm'}"


def test_the_network_of_the_issue():
    """Four down-samplings of two padded convolutions, transposed convolutions, tanh, 3 -> 3 channels;
    64 base channels if faithful.
    """
    net = Generator.faithful(16).net
    assert net.config["variant"] == "style" and not net.bilinear
    channels = [3, 16, 32, 64, 128, 256]  # 3x3 convolutions, 2x2 up-convolutions and the last 1x1, all with bias
    down = sum(9 * a * b + b + 9 * b * b + b for a, b in zip(channels, channels[1:]))
    up = sum(4 * 2 * b * b + b + 9 * 2 * b * b + b + 9 * b * b + b for b in channels[1:5])
    assert net.n_parameters == down + up + 16 * 3 + 3
    painter = Generator(16).net
    assert painter.config["variant"] == "painter" and painter.n_parameters < 0.6 * net.n_parameters
    assert Generator(16, instance_norm=False).net.config["variant"] == "style"
    assert Generator.faithful(2).forward(np.zeros((1, 48, 70, 3), np.float32)).shape == (1, 48, 64, 3)


def test_ranges(rng):
    """What each setting can paint: by saturating the tanh."""
    for colours, low, high in (
        ("full", (0, 0, 0), (1, 1, 1)),
        ("normalised", (0.256, 0.232, 0.181), (0.714, 0.680, 0.631)),
    ):
        generator = Generator(2, colours=colours)
        bias = generator.net.parameters["output.bias"].value
        for sign, expected in ((-1e3, low), (1e3, high)):
            bias[...] = sign
            assert np.allclose(generator.forward(rng.random((1, 16, 16, 3), np.float32)), expected, atol=1e-6)


@pytest.mark.parametrize("options", SETTINGS, ids=described)
def test_gradient_by_finite_differences(options, xp, monkeypatch, rng):
    """Through the losses, VGG and the U-Net to all of its parameters."""
    eye = small_vgg(monkeypatch, xp=xp)
    generator = Generator(2, 2, dtype="float64", **options)
    parameters = generator.net.parameters
    for name, parameter in parameters.items():
        if name.endswith("bias"):  # where all inputs are cut off, bias 0 would sit on the ReLU's kink
            parameter.value[...] = rng.uniform(-0.3, 0.3, parameter.value.shape)
    values = [parameter.value for parameter in parameters.values()]
    content = rng.random((1, 20, 24, 3))
    objective = Objective(eye, style_weight=50.0, **LAYERS).set_style(xp.asarray(rng.random((1, 16, 24, 3))))
    targets = objective.content_targets(xp.asarray(content))

    def loss(train=False):
        for parameter, value in zip(parameters.values(), values):
            parameter.value = xp.asarray(value)
        return objective(generator.forward(xp.asarray(content), train), targets)

    _, dpicture = loss(train=True)
    generator.backward(dpicture)
    grads = [to_cpu(parameter.grad) for parameter in parameters.values()]
    directions = random_directions(values, rng)
    numerical = directional_derivative(lambda: loss()[0]["total"], values, directions, eps=1e-8)
    assert relative_error(sum(np.sum(a * b) for a, b in zip(grads, directions)), numerical) < 1e-4


def ten_steps(eye, generator, content, style, style_weight, rate=lambda step: 1e-3):
    """The content and style losses of ten steps, (10, 2) each, ours and PyTorch's."""
    import torch
    from style_twin import torch_features, torch_generator, torch_losses

    features = torch_features(eye)
    paint, parameters = torch_generator(generator)
    c, s = (torch.tensor(array).permute(0, 3, 1, 2).contiguous() for array in (content, style))
    adam = torch.optim.Adam(parameters.values(), lr=1e-3)
    objective = Objective(eye, style_weight=style_weight, **LAYERS).set_style(style)
    optimizer, targets = Adam(generator.net.parameters, 1e-3), objective.content_targets(content)
    theirs, ours = [], []
    for step in range(10):
        adam.param_groups[0]["lr"] = optimizer.learning_rate = rate(step)
        adam.zero_grad()
        terms = torch_losses(eye, features, paint(c), c, s, **LAYERS, style_weight=style_weight)
        sum(terms).backward()
        adam.step()
        theirs.append([term.item() for term in terms])
        terms = generator_step(generator, objective, optimizer, content, targets)
        ours.append([terms["content"], terms["style"]])
    return np.array(ours), np.array(theirs)


@pytest.mark.parametrize("options", SETTINGS, ids=described)
def test_ten_steps_follow_pytorch(options, monkeypatch, rng):
    """In float64, where rounding does not grow:
    Adam's first steps are the signs of gradients, and ReLUs and maxima have kinks.
    """
    pytest.importorskip("torch")
    content, style = rng.random((1, 48, 32, 3)), rng.random((1, 32, 48, 3))
    generator = Generator(4, seed=3, dtype="float64", **options)
    rate = 3e-3 if options.get("instance_norm", True) else 1e-3  # normalised layers take larger steps
    ours, theirs = ten_steps(small_vgg(monkeypatch), generator, content, style, 1e2, lambda step: rate)
    assert np.allclose(ours, theirs, rtol=1e-6)
    assert ours[-1].sum() < 0.97 * ours[0].sum(), "it learns, so that agreement says something"


@pytest.mark.shared_data
def test_ten_steps_on_real_pictures_follow_pytorch_in_single_precision():
    """With the warm-up of npunet.stylize:
    Adam's first steps are the signs of gradients, and rounding grows tenfold in a few of them.
    """
    pytest.importorskip("torch")
    if not (SHARED / "style").exists():
        pytest.skip("../shared/data/style is not there")
    content, style = (
        fitted(read_picture(SHARED / "style" / f"{name}.jpg"), 96, 16)[None] for name in ("content", "style")
    )
    recipe = Recipe(steps=500, learning_rate=1e-3, warmup=20)
    ours, theirs = ten_steps(
        real_vgg(), Generator(8, seed=3, **SETTINGS[2]), content, style, 1e6, lambda step: learning_rate(recipe, step)
    )
    assert np.allclose(ours.sum(axis=1), theirs.sum(axis=1), rtol=1e-3)
    assert ours[-1].sum() < 0.9 * ours[0].sum()


@pytest.mark.parametrize("options", SETTINGS, ids=described)
@pytest.mark.parametrize("shape", [(48, 32), (61, 75), (1, 3), (17, 200)])
def test_pictures_of_any_size(options, shape, rng):
    generator = Generator(2, **options)
    content = rng.random((*shape, 3), np.float32)
    picture = generator.paint(content)
    assert picture.shape == content.shape and picture.dtype == np.float32 and picture.min() >= 0 and picture.max() <= 1
    if shape == (48, 32):
        assert np.array_equal(picture, generator.forward(content[None])[0])


def test_tiles_of_a_large_picture_meet_without_a_seam(rng):
    """Up-convolutions know nothing of the size: tiles give what the whole picture gives."""
    generator = Generator.faithful(2)
    content = rng.random((300, 40, 3), np.float32)
    assert relative_error(generator.paint(content, tile=240), generator.paint(content)) < 1e-5


def test_tiles_are_normalised_as_the_whole_picture(rng):
    """What a normalisation does in a tile is what it does in the small whole picture; afterwards all is as before."""
    generator = Generator(2, 2)
    rows = np.linspace(0, 1, 300, dtype=np.float32)[:, None, None]  # dark above, bright below
    content = np.clip(rows + 0.1 * rng.standard_normal((300, 40, 3)), 0, 1).astype(np.float32)
    norm = generator.net.layers["contracting.0.norm1"]
    seen = []
    forward = norm.forward
    norm.forward = lambda x, train: seen.append(norm.fixed) or forward(x, train)
    before = generator.paint(content[:100])
    tiled = generator.paint(content, tile=152)
    assert seen[:2] == [None, None], "a picture in one tile, and the whole picture made small"
    means = [mean for mean, _ in seen[2:]]
    assert len(means) > 2 and all(np.array_equal(mean, means[0]) for mean in means)
    assert norm.fixed is None and np.array_equal(generator.paint(content[:100]), before)
    jump = np.abs(np.diff(tiled, axis=0)).mean((1, 2))[8:-8]  # the picture's own border has zeros around it
    assert jump.max() < 3 * np.median(jump), "no seam"


def test_save_and_load(tmp_path, rng):
    generator = Generator(2, colours="normalised", bilinear=False, seed=4)
    for name in ("contracting.0.norm1.scale", "expansive.0.norm2.shift"):
        generator.net.parameters[name].value += rng.random(2, np.float32)
    generator.info = {"size": 128}
    generator.save(tmp_path / "model.npz")
    loaded = Generator.load(tmp_path / "model.npz")
    content = rng.random((32, 32, 3), np.float32)
    assert np.array_equal(loaded.paint(content), generator.paint(content)) and loaded.info == {"size": 128}
    UNet(1, 2, 2, 2).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="holds no style generator; expected the model.npz"):
        Generator.load(tmp_path / "other.npz")
    checkpoint.save(tmp_path / "wrong.npz", checkpoint.network_entries(generator.net), style={"colours": "sepia"})
    with pytest.raises(InputError, match="colours 'sepia' is not known"):
        Generator.load(tmp_path / "wrong.npz")


def test_bad_pictures():
    for shape in ((8, 8), (8, 8, 4), (0, 8, 3)):
        with pytest.raises(InputError, match=r"expected \(H, W, 3\)"):
            Generator(2).paint(np.zeros(shape, np.float32))


def test_a_loss_that_is_not_finite_changes_nothing(monkeypatch, rng):
    eye = small_vgg(monkeypatch, dtype="float32")
    content = rng.random((1, 32, 32, 3), np.float32)
    objective = Objective(eye, **LAYERS).set_style(content)
    generator = Generator(2)
    before = [parameter.value.copy() for parameter in generator.net.parameters.values()]
    targets = {name: np.full_like(target, np.nan) for name, target in objective.content_targets(content).items()}
    terms = generator_step(generator, objective, Adam(generator.net.parameters, 1e-3), content, targets)
    assert np.isnan(terms["total"])
    assert all(
        np.array_equal(parameter.value, kept) for parameter, kept in zip(generator.net.parameters.values(), before)
    )


# Direct optimisation -------------------------------------------------------------------------------------------------


def problem(monkeypatch, rng, xp=np):
    eye = small_vgg(monkeypatch, dtype="float32", xp=xp)
    content, style = (xp.asarray(rng.random(shape, np.float32)) for shape in ((1, 24, 32, 3), (1, 32, 24, 3)))
    return Objective(eye, style_weight=1e3, **LAYERS).set_style(style), content


@pytest.mark.parametrize("method, share", [("lbfgs", 0.2), ("adam", 0.5)])
def test_direct_optimisation_descends(method, share, monkeypatch, rng):
    objective, content = problem(monkeypatch, rng)
    before = content.copy()
    seen = []
    picture = optimize_picture(
        objective, content, steps=25, method=method, report=lambda step, terms, p: seen.append((step, terms["total"]))
    )
    assert [step for step, _ in seen] == list(range(1, len(seen) + 1)) and 5 <= len(seen) <= 25
    targets = objective.content_targets(content)
    assert objective(picture, targets)[0]["total"] < share * objective(content, targets)[0]["total"]
    assert picture.shape == content.shape and picture.dtype == np.float32 and 0 <= picture.min() and picture.max() <= 1
    assert np.array_equal(content, before)


def test_adam_on_pixels_everywhere(xp, monkeypatch, rng):
    objective, content = problem(monkeypatch, rng, xp)
    picture = optimize_picture(objective, content, steps=2, method="adam")
    assert type(picture) is type(content) and abs(to_cpu(picture) - to_cpu(content)).max() > 0.01


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_direct_optimisation_ends_when_asked(method, monkeypatch, rng):
    objective, content = problem(monkeypatch, rng)
    newest = []

    def report(step, terms, picture):
        newest.append(picture.copy())
        return step == 3

    picture = optimize_picture(objective, content, steps=50, method=method, report=report)
    assert len(newest) == 3 and np.allclose(picture, newest[-1], atol=1e-6)


def test_start_and_method(monkeypatch, rng):
    objective, content = problem(monkeypatch, rng)
    start = rng.random(content.shape, np.float32)
    assert abs(optimize_picture(objective, content, start, steps=1, method="adam") - start).max() < 0.021
    with pytest.raises(InputError, match="--method 'newton' is not known; expected lbfgs or adam"):
        optimize_picture(objective, content, method="newton")
