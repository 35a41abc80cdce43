"""The end of the track: the reader's functions train lesson 1's network.

Everything that the paper describes is the reader's here: weights are drawn by initial_weights, tiles are bent by
displacement_field and weighted by weight_map, a step is unet_forward, energy, unet_backward and adam_step, and the
section at the end goes through overlap_tile and is scored with v_rand. (As in lesson 1 Adam takes the place of momentum
0.99, which wants thousands of steps.) The course adds what is left: the schedule of the learning rate, reading an image
between its pixels, and numbering the regions. npunet draws the sections beforehand and looks at the weights afterwards,
in processes of their own.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from lessons.build import answers, network
from lessons.build.course import STEPS
from lessons.build.with_npunet import BASE_CHANNELS, DEPTH, TILE

ROOT = Path(__file__).parents[2]
STEPS_OF_TRAINING, LEARNING_RATE, WARM_UP, CLIP = 320, 0.0025, 10, 1.0  # lesson 1 has 240 steps
GOAL = 0.91  # the ranking that lesson 1's network reaches is 0.912


def main(folder):
    """Trains, examines, writes trained.npz and prediction.png into `folder`; 0 if the goal is reached."""
    started = time.perf_counter()
    get = answers.load(folder)
    mine = {step.name: get(step.file, step.name) for step in STEPS}
    print("\nEvery function is right. Now they train lesson 1's network, and nothing of npunet is in it.")
    with_npunet("sections", folder / "sections.npz")
    data = dict(np.load(folder / "sections.npz"))
    parameters = draw_parameters(mine, np.random.default_rng(0))
    before = predict(mine, parameters, data["images"][3])
    parameters = train(mine, parameters, data, np.random.default_rng(1))
    probabilities = predict(mine, parameters, data["images"][3])
    good = examine(mine, data, before, probabilities)
    tile = data["images"][3:, :TILE, :TILE].astype(np.float32)
    logits, _ = mine["unet_forward"](tile, parameters, DEPTH)
    np.savez(
        folder / "trained.npz",
        **parameters,
        tile=tile,
        logits=logits,
        image=data["images"][3],
        labels=data["labels"][3],
        before=before,
        probabilities=probabilities,
    )
    with_npunet("judge", folder)
    print(f"picture: {folder / 'prediction.png'}; the whole took {time.perf_counter() - started:.0f} s")
    if good:
        print("You have built the U-Net.")
        return 0
    print(f"The ranking is below {GOAL}: that should not happen with right functions. Please report it.")
    return 1


def with_npunet(task, path):
    command = [sys.executable, "-m", "lessons.build.with_npunet", task, str(Path(path).resolve())]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def draw_parameters(mine, rng):
    """{name: float32 array}: the weights are the reader's, the biases 0."""
    parameters = {}
    for name, shape, up in network.layers(BASE_CHANNELS, DEPTH):
        parameters[f"{name}.weight"] = np.asarray(mine["initial_weights"](shape, rng, up), np.float32)
        parameters[f"{name}.bias"] = np.zeros(shape[3], np.float32)
    return parameters


@threadpool_limits.wrap(limits=1)  # the matrices are small: on a busy machine a second thread costs more than it brings
def train(mine, parameters, data, rng):
    """The steps of gradient descent with momentum 0.99 on one tile each; returns the parameters."""
    maps = [mine["weight_map"](instances, 10.0, 5.0) for instances in data["instances"][:3]]
    maps = [weights + data["class_weights"][labels] - 1 for weights, labels in zip(maps, data["labels"])]  # w_c
    means, squares = ({name: np.zeros_like(value) for name, value in parameters.items()} for _ in range(2))
    energies = []
    for step in range(STEPS_OF_TRAINING):
        image, labels, weights = draw_tile(mine, data, maps, rng)
        logits, kept = mine["unet_forward"](image, parameters, DEPTH)
        loss, dlogits = mine["energy"](logits, labels, weights)
        gradients = mine["unet_backward"](dlogits, parameters, DEPTH, kept)
        rate, scale = learning_rate(step), clipping(gradients)
        for name in parameters:
            gradient = gradients[name] * scale
            parameters[name], means[name], squares[name] = mine["adam_step"](
                parameters[name], gradient, means[name], squares[name], step + 1, rate
            )
        energies.append(float(loss))
        if (step + 1) % 40 == 0:
            print(f"  step {step + 1} of {STEPS_OF_TRAINING}: mean energy of the last 40 {np.mean(energies[-40:]):.3f}")
    return parameters


def learning_rate(step):
    """Rises over the first steps, then falls along half a cosine."""
    rise = min(1.0, (step + 1) / WARM_UP)
    return np.float32(LEARNING_RATE * rise * 0.5 * (1 + np.cos(np.pi * step / STEPS_OF_TRAINING)))


