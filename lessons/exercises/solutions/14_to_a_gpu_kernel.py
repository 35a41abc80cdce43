"""Solution of lesson 14's exercise."""


def crop_concat_source(i, height, width, channels, skip_height, skip_width, skip_channels):
    """Where thread i of crop-and-concatenate reads: ("upsampled" or "skip", flat position)."""
    c, rest = i % (channels + skip_channels), i // (channels + skip_channels)
    column, rest = rest % width, rest // width
    row, n = rest % height, rest // height
    if c < channels:
        return "upsampled", ((n * height + row) * width + column) * channels + c
    row, column = row + (skip_height - height) // 2, column + (skip_width - width) // 2
    return "skip", ((n * skip_height + row) * skip_width + column) * skip_channels + c - channels


def block_maximum(t, shared, result):
    """Thread t of 64 of a tree that finds the largest number."""
    half = 32
    while half > 0:
        if t < half:
            shared[t] = max(shared[t], shared[t + half])
        yield  # the next round reads what this one has written
        half //= 2
    if t == 0:
        result[0] = shared[0]
