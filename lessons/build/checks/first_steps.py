"""Checks of initialization.py and momentum.py."""

import numpy as np


def check_initial_weights(check):
    """Random numbers: their mean, their spread and their shape are checked, each far beyond chance."""
    for shape, up in (((3, 3, 64, 32), False), ((3, 3, 8, 40), False), ((1, 1, 64, 90), False), ((2, 2, 64, 40), True)):
        name = f"shape {shape}" + (", an up-convolution" if up else "")
        rng = np.random.default_rng(7)
        weights = check.call(name, {"shape": shape, "rng": rng, "up": up})
        array = np.asarray(weights, float) if weights is not None else None
        if array is None or array.shape != shape:
            found = "nothing" if array is None else f"shape {array.shape}"
            check.fail(f"initial_weights: {found} came back, expected shape {shape}", "return an array of that shape")
        spread(check, name, shape, up, array)
        if rng.bit_generator.state == np.random.default_rng(7).bit_generator.state:
            check.fail(f"initial_weights did not use rng: {name}", "draw from the rng that is given, so a seed decides")


def spread(check, name, shape, up, array):
    kh, kw, channels, outputs = shape
    incoming = channels if up else kh * kw * channels
    expected, found, noise = np.sqrt(2 / incoming), array.std(), 4 / np.sqrt(array.size)
    first = f"initial_weights: standard deviation {found:.5f}, expected {expected:.5f}: {name}"
    if np.count_nonzero(array == array.max()) > 1 and len(np.unique(array)) > 0.3 * array.size:
        check.fail(
            first, f"numbers beyond {array.max() / expected:.3g} standard deviations are cut off; a Gaussian has them"
        )
    if len(np.unique(array)) < 0.99 * array.size:
        check.fail(
            f"initial_weights: {len(np.unique(array))} different numbers for {array.size} weights: {name}",
            "numbers repeat: draw one for every weight, rng.standard_normal(shape)",
        )
    if array.min() >= 0:
        check.fail(first, "no number is negative: a Gaussian with mean 0 has as many negative as positive ones")
    if abs(found / expected - 1) > noise:
        taps = kh * kw
        guesses = {
            "sqrt(1 / N): the paper has sqrt(2 / N)": np.sqrt(1 / incoming),
            "2 / N: the root is forgotten": 2 / incoming,
            "1 / N: the paper has sqrt(2 / N)": 1 / incoming,
            "the numbers have standard deviation 1: nothing was multiplied": 1.0,
            "N counts the outgoing nodes, K; it should count the incoming ones": np.sqrt(
                2 / (outputs * (1 if up else taps))
            ),
            "N counts the places of the kernel, too; in an up-convolution only one of them reaches a pixel": np.sqrt(
                2 / (taps * channels)
            ),
            "N is the number of channels only; each of the places of the kernel brings as many": np.sqrt(2 / channels),
            "N is the number of places of the kernel only; each brings C channels": np.sqrt(2 / taps),
            "N counts all weights; those of one output channel are meant": np.sqrt(2 / (taps * channels * outputs)),
            "sqrt(2 / (N_in + N_out)), another rule (Glorot's)": np.sqrt(2 / (taps * (channels + outputs))),
            "sqrt(2 N): divide by N": np.sqrt(2 * incoming),
            "uniform numbers: the paper draws from a Gaussian": np.sqrt(2 / incoming / 3),
            "uniform numbers from 0 to 1: the paper draws from a Gaussian with mean 0": np.sqrt(2 / incoming / 12),
        }
        close = {s: abs(np.log(found / g)) for s, g in guesses.items()} if found > 0 else {}
        best = min(close, key=close.get, default=None)
        check.fail(first, best if best and close[best] < 1.5 * noise else as_if(found, incoming))
    if abs(array.mean()) > 5 * expected / np.sqrt(array.size):
        check.fail(f"initial_weights: mean {array.mean():.5f}, expected 0: {name}", "the Gaussian has mean 0")
    kurtosis = np.mean((array / found) ** 4)
    if abs(kurtosis - 3) > 25 / np.sqrt(array.size):
        check.fail(f"initial_weights: not from a Gaussian: {name}", "uniform numbers? use rng.standard_normal")
    halves = array.reshape(-1, outputs)
    if abs(np.corrcoef(halves[:, 0], halves[:, 1])[0, 1]) > 0.9:
        check.fail(f"initial_weights: two output channels are equal: {name}", "draw a number for every weight")


