"""Products of torch with a constant matrix or a constant a channel, in the many ways it has of writing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from repcompiler.algebra import float64
from repcompiler.frontends.fx_arithmetic import Context, Entry, Lifted, per_channel, tensor
from repcompiler.frontends.fx_modules import Unliftable
from repcompiler.ops import Array, Conv, Linear, Scale


def _matrix(c: Context, arg: Any) -> Array:
    """A constant matrix, perhaps with axes of one number before it."""
    array = c.constant(arg)
    if array is None:
        raise Unliftable("its weights depend on data")
    if array.ndim < 2 or any(extent != 1 for extent in array.shape[:-2]):
        raise Unliftable
    return array.reshape(array.shape[-2:])


def matmul(c: Context, x: Any, other: Any) -> Lifted:
    """x @ W: of each vector along the last axis."""
    matrix, weight, shape = _matrix(c, other), c.constant(other), c.shape(tensor(x))
    if not c.is_floating(x) or (weight is not None and weight.ndim > max(len(shape or ()), 2)):
        raise Unliftable  # the product has more axes than x
    return Linear(matrix.T, np.zeros(matrix.shape[1])), (x,)


def _addmm(c: Context, bias: Any, x: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Lifted:
    """beta b + alpha x W, with a constant b."""
    matrix, shift = float64(_matrix(c, mat2)), c.constant(bias)
    if shift is None or not c.is_floating(x) or type(beta) not in (int, float) or type(alpha) not in (int, float):
        raise Unliftable
    if shift.ndim > 2 or shift.size not in (1, matrix.shape[1]) or shift.shape[:-1] not in ((), (1,)):
        raise Unliftable
    return Linear(alpha * matrix.T, np.broadcast_to(beta * float64(shift).reshape(-1), matrix.shape[1:])), (tensor(x),)


def _addcmul(c: Context, x: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Lifted:
    """s + value t x: the affine layer of ResMLP."""
    if c.constant(tensor2) is not None:
        tensor1, tensor2 = tensor2, tensor1
    factor, shift = c.constant(tensor1), c.constant(x)
    if factor is None or shift is None or type(value) not in (int, float):
        raise Unliftable
    (axis, t), (other, s) = per_channel(c, tensor2, factor), per_channel(c, tensor2, shift)
    if t.size > 1 and s.size > 1 and axis != other:
        raise Unliftable
    return Scale(value * t, s, axis if t.size > 1 else other), (tensor(tensor2),)


def _einsum(c: Context, equation: Any, *operands: Any) -> Lifted:
    """einsum("bchw,oc->bohw", x, W): one axis of x, the channels or the last, exchanged by a matrix."""
    parts = operands[0] if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    terms, _, result = str(equation).replace(" ", "").partition("->")
    names = terms.split(",")
    if len(parts) != 2 or len(names) != 2 or "." in terms or not result:
        raise Unliftable
    if c.constant(parts[0]) is not None:
        parts, names = parts[::-1], names[::-1]
    (x, w), (axes, pair), shape = parts, names, c.shape(tensor(parts[0]))
    weight = _matrix(c, w)
    inner = [axis for axis in pair if axis in axes]
    outer = [axis for axis in pair if axis not in axes]
    if len(pair) != 2 or len(inner) != 1 or len(outer) != 1 or shape is None or len(shape) != len(axes) or not c.is_floating(x):
        raise Unliftable
    if len({*axes}) < len(axes) or result != axes.replace(inner[0], outer[0]):
        raise Unliftable
    weight = weight if pair == outer[0] + inner[0] else weight.T
    if axes.index(inner[0]) == len(axes) - 1:
        return Linear(weight, np.zeros(len(weight))), (x,)
    if axes.index(inner[0]) != 1:
        raise Unliftable
    ones = (1,) * (len(axes) - 2)
    return Conv(weight.reshape(*weight.shape, *ones), np.zeros(len(weight)), ones, ((0, 0),) * len(ones), ones, 1), (x,)


PRODUCTS: Mapping[str, Entry] = {
    **dict.fromkeys(("matmul", "mm"), matmul),
    "addmm": _addmm,
    "addcmul": _addcmul,
    "einsum": _einsum,
}
"""Methods by name, as far as they are some; functions of torch and of aten too."""