def clipping(gradients):
    """The factor that makes the norm of all gradients together at most CLIP."""
    norm = np.sqrt(sum(float(np.vdot(gradient, gradient)) for gradient in gradients.values()))
    return np.float32(min(1.0, CLIP / max(norm, 1e-12)))


def draw_tile(mine, data, maps, rng):
    """image (1, 204, 204, 1), labels (1, 116, 116), weights alike: turned, mirrored, bent (§3.1)."""
    section, output = rng.integers(len(maps)), output_size()
    centre, angle = rng.random(2) * data["labels"].shape[1:], rng.uniform(-np.pi, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn * np.where(rng.random(2) < 0.5, -1, 1)
    field = mine["displacement_field"](10 * rng.standard_normal((2, 3, 3)), TILE)
    t = np.arange(TILE) - (TILE - 1) / 2
    y, x = (centre[a] + turn[a, 0] * t[:, None] + turn[a, 1] * t + field[a] for a in (0, 1))
    image = between_pixels(data["images"][section][..., 0], y, x)
    middle = (slice((TILE - output) // 2, (TILE + output) // 2),) * 2
    rows, columns = (mirror(np.floor(c[middle] + 0.5).astype(int), data["labels"].shape[1]) for c in (y, x))
    labels, weights = data["labels"][section][rows, columns], maps[section][rows, columns]
    return image.astype(np.float32)[None, ..., None], labels[None], weights.astype(np.float32)[None]


def between_pixels(image, y, x):
    """The image at positions between its pixels: the mean of the four around, the nearer the heavier."""
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    down, across = y - row, x - column
    rows, columns = [mirror(row + a, len(image)) for a in (0, 1)], [mirror(column + a, len(image)) for a in (0, 1)]
    above = (1 - across) * image[rows[0], columns[0]] + across * image[rows[0], columns[1]]
    below = (1 - across) * image[rows[1], columns[0]] + across * image[rows[1], columns[1]]
    return (1 - down) * above + down * below


def mirror(position, length):
    position = np.abs(position) % (2 * length - 2)
    return np.minimum(position, 2 * length - 2 - position)


def output_size():
    """What is left of a tile: 116 of 204."""
    side = TILE
    for _ in range(DEPTH):
        side = (side - 4) // 2
    side -= 4
    for _ in range(DEPTH):
        side = 2 * side - 4
    return side


def predict(mine, parameters, image):
    """Probabilities (256, 256, 2) of a section, by the reader's overlap_tile."""

    def ask(tile):
        x = np.asarray(tile, np.float32)[None]
        return mine["softmax"](mine["unet_forward"](x, parameters, DEPTH)[0])[0]

    return mine["overlap_tile"](ask, image, TILE, output_size(), 2**DEPTH)


def examine(mine, data, before, probabilities):
    """Prints the scores of the section that was never seen; is the goal reached?"""
    labels, cells = data["labels"][3], data["instances"][3]
    grey = ranking(data["images"][3][..., 0], labels)
    mine_before, mine_after = ranking(before[..., 1], labels), ranking(probabilities[..., 1], labels)
    print(f"ranking of the section never seen: grey value {grey:.3f}, before training {mine_before:.3f}, ", end="")
    print(f"your U-Net {mine_after:.3f}; lesson 1's with npunet reaches 0.912")
    scores = {t: mine["v_rand"](regions(probabilities[..., 1] > t), cells) for t in (0.5, 0.6, 0.7, 0.8, 0.9)}
    best = max(scores, key=scores.get)
    print(f"V_rand by your own measure: {scores[best]:.3f} at threshold {best}")
    return mine_after >= GOAL


def ranking(score, labels):
    """How often a random interior pixel has a higher score than a random membrane pixel (lesson 1)."""
    values, counts = np.unique(score[labels == 0], return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    interior = score[labels == 1]
    left, right = np.searchsorted(values, interior), np.searchsorted(values, interior, "right")
    return float((below[left] + below[right]).mean() / (2 * below[-1]))


def regions(interior):
    """Numbers the 4-connected regions: every pixel takes the largest number near it until nothing changes."""
    numbers = np.where(interior, np.arange(1, interior.size + 1).reshape(interior.shape), 0)
    while True:
        padded = np.pad(numbers, 1)
        around = [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        larger = np.where(interior, np.max(around, axis=0), 0)
        larger = np.where(interior, flattened(larger, numbers), 0)
        if np.array_equal(larger, numbers):
            return np.unique(numbers, return_inverse=True)[1].reshape(numbers.shape)
        numbers = larger


def flattened(larger, numbers):
    """A number stands for the pixel with that index: follow it once, which shortens long ways."""
    follow = np.concatenate([[0], larger.ravel()])
    return np.maximum(follow[larger], larger)
