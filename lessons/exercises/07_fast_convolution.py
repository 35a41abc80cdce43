"""Exercise of lesson 7: Winograd's F(2, 3) with your own hands, and its weight gradient, four multiplications each.

    y[i] = sum over j of d[i + j] g[j],   i = 0, 1 and j = 0, 1, 2

The definition multiplies six times. A product of a d, g or dy with another such number counts, also after additions;
multiplying or dividing by a constant does not. Check yourself with:
pytest lessons/exercises -k 07
"""


def f23(d, g):
    """d: four numbers, g: three numbers -> [y0, y1], with four multiplications."""
    raise NotImplementedError("write f23: four sums of d times four sums of g, then two sums of the products")


def f23_weight_gradient(d, dy):
    """dL/dg, three numbers, from d (four) and dy = dL/dy (two), with four multiplications:
    dg = G^T [(B^T d) * (A dy)].
    """
    raise NotImplementedError("write f23_weight_gradient: the lines of f23 transposed, in the opposite order")