def as_if(found, incoming):
    return (
        f"that is sqrt(2 / N) for N = {2 / found**2:.4g}; one output adds up N = {incoming} products" if found else "0"
    )


def check_momentum_step(check):
    rng = np.random.default_rng(8)
    vector = rng.standard_normal(4)
    examples = {
        "the example of the form": (np.array([1.0]), np.array([0.5]), np.array([2.0]), 0.1, 0.9),
        "the first step: the velocity is 0": (vector, rng.standard_normal(4), np.zeros(4), 0.01, 0.99),
        "later, an array (2, 3)": (*rng.standard_normal((3, 2, 3)), 0.2, 0.99),
        "momentum 0.5": (*rng.standard_normal((3, 2, 3)), 0.3, 0.5),
        "momentum 0": (*rng.standard_normal((3, 5)), 0.3, 0.0),
    }
    for name, (value, gradient, velocity, rate, momentum) in examples.items():
        new = np.array([momentum * v + g for v, g in zip(velocity.ravel(), gradient.ravel())]).reshape(value.shape)
        stepped = np.array([p - rate * v for p, v in zip(value.ravel(), new.ravel())]).reshape(value.shape)
        check(
            name,
            {"value": value, "gradient": gradient, "velocity": velocity, "learning_rate": rate, "momentum": momentum},
            (stepped, new),
            momentum_mistakes(value, gradient, velocity, rate, momentum),
            outputs=("value", "velocity"),
        )
    arguments = {"value": vector, "gradient": vector, "velocity": vector, "learning_rate": 0.1, "momentum": 0.5}
    check.keeps_float32(arguments, ("value", "velocity"))
    without = {name: arguments[name] for name in ("value", "gradient", "velocity", "learning_rate")}
    expected = 0.801 * vector, 1.99 * vector
    check("without its last argument: momentum is 0.99 then", without, expected, outputs=("value", "velocity"))


def momentum_mistakes(value, gradient, velocity, rate, momentum):
    new = momentum * velocity + gradient
    damped = momentum * velocity + (1 - momentum) * gradient
    ahead = value - rate * (gradient + momentum * new)
    inside = momentum * velocity + rate * gradient

    def fixed(m):
        v = m * velocity + gradient
        return value - rate * v, v

    return {
        "the sign: the step goes against the gradient": (value + rate * new, new),
        "the gradient is multiplied with 1 - momentum; here it counts in full": (value - rate * damped, damped),
        "the old velocity makes the step; the new one should": (value - rate * velocity, new),
        "the learning rate is in the velocity; the formula has it outside": (value - inside, inside),
        "the sign of the gradient within the velocity": (
            value - rate * (momentum * velocity - gradient),
            momentum * velocity - gradient,
        ),
        "velocity with a minus: v = m v - eta g is another way to write it; keep the form's": (
            value + momentum * velocity - rate * gradient,
            momentum * velocity - rate * gradient,
        ),
        "no momentum: only the gradient makes the step": (value - rate * gradient, new),
        "no momentum at all: the velocity is the gradient": (value - rate * gradient, gradient),
        "momentum is not multiplied: the velocity only grows": (
            value - rate * (velocity + gradient),
            velocity + gradient,
        ),
        "Nesterov's variant looks ahead; the paper's does not": (ahead, new),
        "the learning rate is forgotten": (value - new, new),
        "the learning rate is used twice": (value - rate * rate * new, new),
        "momentum is multiplied with the gradient, too": (
            value - rate * momentum * (velocity + gradient),
            momentum * (velocity + gradient),
        ),
        "0.99 is written into the function; the argument momentum should count": fixed(0.99),
        "0.9 is written into the function; the argument momentum should count": fixed(0.9),
        "value and velocity are returned in the other order": (new, value - rate * new),
        "the value did not move": (value, None),
    }


