"""Start here: the network of Fig. 1, forward and backward, and one step of training, in plain NumPy.

Nothing on this page is fast, and nothing is hidden. It has no options, no threads and no GPU: it is the paper (§2, §3)
written as array expressions, and `npunet.unet` with everything below it computes the same numbers.

Notation: a feature map x is (height, width, channels); the paper's batch is one image, so there is no batch axis. A
weight is (3, 3, C, K): nine matrices, one for each tap (u, v) of the kernel, from C channels to K. dx stands for the
derivative of the energy by x, for any x. `saved` is a pile: each layer of the forward pass puts onto it what its
gradient needs, and the backward pass takes it off again, last layer first.
"""

import numpy as np

LEVELS = range(4)  # four poolings: 64, 128, 256, 512 channels, and 1024 at the bottom


def initial_parameters(seed=0, channels=64, classes=2):
    """{name: array} for all layers of Fig. 1, weights with standard deviation sqrt(2 / N) (§3), biases 0."""
    widths = [channels * 2**level for level in (*LEVELS, 4)]  # 64, 128, 256, 512, 1024
    shapes = {}
    for level, width in enumerate(widths):
        name = f"contracting.{level}" if level in LEVELS else "bottleneck"
        shapes[f"{name}.conv1"] = 3, 3, widths[level - 1] if level else 1, width
        shapes[f"{name}.conv2"] = 3, 3, width, width
    for level in reversed(LEVELS):
        shapes[f"expansive.{level}.up"] = 2, 2, widths[level + 1], widths[level]
        shapes[f"expansive.{level}.conv1"] = 3, 3, 2 * widths[level], widths[level]
        shapes[f"expansive.{level}.conv2"] = 3, 3, widths[level], widths[level]
    shapes["output"] = 1, 1, channels, classes
    rng, parameters = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        incoming = shape[2] if ".up" in name else shape[0] * shape[1] * shape[2]  # one tap reaches an upsampled pixel
        gain = 2 if ".conv" in name else 1  # a ReLU lets half of the second moment through
        parameters[f"{name}.weight"] = np.sqrt(gain / incoming) * rng.standard_normal(shape)
        parameters[f"{name}.bias"] = np.zeros(shape[3])
    return parameters


# The operations (§2). Each is a pair: what Fig. 1 draws as an arrow, and the arrow read backwards.


def convolution(x, weight, bias):
    """y[i, j] = bias + the sum over all taps of x[i + u, j + v] @ weight[u, v]: (H, W, C) -> (H - 2, W - 2, K)."""
    height, width = x.shape[0] - weight.shape[0] + 1, x.shape[1] - weight.shape[1] + 1
    return bias + sum(x[u : u + height, v : v + width] @ weight[u, v] for u, v in np.ndindex(weight.shape[:2]))


def convolution_backward(dy, x, weight):
    """Each product x @ weight in the sum above sends dy to both of its factors."""
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    for u, v in np.ndindex(weight.shape[:2]):
        window = slice(u, u + dy.shape[0]), slice(v, v + dy.shape[1])
        dx[window] += dy @ weight[u, v].T  # (H', W', K) @ (K, C)
        dweight[u, v] = np.tensordot(x[window], dy, axes=([0, 1], [0, 1]))  # (C, K): summed over all pixels
    return dx, dweight, dy.sum(axis=(0, 1))


def max_pooling(x):
    """The largest of every 2 x 2 pixels: (H, W, C) -> (H / 2, W / 2, C)."""
    return windows(x).max(axis=2)


def max_pooling_backward(dy, x):
    """The whole gradient goes to the pixel that was the largest; of equal ones to the first."""
    dwindows = np.zeros_like(windows(x))
    np.put_along_axis(dwindows, windows(x).argmax(axis=2)[:, :, None], dy[:, :, None], axis=2)
    height, width, channels = dy.shape
    return dwindows.reshape(height, width, 2, 2, channels).swapaxes(1, 2).reshape(x.shape)


