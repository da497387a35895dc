"""Einstein sums of a value and a constant: layers, where a matrix exchanges one axis of the value; scales by a vector."""

from __future__ import annotations

from string import ascii_uppercase

import numpy as np

from repcompiler.ir import Shape
from repcompiler.ops import Array, Conv, Linear, Scale


def contraction(equation: str, place: int, constant: Array, shape: Shape) -> Conv | Linear | Scale | None:
    """einsum("bchw,oc->bohw", x, W) as an operation on x, a value of that shape; `place` is that of the constant.

    A matrix is a pointwise convolution where the axis is that of channels, fully connected where it is the last; a vector is a
    scale.  None for any other sum, and where an extent of one would broadcast.
    """
    terms, _, result = equation.replace(" ", "").partition("->")
    names, rank = terms.split(","), len(shape)
    if len(names) != 2 or not result:
        return None
    spare = "".join(letter for letter in ascii_uppercase if letter not in equation)[: max(rank + 3 - len(names[1 - place]), 0)]
    axes, pair, result = (name.replace("...", spare) for name in (names[1 - place], names[place], result))
    if "." in axes + pair + result or rank != len(axes) or len({*axes}) < len(axes) or len(pair) != constant.ndim:
        return None
    inner = [axis for axis in pair if axis in axes]
    outer = [axis for axis in pair if axis not in axes]
    if len(inner) != 1:
        return None
    axis, extent = axes.index(inner[0]), constant.shape[pair.index(inner[0])]
    if isinstance(shape[axis], int) and shape[axis] != extent:
        return None
    if len(pair) == 1:
        return Scale(constant, np.zeros(1), axis) if result == axes and shape[axis] == constant.size else None
    if len(pair) != 2 or len(outer) != 1 or result != axes.replace(inner[0], outer[0]):
        return None
    weight = constant if pair == outer[0] + inner[0] else constant.T
    if axis == rank - 1:
        return Linear(weight, np.zeros(len(weight)))
    if axis != 1:
        return None
    ones = (1,) * (rank - 2)
    return Conv(weight.reshape(*weight.shape, *ones), np.zeros(len(weight)), ones, ((0, 0),) * len(ones), ones, 1)
