"""Solution: the three matrices of F(2, 3), written out as sums."""


def f23(d, g):
    m = [
        (d[0] - d[2]) * g[0],
        (d[1] + d[2]) * ((g[0] + g[1] + g[2]) / 2),
        (d[2] - d[1]) * ((g[0] - g[1] + g[2]) / 2),
        (d[1] - d[3]) * g[2],
    ]
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