def windows(x):
    """(H, W, C) -> (H / 2, W / 2, 4, C): the four pixels of each window, row by row."""
    height, width, channels = x.shape
    pairs = x.reshape(height // 2, 2, width // 2, 2, channels).swapaxes(1, 2)  # (H / 2, W / 2, 2, 2, C)
    return pairs.reshape(height // 2, width // 2, 4, channels)


def up_convolution(x, weight, bias):
    """Each pixel becomes 2 x 2 pixels, each through a matrix of its own: (H, W, C) -> (2 H, 2 W, K)."""
    y = np.empty((2 * x.shape[0], 2 * x.shape[1], weight.shape[3]))
    for a, b in np.ndindex(2, 2):
        y[a::2, b::2] = x @ weight[a, b] + bias
    return y


def up_convolution_backward(dy, x, weight):
    dx = sum(dy[a::2, b::2] @ weight[a, b].T for a, b in np.ndindex(2, 2))
    dweight = np.empty_like(weight)
    for a, b in np.ndindex(2, 2):
        dweight[a, b] = np.tensordot(x, dy[a::2, b::2], axes=([0, 1], [0, 1]))  # (C, K)
    return dx, dweight, dy.sum(axis=(0, 1))


def centre(skip, like):
    """The part of a contracting feature map that the smaller, upsampled one lies over; a view."""
    top, left = (skip.shape[0] - like.shape[0]) // 2, (skip.shape[1] - like.shape[1]) // 2
    return skip[top : top + like.shape[0], left : left + like.shape[1]]


def energy(logits, labels, weights):
    """Eq. 1, as the mean over pixels, and its gradient: soft-max p, then -log p of the right class, weighted (§3)."""
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)  # (H, W, K)
    q = np.eye(logits.shape[-1])[labels]  # (H, W, K): 1 for the right class
    return -(weights * np.log((p * q).sum(axis=-1))).mean(), weights[..., None] * (p - q) / labels.size


# The network (§2, Fig. 1).


def forward(image, parameters):
    """image (572, 572, 1) -> logits (388, 388, 2), and the pile for `backward`."""
    saved, skips, x = [], [], image
    for level in LEVELS:
        x = double_convolution(x, f"contracting.{level}", parameters, saved)
        skips.append(x)
        saved.append(x)
        x = max_pooling(x)
    x = double_convolution(x, "bottleneck", parameters, saved)
    for level in reversed(LEVELS):
        saved.append(x)
        x = up_convolution(x, *of_layer(f"expansive.{level}.up", parameters))
        x = np.concatenate([x, centre(skips.pop(), like=x)], axis=-1)
        x = double_convolution(x, f"expansive.{level}", parameters, saved)
    saved.append(x)
    return convolution(x, *of_layer("output", parameters)), saved


def backward(dlogits, parameters, saved):
    """`forward` read from its last line to its first: the gradient of every parameter by name, and of the image."""
    gradients, dskips = {}, []

    def note(name, dx, dweight, dbias):
        gradients[f"{name}.weight"], gradients[f"{name}.bias"] = dweight, dbias
        return dx

    def double_convolution_backward(dx, name):
        for layer in (f"{name}.conv2", f"{name}.conv1"):
            x, y = saved.pop()
            dx = note(layer, *convolution_backward(dx * (y > 0), x, parameters[f"{layer}.weight"]))
        return dx

    dx = note("output", *convolution_backward(dlogits, saved.pop(), parameters["output.weight"]))
    for level in LEVELS:
        dx = double_convolution_backward(dx, f"expansive.{level}")
        dup, dskip = np.split(dx, 2, axis=-1)
        dskips.append(dskip)
        up = f"expansive.{level}.up"
        dx = note(up, *up_convolution_backward(dup, saved.pop(), parameters[f"{up}.weight"]))
    dx = double_convolution_backward(dx, "bottleneck")
    for level in reversed(LEVELS):
        dx = max_pooling_backward(dx, saved.pop())
        dskip = dskips.pop()
        centre(dx, like=dskip)[...] += dskip  # the feature map had two readers: their gradients add
        dx = double_convolution_backward(dx, f"contracting.{level}")
    return gradients, dx


def double_convolution(x, name, parameters, saved):
    """Two 3x3 convolutions, each with its ReLU, max(0, x)."""
    for layer in (f"{name}.conv1", f"{name}.conv2"):
        y = np.maximum(convolution(x, *of_layer(layer, parameters)), 0)
        saved.append((x, y))
        x = y
    return x


def of_layer(name, parameters):
    return parameters[f"{name}.weight"], parameters[f"{name}.bias"]


def training_step(image, labels, weights, parameters, velocity, learning_rate, momentum=0.99):
    """One step of stochastic gradient descent with momentum (§3), in place; returns the energy before it."""
    logits, saved = forward(image, parameters)
    loss, dlogits = energy(logits, labels, weights)
    gradients, _ = backward(dlogits, parameters, saved)
    for name, parameter in parameters.items():
        velocity[name] = momentum * velocity.get(name, 0) + gradients[name]
        parameter -= learning_rate * velocity[name]
    return loss