def check_adam_step(check):
    rng = np.random.default_rng(9)
    zero = np.zeros(4)
    p, g, m = rng.standard_normal((3, 4))
    s = rng.uniform(0.1, 2, 4)
    names = ("value", "gradient", "mean", "square", "t", "learning_rate", "beta1", "beta2", "eps")
    usual = (0.9, 0.999, 1e-8)
    examples = {
        "the example of the form": (np.array([1.0]), np.array([0.5]), np.zeros(1), np.zeros(1), 1, 0.1, *usual),
        "the first step": (p, g, zero, zero, 1, 0.01, *usual),
        "the third step": (p, g, m, s, 3, 0.2, *usual),
        "other betas, a large eps": (p, g, m, s, 2, 0.3, 0.5, 0.75, 0.5),
    }
    outputs = ("value", "mean", "square")
    for name, values in examples.items():
        new = [adam_by_hand(*(float(v) for v in numbers), *values[4:]) for numbers in zip(*values[:4])]
        expected = tuple(np.array(column) for column in zip(*new))
        check(name, dict(zip(names, values)), expected, adam_mistakes(*values), outputs=outputs)
    arguments = dict(zip(names, values))
    check.keeps_float32(arguments, outputs)
    short = dict(list(arguments.items())[:6])
    new = [adam_by_hand(*(float(v) for v in numbers), 2, 0.3, *usual) for numbers in zip(p, g, m, s)]
    name = "without its last arguments: betas 0.9 and 0.999, eps 1e-8"
    check(name, short, tuple(np.array(column) for column in zip(*new)), outputs=outputs)


def adam_by_hand(p, g, m, s, t, rate, beta1, beta2, eps):
    m, s = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g * g
    return p - rate * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)) ** 0.5 + eps), m, s


def adam_mistakes(p, g, m, s, t, rate, beta1, beta2, eps):
    mean, square = beta1 * m + (1 - beta1) * g, beta2 * s + (1 - beta2) * g**2
    big, large = mean / (1 - beta1**t), square / (1 - beta2**t)

    def step(top, bottom):
        return p - rate * top / bottom, mean, square

    with np.errstate(all="ignore"):
        return {
            "the sign: the step goes against the gradient": (p + rate * big / (np.sqrt(large) + eps), mean, square),
            "the corrections are missing: M = m / (1 - beta1^t), S = s / (1 - beta2^t)": step(
                mean, np.sqrt(square) + eps
            ),
            "the correction of the mean is missing: M = m / (1 - beta1^t)": step(mean, np.sqrt(large) + eps),
            "the correction of the square is missing: S = s / (1 - beta2^t)": step(big, np.sqrt(square) + eps),
            "the corrections count t from 0: t = 1 is the first step": step(
                mean / (1 - beta1 ** (t + 1)), np.sqrt(square / (1 - beta2 ** (t + 1))) + eps
            ),
            "the corrections have beta * t where beta^t is meant": step(
                mean / (1 - beta1 * t), np.sqrt(abs(square / (1 - beta2 * t))) + eps
            ),
            "the corrections have 1 - beta, without the power t": step(
                mean / (1 - beta1), np.sqrt(square / (1 - beta2)) + eps
            ),
            "S is corrected with beta1; it has beta2": step(big, np.sqrt(square / (1 - beta1**t)) + eps),
            "M is corrected with beta2; it has beta1": step(mean / (1 - beta2**t), np.sqrt(large) + eps),
            "the corrections multiply; they divide by 1 - beta^t": step(
                mean * (1 - beta1**t), np.sqrt(square * (1 - beta2**t)) + eps
            ),
            "the step is made with the old m and s": step(m / (1 - beta1**t), np.sqrt(s / (1 - beta2**t)) + eps),
            "the learning rate is forgotten": (p - big / (np.sqrt(large) + eps), mean, square),
            "the root is forgotten": step(big, large + eps),
            "eps is under the root; it belongs behind it": step(big, np.sqrt(large + eps)),
            "eps is forgotten": step(big, np.sqrt(large)),
            "the gradient makes the step; its running mean should": step(g, np.sqrt(large) + eps),
            "the square holds g, not g^2": (None, mean, beta2 * s + (1 - beta2) * g),
            "the square holds m^2, not g^2": (None, mean, beta2 * s + (1 - beta2) * mean**2),
            "1 - beta1 is forgotten": (None, beta1 * m + g, None),
            "1 - beta2 is forgotten": (None, None, beta2 * s + g**2),
            "beta1 and beta2 are exchanged": (None, beta2 * m + (1 - beta2) * g, beta1 * s + (1 - beta1) * g**2),
            "beta and 1 - beta are exchanged": (None, (1 - beta1) * m + beta1 * g, (1 - beta2) * s + beta2 * g**2),
            "M and S come back; the uncorrected m and s should": (None, big, large),
        }
