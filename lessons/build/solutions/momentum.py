"""Solution: the running numbers first, then the step with the new ones."""

import numpy as np


def momentum_step(value, gradient, velocity, learning_rate, momentum=0.99):
    velocity = momentum * velocity + gradient
    return value - learning_rate * velocity, velocity


def adam_step(value, gradient, mean, square, t, learning_rate, beta1=0.9, beta2=0.999, eps=1e-8):
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    mean_now, square_now = mean / (1 - beta1**t), square / (1 - beta2**t)
    return value - learning_rate * mean_now / (np.sqrt(square_now) + eps), mean, square
