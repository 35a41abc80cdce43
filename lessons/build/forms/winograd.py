"""Winograd's F(2, 3): what makes npunet's convolutions fast. Two results of a filter of three with four
multiplications instead of six. Lesson 7.

    y0 = d0 g0 + d1 g1 + d2 g2                 d: four pixels in a row
    y1 = d1 g0 + d2 g1 + d3 g2                 g: three weights

    m0 = (d0 - d2) g0                          m1 = (d1 + d2) (g0 + g1 + g2) / 2
    m3 = (d1 - d3) g2                          m2 = (d2 - d1) (g0 - g1 + g2) / 2

Multiply out m0 + m1 + m2, and find which sum of m1, m2 and m3 is y1.
"""


def f23(d, g):
    """d: four numbers, g: three numbers -> [y0, y1], with at most four multiplications (of a d with a g; halves
    are free).

    The check passes numbers that count how often they are multiplied. Example: d = 1 2 3 4, g = 1 0 -1 -> -2 -2.
    """
    raise NotImplementedError("write f23")
