"""Products of torch with a constant matrix or a constant a channel, in the many ways it has of writing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import fx

from repcompiler.algebra import float64
from repcompiler.frontends.contractions import contraction
from repcompiler.frontends.fx_arithmetic import Context, Entry, Lifted, per_channel, tensor
from repcompiler.frontends.fx_modules import Unliftable
from repcompiler.ops import Array, Conv, Linear, Scale, Sum


def _matrix(c: Context, arg: Any) -> Array:
    """A constant matrix, perhaps with axes of one number before it."""
    array = c.constant(arg)
    if array is None:
        raise Unliftable("its weights depend on data")
    if array.ndim < 2 or any(extent != 1 for extent in array.shape[:-2]):
        raise Unliftable
    return array.reshape(array.shape[-2:])


def matmul(c: Context, x: Any, other: Any) -> Lifted:
    """x @ W: of each vector along the last axis.  W @ x: of the channels, for an x of shape (batch, channels, tokens)."""
    if c.constant(x) is not None and len(c.shape(tensor(other)) or ()) == 3 and c.is_floating(other):
        left = _matrix(c, x)
        return Conv(left[:, :, None], np.zeros(len(left)), (1,), ((0, 0),), (1,), 1), (other,)
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
    """x + value t y, with a constant t; x may be one too: the affine layer of ResMLP."""
    if c.constant(tensor2) is not None:
        tensor1, tensor2 = tensor2, tensor1
    factor, shift = c.constant(tensor1), c.constant(x)
    if factor is None or type(value) not in (int, float):
        raise Unliftable
    axis, t = per_channel(c, tensor2, factor)
    if shift is None:
        return Sum((1, 1)), (_term(c, x, tensor2), Scale(value * t, np.zeros(1), axis)(c.value(tensor2)))
    other, s = per_channel(c, tensor2, shift)
    if t.size > 1 and s.size > 1 and axis != other:
        raise Unliftable
    return Scale(value * t, s, axis if t.size > 1 else other), (tensor(tensor2),)


def _addcdiv(c: Context, x: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Lifted:
    """x + value y / t, with a constant t that is nowhere zero."""
    divisor = c.constant(tensor2)
    if divisor is None or c.constant(x) is not None or not np.all(divisor) or type(value) not in (int, float):
        raise Unliftable
    axis, t = per_channel(c, tensor1, 1.0 / float64(divisor))
    return Sum((1, 1)), (_term(c, x, tensor1), Scale(value * t, np.zeros(1), axis)(c.value(tensor1)))


def _term(c: Context, x: Any, other: Any) -> fx.Node:
    """What is added to `other`."""
    if not (c.is_floating(x) and c.is_floating(other)) or c.constant(other) is not None:
        raise Unliftable
    return tensor(x)


def _einsum(c: Context, equation: Any, *operands: Any) -> Lifted:
    """einsum("bchw,oc->bohw", x, W): one axis of x, the channels or the last, exchanged by a matrix, or scaled by a vector."""
    parts = operands[0] if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    if len(parts) != 2:
        raise Unliftable
    place = 0 if c.constant(parts[0]) is not None else 1
    x, weight = parts[1 - place], c.constant(parts[place])
    shape = c.shape(tensor(x))
    if weight is None or shape is None or not c.is_floating(x):
        raise Unliftable("its weights depend on data" if weight is None else "")
    op = contraction(str(equation), place, weight, shape)
    if op is None:
        raise Unliftable
    return op, (x,)


PRODUCTS: Mapping[str, Entry] = {
    **dict.fromkeys(("matmul", "mm"), matmul),
    "addmm": _addmm,
    **dict.fromkeys(("addcmul", "addcmul_"), _addcmul),
    **dict.fromkeys(("addcdiv", "addcdiv_"), _addcdiv),
    "einsum": _einsum,
}
"""Methods by name, as far as they are some; functions of torch and of aten too."""
