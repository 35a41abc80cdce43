"""Exercise of lesson 4: what the skip connection of each level keeps of its feature map, from the sizes alone.

    down a level  n -> n - 4 (two 3x3 convolutions, the skip starts here) -> half
    up a level    n -> 2n (the skip ends here) -> 2n - 4

Use no function of npunet; the check compares you with the live network.
Check yourself with: pytest lessons/exercises -k 04
"""


def skips(tile, depth=4):
    """[(skip, upsampled, crop), ...] for level 0, 1, ..., depth - 1, all in pixels.

    skip is the side of the feature map that the contracting path sends across, upsampled the side of the map that it
    meets there, crop the rows that are cut off at the top (as many go at the bottom). skips(572) begins with (568, 392,
    88). Raises ValueError if a pooling would meet an odd side or nothing would be left.
    """
    raise NotImplementedError("write skips: follow the side of the tile down one path and up the other")
