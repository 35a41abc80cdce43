"""Wrong answers, as people write them: for each function at least four, and what the check must say about each.

MISTAKES[function] holds (old, new, diagnosis): in the solution `old` is replaced by `new` (see `mistaken`), and the message
of the check must match the regular expression `diagnosis`.
"""


def mistaken(source, function, old, new):
    """The source with `old` replaced once, where the function begins or behind that, else in a helper before it."""
    begin = max(source.find(f"def {function}("), 0)
    begin = begin if old in source[begin:] else 0
    assert old in source, f"{function}: the solution has no {old!r}"
    return source[:begin] + source[begin:].replace(old, new, 1)


MISTAKES = {
    "conv2d": [
        ("@ weight[u, v]", "@ weight[kh - 1 - u, kw - 1 - v]", "kernel is flipped"),
        ("@ weight[u, v]", "@ weight[v, u]", "kernel is transposed"),
        ("return y + bias", "return y", "bias is forgotten"),
        ("            y += x", "            y = x", "only the last place"),
        ("return y + bias", "return np.maximum(y + bias, 0)", "ReLU is in it"),
        (
            "x.shape[1] - kh + 1, x.shape[2] - kw + 1",
            "x.shape[1] - kh, x.shape[2] - kw",
            "one row and one column too few",
        ),
        ("    kh, kw = weight.shape[:2]", "    kh, kw = 3, 3", "kernel of 2|index runs past|out of bounds"),
        (
            "y = np.zeros((len(x), height, width, weight.shape[3]), x.dtype)",
            "y = np.zeros((len(x), height, width, weight.shape[3]))",
            "dtype float64, expected float32",
        ),
        (
            "            y += x[:, u : u + height, v : v + width] @ weight[u, v]\n    return y + bias",
            "            y += x[:, u : u + height, v : v + width] @ weight[u, v] + bias\n    return y",
            "bias is added once for each",
        ),
        (
            "    y = np",
            "    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])\n    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1\n    y = np",
            "padded with zeros",
        ),
    ],
    "conv2d_input_gradient": [
        ("dy @ weight[u, v].T", "dy @ weight[kh - 1 - u, kw - 1 - v].T", "kernel is flipped"),
        ("dx[:, u : u + height, v : v + width] += dy", "dx[:, u : u + height, v : v + width] = dy", "overwritten"),
        ("dy @ weight[u, v].T", "dy @ weight[v, u].T", "transposed"),
        ("dy @ weight[u, v].T", "dy @ weight[u, v]", "inner sizes|broadcast|exchanged: a .T"),
        ("return dx\n\n\ndef conv2d_weight", "return -dx\n\n\ndef conv2d_weight", "the sign"),
        (
            "return dx\n\n\ndef conv2d_weight",
            "return dx[:, 1:-1, 1:-1]\n\n\ndef conv2d_weight",
            "frame is missing|too short",
        ),
        ("width + kw - 1, channels), dy.dtype)", "width + kw - 1, channels))", "dtype float64"),
    ],
    "conv2d_weight_gradient": [
        ("dweight[u, v] = window", "dweight[kh - 1 - u, kw - 1 - v] = window", "flipped"),
        ("dweight[u, v] = window", "dweight[v, u] = window", "exchanged"),
        ("return dweight, dy.sum(axis=(0, 1, 2))", "return dweight, dy.mean(axis=(0, 1, 2))", "mean for a sum"),
        ("return dweight, dy.sum(axis=(0, 1, 2))", "return dweight, dy.sum()", "sum over everything"),
        (
            "return dweight, dy.sum(axis=(0, 1, 2))",
            "return dweight / len(dy), dy.sum(axis=(0, 1, 2))",
            "number of images",
        ),
        (
            "return dweight, dy.sum(axis=(0, 1, 2))",
            "return dweight",
            "2 were expected: return dweight, dbias|one ndarray",
        ),
        ("return dweight, dy.sum(axis=(0, 1, 2))", "return dweight, dy.sum(axis=(1, 2))", "images, rows and columns"),
        ("    kh, kw = x.shape[1] - height + 1, x.shape[2] - width + 1", "    kh, kw = 3, 3", "do not write 3"),
    ],
    "relu": [
        ("np.maximum(x, 0)", "np.minimum(x, 0)", "other half"),
        ("np.maximum(x, 0)", "np.abs(x)", "absolute"),
        ("np.maximum(x, 0)", "np.where(x > 0, x, 0.01 * x)", "leak"),
        ("    return np.maximum(x, 0)", "    x[x < 0] = 0\n    return x", "argument x has been changed"),
        ("np.maximum(x, 0)", "(x > 0) * 1.0", "derivative"),
        ("    return np.maximum(x, 0)", "    y = np.maximum(x, 0)", "return"),
    ],
    "relu_gradient": [
        ("x > 0", "x >= 0", "x = 0"),
        ("dy * (x > 0)", "np.maximum(dy, 0)", "sign of dy"),
        ("dy * (x > 0)", "(x > 0) * 1.0", "chain rule"),
        ("dy * (x > 0)", "dy * np.maximum(x, 0)", "multiplied with dy; its derivative"),
        ("    return dy * (x > 0)", "    dy[x <= 0] = 0\n    return dy", "argument dy has been changed"),
        ("dy * (x > 0)", "dy", "as it was"),
    ],
    "max_pool": [
        (
            "return np.maximum(np.maximum(first, second), np.maximum(third, fourth))",
            "return (first + second + third + fourth) / 4",
            "mean of the four",
        ),
        ("np.maximum(first, second), np.maximum(third, fourth)", "first, fourth", "first and the last"),
        (
            "np.maximum(np.maximum(first, second), np.maximum(third, fourth))",
            "np.minimum(np.minimum(first, second), np.minimum(third, fourth))",
            "smallest",
        ),
        (
            "    first, second",
            "    n, h, w, c = x.shape\n    return x.reshape(n, 2, h // 2, 2, w // 2, c).max(axis=(1, 3))\n    first, second",
            "halves of the image",
        ),
        ("np.maximum(third, fourth)", "third", "last corner of each window is not looked at"),
        (
            "    first, second",
            "    y = np.zeros((x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3]))\n"
            "    for a in (0, 1):\n        for b in (0, 1):\n            y = np.maximum(y, x[:, a::2, b::2])\n    return y\n    first, second",
            "never below 0",
        ),
        (
            "    first, second",
            "    n, h, w, c = x.shape\n    return np.max([x[:, a:h-1+a, b:w-1+b] for a in (0, 1) for b in (0, 1)], axis=0)\n    first, second",
            "overlap",
        ),
    ],
    "max_pool_gradient": [
        ("(corner == largest) & free", "corner == largest", "every pixel that equals"),
        ("zip(corners(x), corners(dx))", "zip(corners(x)[::-1], corners(dx)[::-1])", "last of the equal"),
        ("dcorner[...] = dy * wins", "dcorner[...] = dy / 4", "quarter"),
        ("dcorner[...] = dy * wins", "dcorner[...] = wins", "derivative alone"),
        ("dcorner[...] = dy * wins", "dcorner[...] = largest * wins", "maxima are put back"),
        (
            "    return dx",
            "    return dx / sum((c == largest) * 1.0 for c in corners(x)).repeat(2, 1).repeat(2, 2)",
            "ties|factor|times",
        ),
        ("np.zeros(x.shape, dy.dtype)", "np.zeros(x.shape)", "dtype float64"),
    ],
    "up_conv": [
        ("x @ weight[a, b] + bias", "x @ weight[b, a] + bias", "a and b are exchanged"),
        ("x @ weight[a, b] + bias", "x @ weight[1 - a, 1 - b] + bias", "half a turn"),
        ("x @ weight[a, b] + bias", "x @ weight[a, b]", "bias is forgotten"),
        ("y[:, a::2, b::2] = x", "y[:, a * height : (a + 1) * height, b * width : (b + 1) * width] = x", "interleaved"),
        ("x @ weight[a, b] + bias", "x @ weight[0, 0] + bias", "repeated with one weight"),
        ("x @ weight[a, b] + bias", "x @ weight[a, b] / 4 + bias", "divided by 4"),
    ],
    "up_conv_gradients": [
        ("dx += part", "dx = part", "only the last place"),
        ("weight[a, b].T", "weight[b, a].T", "a and b are exchanged"),
        ("dweight[a, b] = x", "dweight[b, a] = x", "a and b are exchanged"),
        ("dy.sum(axis=(0, 1, 2))", "part.sum(axis=(0, 1, 2))", "last place of each block"),
        ("return dx, dweight", "return dx / 4, dweight", "mean over the four"),
        ("return dx, dweight, dy", "return dweight, dx, dy", "shape"),
        ("weight[a, b].T", "weight[a, b]", "inner sizes|broadcast|a .T is missing"),
    ],
    "crop_concat": [
        (
            "[upsampled, skip[:, top : top + height, left : left + width]]",
            "[skip[:, top : top + height, left : left + width], upsampled]",
            "skip comes first",
        ),
        ("top : top + height, left : left + width]]", ":height, :width]]", "top left corner"),
        ("axis=3", "axis=1", "joined along the rows|must match exactly|broadcast|shape"),
        (
            "(skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2\n    return np.c",
            "-(-(skip.shape[1] - height) // 2), -(-(skip.shape[2] - width) // 2)\n    return np.c",
            "shifted by one: an odd rest",
        ),
        (
            "np.concatenate([upsampled, skip[:, top : top + height, left : left + width]], axis=3)",
            "upsampled + skip[:, top : top + height, left : left + width]",
            "added instead|broadcast",
        ),
        (
            "skip[:, top : top + height, left : left + width]], axis=3",
            "skip[:, -height:, -width:]], axis=3",
            "bottom right",
        ),
    ],
    "crop_concat_gradients": [
        ("dy[..., channels:]\n", "dy[..., :channels]\n", "exchanged|broadcast"),
        ("return dy[..., :channels].copy(), dskip", "return dy[..., channels:].copy(), dskip", "exchanged"),
        ("dskip[:, top : top + height, left : left + width] = dy", "dskip[:, :height, :width] = dy", "top left corner"),
        (
            "return dy[..., :channels].copy(), dskip",
            "return dy[..., :channels].copy(), dy[..., channels:]",
            "frame is missing",
        ),
        ("np.zeros(skip_shape, dy.dtype)", "np.ones(skip_shape, dy.dtype)", "cut off the gradient is 0"),
        ("return dy[..., :channels].copy(), dskip", "return dy, dskip", "all of dy"),
    ],
    "softmax": [
        (
            "logits.max(axis=-1, keepdims=True))\n    return exponentials /",
            "logits.mean(axis=-1, keepdims=True))\n    return exponentials /",
            "NaN",
        ),
        (
            "exponentials / exponentials.sum(axis=-1, keepdims=True)",
            "exponentials / exponentials.sum()",
            "over all pixels",
        ),
        ("np.exp(logits - logits.max(axis=-1, keepdims=True))", "np.exp(logits)", "overflow"),
        (
            "logits.max(axis=-1, keepdims=True))\n    return exponentials /",
            "logits.max())\n    return exponentials /",
            "all pixels is subtracted|own largest",
        ),
        (
            "    return exponentials / exponentials.sum(axis=-1, keepdims=True)",
            "    return exponentials",
            "not divided",
        ),
        (
            "    return exponentials / exponentials.sum(axis=-1, keepdims=True)",
            "    return 1 / (1 + np.exp(-logits))",
            "sigmoid",
        ),
        (
            "exponentials / exponentials.sum(axis=-1, keepdims=True)",
            "exponentials / exponentials.sum(axis=2, keepdims=True)",
            "columns|pixels",
        ),
    ],
    "energy": [
        ("loss = -(weights", "loss = (weights", "sign"),
        ("sum(axis=-1)).mean()", "sum(axis=-1)).sum()", "sum over the pixels|number of pixels"),
        ("(softmax(logits) - q)", "(q - softmax(logits))", "p - q, not q - p"),
        ("weights[..., None] * (softmax(logits) - q)", "(softmax(logits) - q)", "weights of the gradient"),
        ("/ labels.size", "", "number of pixels"),
        ("np.log(np.exp(shifted)", "np.log2(np.exp(shifted)", "log"),
        (
            "log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))",
            "log_p = np.log(softmax(logits))",
            "log of 0|infinite|NaN",
        ),
        (
            "log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))",
            "log_p = np.log(softmax(logits) + 1e-12)",
            "small number is added",
        ),
        ("(log_p * q).sum(axis=-1)).mean()", "(log_p * q).sum(axis=-1)).sum() / weights.sum()", "sum of the weights"),
        ("-(weights * (log_p * q).sum(axis=-1)).mean()", "-(log_p * q).sum(axis=-1).mean()", "weights are forgotten"),
    ],
    "weight_map": [
        ("/ (2 * sigma**2)", "/ sigma**2", "2 in 2 sigma"),
        ("((nearest + second) ** 2)", "(nearest**2 + second**2)", "sum is squared"),
        ("((nearest + second) ** 2)", "((2 * nearest) ** 2)", "twice the distance"),
        ("distance = np.sqrt(squared)", "distance = squared", "root is missing"),
        (
            "(rows - row) ** 2 + (columns - column) ** 2",
            "(abs(rows - row) + abs(columns - column)) ** 2",
            "rows and columns",
        ),
        ("np.nonzero(instances == 0)", "np.nonzero(instances >= 0)", "pixels of a cell should have weight 1"),
        ("weights = np.ones(instances.shape)", "weights = np.zeros(instances.shape)", "w_c = 1"),
        (
            "for label in np.unique(instances) if label != 0]",
            "for label in np.unique(instances) if label != 0][:2]",
            "smallest numbers",
        ),
        ("w0 * np.exp(-", "np.exp(-", "w0 is forgotten"),
        (
            "np.minimum(second, np.maximum(nearest, distance))",
            "np.where(np.isinf(second), np.maximum(nearest, distance), np.maximum(second, distance))",
            "farthest",
        ),
    ],
    "initial_weights": [
        ("np.sqrt(2 / incoming)", "np.sqrt(1 / incoming)", "paper has sqrt"),
        ("np.sqrt(2 / incoming)", "2 / incoming", "root is forgotten"),
        ("kh, kw, channels, _ = shape", "kh, kw, _, channels = shape", "outgoing"),
        ("channels if up else kh * kw * channels", "kh * kw * channels", "only one of them reaches"),
        ("channels if up else kh * kw * channels", "channels", "number of channels only"),
        ("rng.standard_normal(shape)", "rng.uniform(-1, 1, shape)", "uniform"),
        ("rng.standard_normal(shape)", "np.random.default_rng(0).standard_normal(shape)", "did not use rng"),
        ("np.sqrt(2 / incoming) * ", "", "nothing was multiplied"),
    ],
    "momentum_step": [
        ("momentum * velocity + gradient", "momentum * velocity + (1 - momentum) * gradient", "1 - momentum"),
        ("value - learning_rate", "value + learning_rate", "sign"),
        (
            "momentum * velocity + gradient\n    return value - learning_rate * velocity",
            "momentum * velocity + learning_rate * gradient\n    return value - velocity",
            "learning rate is in the velocity",
        ),
        (
            "value - learning_rate * velocity, velocity",
            "value - learning_rate * gradient, velocity",
            "only the gradient",
        ),
        (
            "    velocity = momentum * velocity + gradient\n    return value - learning_rate * velocity, velocity",
            "    velocity *= momentum\n    velocity += gradient\n    return value - learning_rate * velocity, velocity",
            "velocity has been changed",
        ),
        ("momentum * velocity", "0.99 * velocity", "0.99 is written"),
        (
            "value - learning_rate * velocity, velocity",
            "value - learning_rate * (gradient + momentum * velocity), velocity",
            "Nesterov",
        ),
        ("momentum=0.99", "momentum=0.9", "without its last argument"),
    ],
    "adam_step": [
        ("value - learning_rate", "value + learning_rate", "sign"),
        (
            "mean_now, square_now = mean / (1 - beta1**t), square / (1 - beta2**t)",
            "mean_now, square_now = mean, square",
            "corrections are missing",
        ),
        ("beta1**t), square / (1 - beta2**t)", "beta1 ** (t + 1)), square / (1 - beta2 ** (t + 1))", "count t from 0"),
        ("np.sqrt(square_now) + eps", "np.sqrt(square_now + eps)", "eps is under the root"),
        ("np.sqrt(square_now)", "square_now", "root is forgotten"),
        ("(1 - beta2) * gradient**2", "(1 - beta2) * mean**2", "m\\^2, not g"),
        ("beta1 * mean + (1 - beta1) * gradient", "beta1 * mean + gradient", "1 - beta1 is forgotten"),
        ("eps), mean, square", "eps), mean_now, square_now", "M and S come back"),
    ],
    "unet_forward": [
        ("        x = relu(before)", "        x = before", "ReLU after the 3x3 convolutions is missing"),
        (
            "        skips.append(x)\n        x = max_pool(x)",
            "        x = max_pool(x)\n        skips.append(x)",
            "skip|broadcast|concatenat|match",
        ),
        (
            "skips.append(x)",
            'skips.append(kept[f"contracting.{level}.conv2"][0])',
            "after the first convolution of its level",
        ),
        (
            'return conv2d(x, parameters["output.weight"], parameters["output.bias"]), kept',
            'return relu(conv2d(x, parameters["output.weight"], parameters["output.bias"])), kept',
            "ReLU after the last",
        ),
        (
            'parameters[f"expansive.{level}.up.bias"])',
            'parameters[f"expansive.{level}.up.bias"])\n        x = relu(x)',
            "ReLU after the up-convolution",
        ),
        (
            'for level in reversed(range(depth)):\n        kept[f"up',
            'for level in range(depth):\n        kept[f"up',
            "matrix product|inner sizes|broadcast|match",
        ),
        (
            'return conv2d(x, parameters["output.weight"], parameters["output.bias"]), kept',
            'return conv2d(x, parameters["output.weight"], 0 * parameters["output.bias"]), kept',
            "bias",
        ),
    ],
    "unet_backward": [
        (
            'max_pool_gradient(dx, kept["skips"][level]) + dskips[level]',
            'max_pool_gradient(dx, kept["skips"][level])',
            "skip connection is missing",
        ),
        (
            'max_pool_gradient(dx, kept["skips"][level]) + dskips[level]',
            "dskips[level]",
            "through the pooling is missing",
        ),
        ("dbefore = relu_gradient(dx, before)", "dbefore = dx", "ReLUs are missing"),
        ('for name in ("conv2", "conv1"):', 'for name in ("conv1", "conv2"):', "inner sizes|broadcast|shape|way back"),
        (
            "dx = conv2d_input_gradient(dbefore, parameters[weight])",
            "dx = conv2d_input_gradient(dx, parameters[weight])",
            "ReLU|way back",
        ),
        (
            "        dx, gradients[weight], gradients[bias] = up_conv_gradients(dx",
            "        dx, gradients[weight], _ = up_conv_gradients(dx",
            "missing",
        ),
        ("    return gradients\n", "    return dx\n", "return a dict"),
    ],
    "displacement_field": [
        ("bend = (a - 2 * b + c) / 4", "bend = 0", "linear between"),
        ("bend = (a - 2 * b + c) / 4", "bend = (a - 2 * b + c) / 6", "/ 4, not / 6"),
        ("bend = (a - 2 * b + c) / 4", "bend = -(a - 2 * b + c) / 4", "wrong sign"),
        ("np.linspace(0, 2, size)", "np.arange(size) * 2 / size", "one pixel too far"),
        ("np.linspace(0, 2, size)", "(np.arange(size) + 0.5) * 2 / size", "edges of the pixels"),
        ("np.where(t <= 1, left, right)", "left", "first half"),
        (
            "return basis @ vectors @ basis.T",
            "return basis @ vectors.transpose(0, 2, 1) @ basis.T",
            "rows and columns of the grid",
        ),
        ("return basis @ vectors @ basis.T", "return (basis @ vectors @ basis.T)[::-1]", "components"),
    ],
    "overlap_tile": [
        ("stride = output // grid * grid", "stride = output", "no multiple of the pooling grid"),
        ("period = max(2 * (length - 1), 1)", "period = 2 * length", "edge pixel is repeated|index"),
        (
            "    return np.minimum(position, period - position) if length > 1 else position",
            "    return np.clip(np.arange(start, stop), 0, length - 1)",
            "drawn outwards",
        ),
        (
            "rows = mirrored(top - border, top - border + tile, height)\n            columns = mirrored(left - border, left - border + tile, width)",
            "rows, columns = mirrored(top, top + tile, height), mirrored(left, left + tile, width)",
            "image's corner",
        ),
        ("border = (tile - output) // 2", "border = tile - output", "half of it"),
        (
            "            rows = m",
            "            top, left = min(top, max(height - output, 0)), min(left, max(width - output, 0))\n            rows = m",
            "pulled back",
        ),
        (
            "range(0, width, stride)",
            "range(0, max(width - output, 0) + 1, stride)",
            "rest is missing|never written|NaN|wrong",
        ),
        (
            "    return np.minimum(position, period - position) if length > 1 else position",
            "    return np.arange(start, stop) % length",
            "other side",
        ),
    ],
    "v_rand": [
        (
            "in_both = (table**2).sum() + alone\n    in_regions = (table.sum(axis=1) ** 2).sum() + alone",
            "in_both = (table**2).sum()\n    in_regions = (table.sum(axis=1) ** 2).sum()",
            "missing from both sums",
        ),
        ("    table[0] = 0\n", "    alone = 0\n", "one region"),
        ("inside = truth > 0", "inside = truth >= 0", "background pixels of the truth count"),
        ("return float(2 * in_both", "return float(in_both", "2 is forgotten"),
        (
            "return float(2 * in_both / (in_regions + in_cells))",
            "return float((in_both / in_regions + in_both / in_cells) / 2)",
            "harmonic mean",
        ),
        (
            "return float(2 * in_both / (in_regions + in_cells))",
            "return float(in_both / in_regions)",
            "only half of the score",
        ),
        (
            "return float(2 * in_both / (in_regions + in_cells))",
            "return 1 - float(2 * in_both / (in_regions + in_cells))",
            "error 1 - V_rand|zero everywhere",
        ),
    ],
    "f23": [
        ("m[1] - m[2] - m[3]]", "m[1] - m[2] + m[3]]", "sign of the fourth product"),
        ("m[1] - m[2] - m[3]]", "m[1] + m[2] - m[3]]", "sign of the third product"),
        ("(g[0] + g[1] + g[2]) / 2", "(g[0] + g[1] + g[2])", "1.5 d1 g1"),
        ("(d[2] - d[1])", "(d[1] - d[2])", "wrong way round"),
        (
            "    m = [",
            "    return [d[0] * g[0] + d[1] * g[1] + d[2] * g[2], d[1] * g[0] + d[2] * g[1] + d[3] * g[2]]\n    m = [",
            "needs 6 multiplications",
        ),
        ("    m = [", "    g = g[::-1]\n    m = [", "read backwards"),
        (
            "return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]",
            "return [m[1] - m[2] - m[3], m[0] + m[1] + m[2]]",
            "exchanged|backwards",
        ),
    ],
}
