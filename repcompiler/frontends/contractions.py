"""Einstein sums of a value and a constant matrix that exchange one axis of the value: layers, written in letters."""

from __future__ import annotations

import numpy as np

from repcompiler.ops import Array, Conv, Linear


def contraction(equation: str, place: int, matrix: Array, rank: int) -> Conv | Linear | None:
    """einsum("bchw,oc->bohw", x, W) as an operation on x, a value of that rank; the matrix is the operand at `place`.

    A pointwise convolution where the axis is that of channels, fully connected where it is the last; None for any other sum.
    """
    terms, _, result = equation.replace(" ", "").partition("->")
    names = terms.split(",")
    if len(names) != 2 or "." in terms or not result:
        return None
    axes, pair = names[1 - place], names[place]
    inner = [axis for axis in pair if axis in axes]
    outer = [axis for axis in pair if axis not in axes]
    if len(pair) != 2 or len(inner) != 1 or len(outer) != 1 or rank != len(axes):
        return None
    if len({*axes}) < len(axes) or result != axes.replace(inner[0], outer[0]):
        return None
    weight = matrix if pair == outer[0] + inner[0] else matrix.T
    if axes.index(inner[0]) == rank - 1:
        return Linear(weight, np.zeros(len(weight)))
    if axes.index(inner[0]) != 1:
        return None
    ones = (1,) * (rank - 2)
    return Conv(weight.reshape(*weight.shape, *ones), np.zeros(len(weight)), ones, ((0, 0),) * len(ones), ones, 1)
