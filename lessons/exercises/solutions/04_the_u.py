"""Solution of lesson 4's exercise: one loop down, one loop up."""


def skips(tile, depth=4):
    """[(skip, upsampled, crop), ...] for level 0, 1, ..., depth - 1, all in pixels."""
    sent, side = [], tile
    for level in range(depth):
        side -= 4
        if side <= 0 or side % 2:
            raise ValueError(f"tile {tile}: the pooling of level {level} meets a side of {side}")
        sent.append(side)
        side //= 2
    side -= 4  # bottleneck
    met = []
    for _ in range(depth):
        side *= 2
        met.append(side)
        side -= 4
    if side <= 0:
        raise ValueError(f"tile {tile}: nothing is left of it")
    return [(skip, upsampled, (skip - upsampled) // 2) for skip, upsampled in zip(sent, reversed(met))]
