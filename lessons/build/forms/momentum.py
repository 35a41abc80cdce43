"""Two ways of going downhill. Gradient descent with momentum (§3): "we use a high momentum (0.99) such that a large
number of the previously seen training samples determine the update in the current optimization step". Lesson 6.

    v <- momentum * v + g             g the gradient, v the velocity: a sum of all gradients, old ones count less
    p <- p - learning_rate * v        p the parameters: the step is made with the new v

The paper trains with it for ten hours. Lesson 1 has a minute, and uses Adam (Kingma and Ba 2015), as the training at
the end of this track does. Adam divides by the size that gradients had lately, so that every parameter moves about
equally fast:

    m <- beta1 m + (1 - beta1) g              running mean of the gradients          both begin at 0,
    s <- beta2 s + (1 - beta2) g^2            running mean of their squares          and are too small at first:
    p <- p - learning_rate * M / (sqrt(S) + eps)      M = m / (1 - beta1^t),  S = s / (1 - beta2^t),  t = 1, 2, 3, ...
"""

import numpy as np


def momentum_step(value, gradient, velocity, learning_rate, momentum=0.99):
    """value p, gradient g, velocity v: arrays of one shape -> the new value, the new velocity. No argument is
    changed.

    Example: p = 1, g = 0.5, v = 2, learning_rate 0.1, momentum 0.9 -> v = 0.9 * 2 + 0.5 = 2.3, p = 1 - 0.23 = 0.77.
    """
    raise NotImplementedError("write momentum_step")


def adam_step(value, gradient, mean, square, t, learning_rate, beta1=0.9, beta2=0.999, eps=1e-8):
    """value p, gradient g, mean m, square s: arrays of one shape; t = 1 in the first step -> the new p, m and s.

    Example, the first step: p = 1, g = 0.5, m = s = 0, t = 1, learning_rate 0.1 -> m = 0.05, s = 0.00025, M = 0.5,
    S = 0.25, p = 1 - 0.1 * 0.5 / 0.5 = 0.9. The first step is as long as the learning rate, whatever the gradient.
    """
    raise NotImplementedError("write adam_step")
