"""Wrong answers to the exercises, and what the checks must say about them: see lessons/build/solutions/mistakes.py.

MISTAKES[exercise] holds (old, new, diagnosis): replace old by new in the solution, and a message must match diagnosis.
"""

MISTAKES = {
    "01_a_tour": [
        ("np.mean(found == labels)", "np.mean(found != labels)", "share of wrong pixels"),
        ("np.mean(found == labels)", "np.sum(found == labels)", "number of pixels"),
        ("np.mean(found == labels)", "np.mean(found * labels)", "only pixels of class 1"),
        ("image > threshold", "image >= threshold", "above means >"),
        ("np.argmax(accuracies)", "len(accuracies) - 1 - np.argmax(accuracies[::-1])", "the last; the first is wanted"),
        ("image > threshold", "image < threshold", "dark pixels"),
        ("return thresholds[best]", "return best", "number of the threshold"),
    ],
    "02_convolution": [
        ("full[:, ::2, ::2].copy()", "full[:, 1::2, 1::2].copy()", "the first is number 0"),
        (
            "    full, ctx = conv2d(x, weight)  # (N, H', W', K)\n    return full[:, ::2, ::2].copy()",
            "    full, ctx = conv2d(x[:, ::2, ::2].copy(), weight)\n    return full",
            "before the convolution",
        ),
        ("dfull[:, ::2, ::2] = dy", "dfull[:, ::2, ::2] = 2 * dy", "times|factor"),
        (
            "dfull[:, ::2, ::2] = dy",
            "dfull[:] = dy.repeat(2, 1).repeat(2, 2)[:, :dfull.shape[1], :dfull.shape[2]]",
            "repeated",
        ),
        ("return dx, dweight", "return dweight, dx", "other order"),
        ("full[:, ::2, ::2].copy()", "full.copy()", "step of 2 is missing"),
        ("full[:, ::2, ::2].copy()", "full[:, ::3, ::3].copy()", "every third"),
    ],
    "03_pooling_and_up_convolution": [
        ("x[:, 1::2, 1::2]) / 4", "x[:, 1::2, 1::2])", "divide by 4"),
        ("x[:, 1::2, 1::2]) / 4", "x[:, 1::2, 1::2]) / 2", "divided by 2"),
        ("= dy / 4", "= dy", "every pixel gets all"),
        (
            "np.empty(ctx, dy.dtype)\n    for row in (0, 1):",
            "np.zeros(ctx, dy.dtype)\n    for row in (0,):",
            "every odd row|last row",
        ),
        (
            "    dx = np.empty(ctx, dy.dtype)",
            "    return np.tile(dy, (1, 2, 2, 1)) / 4\n    dx = np.empty(ctx, dy.dtype)",
            "whole picture four times",
        ),
        ("    dx = np.empty(ctx, dy.dtype)", "    dx = np.empty(ctx)", "dtype float64"),
        (
            "    y = (x[",
            "    n, h, w, c = x.shape\n    return x.reshape(n, 2, h // 2, 2, w // 2, c).mean(axis=(1, 3)), x.shape\n    y = (x[",
            "halves of the image",
        ),
    ],
    "04_the_u": [
        ("(skip - upsampled) // 2) for", "skip - upsampled) for", "half of it"),
        ("zip(sent, reversed(met))", "zip(sent, met)", "wrong order"),
        ("    side -= 4  # bottleneck\n", "", "bottleneck"),
        ("        sent.append(side)\n", "        sent.append(side + 4)\n", "before the convolutions"),
        ("if side <= 0 or side % 2:", "if side <= 0:", "odd side"),
        (
            "        met.append(side)\n        side -= 4\n",
            "        side -= 4\n        met.append(side)\n",
            "behind the convolutions",
        ),
    ],
    "05_energy_and_weight_map": [
        ("loss = -(target", "loss = (target", "sign of the loss"),
        ("(softmax(logits) - target)", "(target - softmax(logits))", "sign of the gradient"),
        ("smoothing / classes", "smoothing", "not divided by the number of classes"),
        ("(softmax(logits) - target)", "(softmax(logits) - one_hot)", "q instead of q'"),
        ("/ labels.size", "", "not divided by the number of pixels|number of pixels"),
        (
            "log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))",
            "log_p = np.log(softmax(logits))",
            "log of 0|divide by zero",
        ),
        (
            "log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))",
            "log_p = np.log(softmax(logits) + 1e-12)",
            "small number is added",
        ),
        (
            "(1 - smoothing) * one_hot + smoothing / classes",
            "np.where(one_hot, 1 - smoothing, smoothing / (classes - 1))",
            "K - 1",
        ),
        (
            "    shifted = logits - logits.max(axis=-1, keepdims=True)",
            "    logits -= logits.max(axis=-1, keepdims=True)\n    shifted = logits",
            "argument logits has been changed",
        ),
    ],
    "06_back_propagation": [
        ("(skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2", "0, 0", "top left"),
        (
            "(skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2",
            "skip.shape[1] - height, skip.shape[2] - width",
            "bottom right",
        ),
        ("return dy.copy(), dskip", "return dy, dskip", "same memory"),
        ("np.zeros(skip_shape, dy.dtype)", "np.ones(skip_shape, dy.dtype)", "gradient is 0"),
        ("return dy.copy(), dskip", "return dy / 2, dskip / 2", "halved"),
        ("return upsampled + skip[window]", "return (upsampled + skip[window]) / 2", "mean of the two"),
        ("return upsampled + skip[window]", "upsampled += skip[window]\n    return upsampled", "has been changed"),
    ],
    "07_fast_convolution": [
        ("m[1] - m[2] - m[3]]", "m[1] - m[2] + m[3]]", "fourth product"),
        ("m[1] - m[2] - m[3]]", "m[1] + m[2] - m[3]]", "third product"),
        ("dy[0] - dy[1], -dy[1]]", "dy[0] - dy[1], dy[1]]", "dm3 = -dy1"),
        (
            "    half_sum, half_difference = (du[1] + du[2]) * 0.5, (du[1] - du[2]) * 0.5",
            "    half_sum, half_difference = du[1] + du[2], du[1] - du[2]",
            "halves are forgotten",
        ),
        (
            "    v = inputs(d)",
            "    return [d[0] * g[0] + d[1] * g[1] + d[2] * g[2], d[1] * g[0] + d[2] * g[1] + d[3] * g[2]]\n    v = inputs(d)",
            "needs 6",
        ),
        ("    dm = [", "    return [d[j] * dy[0] + d[j + 1] * dy[1] for j in range(3)]\n    dm = [", "needs 6"),
        ("half_difference, half_sum + du[3]]", "-half_difference, half_sum + du[3]]", "dg1"),
    ],
    "08_augmentation": [
        ("(1 + yy) * (1 + xx) - yx * xy", "yy * xx - yx * xy", "1 of the identity"),
        ("(1 + yy) * (1 + xx) - yx * xy", "(1 + yy) * (1 + xx) + yx * xy", "a d \\+ b c"),
        ("(1 + yy) * (1 + xx) - yx * xy", "(1 + yy) * (1 + xx)", "derivatives across"),
        ("area(field) <= 0", "area(field) < 0", "det J = 0"),
        ("area(field) <= 0", "area(field) > 0", "not folded"),
        ("np.mean(area(field) <= 0)", "np.sum(area(field) <= 0)", "number of pixels"),
        ("(1 + yy) * (1 + xx) - yx * xy", "abs((1 + yy) * (1 + xx) - yx * xy)", "absolute value"),
    ],
    "09_overlap_tile": [
        ("stride = output // grid * grid", "stride = output", "no multiple of grid"),
        (
            "count = 1 + max(0, -(-(length - output) // stride))",
            "count = 1 + max(0, (length - output) // stride)",
            "last tile is missing|left out",
        ),
        ('mode="reflect"', 'mode="symmetric"', "edge pixel is repeated"),
        ('mode="reflect"', 'mode="constant"', "zeros around"),
        (
            "return [stride * k for k in range(count)]",
            "return [min(stride * k, max(length - output, 0)) for k in range(count)]",
            "pulled back",
        ),
        ("border = (tile - output) // 2", "border = tile - output", "half of it|network got|border"),
        ("count = 1 + max(0, -(-(length - output) // stride))", "count = -(-length // stride)", "one tile too many"),
    ],
    "10_measures": [
        (
            "return float(in_both / in_cells), float(in_both / in_regions)",
            "return float(in_both / in_regions), float(in_both / in_cells)",
            "other order",
        ),
        ("in_both = (shared**2).sum() + singles", "in_both = (shared**2).sum()", "numerator|left out"),
        ("(shared**2).sum() + singles\n", "shared.sum() + singles\n", "the numerator is not squared"),
        (
            "in_cells = (np.bincount(truth[truth > 0]) ** 2).sum()",
            "in_cells = (shared.sum(axis=1) ** 2).sum()",
            "truth's sum",
        ),
        ("in_both / in_cells), float(in_both", "1 - in_both / in_cells), float(1 - in_both", "error|1 - "),
        (
            "(shared**2).sum() + singles\n    in_regions = (shared.sum(axis=0) ** 2).sum() + singles",
            "(shared**2).sum() + ((truth[regions == 0] == 1).sum() ** 2 + (truth[regions == 0] == 2).sum() ** 2)\n    in_regions = (shared.sum(axis=0) ** 2).sum() + singles**2",
            "one region",
        ),
    ],
    "11_experiments": [
        ("sums >= differences.sum() - rounding", "sums >= differences.sum()", "ties|rounding"),
        ("sums >= differences.sum() - rounding", "sums > differences.sum() + rounding", "do not count"),
        (
            "sums >= differences.sum() - rounding",
            "np.abs(sums) >= abs(differences.sum()) - rounding",
            "both directions",
        ),
        ("sums >= differences.sum() - rounding", "sums <= differences.sum() + rounding", "wrong direction|b - a"),
        ("np.mean(sums", "np.sum(sums", "number of ways"),
        (
            "np.asarray(a, float) - np.asarray(b, float)",
            "np.asarray(b, float) - np.asarray(a, float)",
            "b - a|wrong direction",
        ),
    ],
    "12_from_paper_to_practice": [
        ("np.sqrt(variance + eps)", "(variance + eps)", "root is forgotten"),
        ("shift - mean * factor", "shift - mean", "mean is not multiplied"),
        ("shift - mean * factor", "shift + mean * factor", "sign of the mean"),
        ("np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)", "behind the root"),
        ("np.sqrt(variance + eps)", "np.sqrt(variance)", "eps is forgotten"),
        ("shift - mean * factor", "(shift - mean) * factor", "added behind the scaling"),
        ("    return weight * factor", "    weight *= factor\n    return weight", "argument weight has been changed"),
    ],
    "13_style_transfer": [
        (
            "np.sqrt((centred**2).mean(axis=(0, 1, 2)) + eps)",
            "(centred**2).mean(axis=(0, 1, 2)) + eps",
            "standard deviations are wanted",
        ),
        ("(dm + ds * centred / s)", "(dm + ds * features / s)", "F, not F - m|not F"),
        ("/ (height * width)", "", "number of pixels"),
        (
            "2 * (m - means) / channels, 2 * (s - deviations) / channels",
            "(m - means) / channels, (s - deviations) / channels",
            "2 of the squares",
        ),
        ("(dm + ds * centred / s)", "((ds * centred / s) + 0 * dm)", "gradient of the means"),
        ("(dm + ds * centred / s)", "(dm + ds * centred)", "not divided by s"),
        (
            "np.mean((m - means) ** 2) + np.mean((s - deviations) ** 2)",
            "np.sum((m - means) ** 2) + np.sum((s - deviations) ** 2)",
            "sum over the channels",
        ),
        (
            "    centred = features - m",
            "    features -= m\n    centred = features",
            "argument features has been changed",
        ),
    ],
    "14_to_a_gpu_kernel": [
        ("row + (skip_height - height) // 2, column + (skip_width - width) // 2", "row, column", "not cropped"),
        ("* skip_channels + c - channels", "* skip_channels + c", "c - channels"),
        ("row) * skip_width + column", "row) * width + column", "skip_width columns"),
        (
            "max(shared[t], shared[t + half])\n        yield  # the next round reads what this one has written\n",
            "max(shared[t], shared[t + half])\n            yield\n",
            "every barrier|race",
        ),
        ("    half = 32", "    half = 16", "first 32|first round"),
        ("max(shared[t], shared[t + half])", "min(shared[t], shared[t + half])", "smallest"),
        (
            "        yield  # the next round reads what this one has written\n        half //= 2",
            "        half //= 2\n    yield",
            "race",
        ),
        ("        if t < half:", "        if t < 64 - half:", "race"),
    ],
}
