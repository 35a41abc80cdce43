"""Solution of lesson 7's exercise: the three matrices of F(2, 3), written out as sums."""


def f23(d, g):
    """d: four numbers, g: three numbers -> [y0, y1], with four multiplications."""
    v = inputs(d)
    u = [g[0], (g[0] + g[1] + g[2]) * 0.5, (g[0] - g[1] + g[2]) * 0.5, g[2]]  # G g
    m = [a * b for a, b in zip(u, v)]
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]  # A^T m


def f23_weight_gradient(d, dy):
    """dL/dg, three numbers, from d (four) and dy = dL/dy (two), with four multiplications."""
    dm = [dy[0], dy[0] + dy[1], dy[0] - dy[1], -dy[1]]  # A dy: each m collects from where it went
    du = [a * b for a, b in zip(inputs(d), dm)]
    half_sum, half_difference = (du[1] + du[2]) * 0.5, (du[1] - du[2]) * 0.5
    return [du[0] + half_sum, half_difference, half_sum + du[3]]  # G^T du


def inputs(d):
    """B^T d, which both need."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]
