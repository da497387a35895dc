"""Numbers written over the border of an image, one a channel, as a frame around what is left of it.

    out[:, :, :k] = v       ->  out = frame(crop(out))      k rows of v, where k rows were

Whatever a border was made of that way, zeros of a padding or the frame of an earlier write, comes out as one frame.  Authors of
the diverse branch block (BNAndPadLayer), of ECBSR and of FMEN surround a map so with what it makes of zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from repcompiler.algebra import affine, float64
from repcompiler.ir import Expr, Node, Value
from repcompiler.ops import Array, BatchNorm, Conv, Frame, Op, Pad, Padding

ALL = slice(None)

Side = tuple[int, bool, int]
"""Spatial axis, whether at its end, and how many pixels."""


def side_of(index: Any, rank: int) -> Side | None:
    """The pixels that an index names, if they are the first or the last along one spatial axis and nothing else is said."""
    items = [*index] if isinstance(index, tuple) else [index]
    ellipses = [at for at, item in enumerate(items) if item is Ellipsis]
    for at in ellipses[:1]:
        items[at : at + 1] = [ALL] * (rank + 1 - len(items))
    sliced = [(axis, item) for axis, item in enumerate(items) if item != ALL]
    if len(items) > rank or len(sliced) != 1 or sliced[0][0] < 2:
        return None
    axis, item = sliced[0]
    if not isinstance(item, slice) or item.step not in (None, 1):
        return None
    if item.start in (None, 0) and type(item.stop) is int and item.stop > 0:
        return axis - 2, False, item.stop
    if item.stop is None and type(item.start) is int and item.start < 0:
        return axis - 2, True, -item.start
    return None


def overwrite(zeros: Padding, frame: Padding, side: Side) -> tuple[Padding, Padding]:
    """(zeros, frame) around a map after a write: a frame grows into the zeros in it, then into the map (zeros below 0)."""
    axis, end, pixels = side
    pairs = [([*inner], [*outer]) for inner, outer in zip(zeros, frame, strict=True)]
    inner, outer = pairs[axis]
    grown = max(pixels - outer[end], 0)
    inner[end], outer[end] = inner[end] - grown, outer[end] + grown
    return tuple((a, b) for (a, b), _ in pairs), tuple((a, b) for _, (a, b) in pairs)


def framed(padding: Padding, value: Array) -> Op:
    """A frame of a number a channel."""
    return Frame(padding, value) if value.any() else Pad(padding)


def settled(value: Array, surrounded: Node | None, eps: float) -> Array:
    """What a frame holds, a number a channel, computed in a type of that `eps`: the map's own zero where it is that.

    Around a batch norm, beta - mean gamma / sqrt(var + eps) is what it makes of zero, however that is bracketed.  Its five or
    six roundings leave it within 4 eps (|beta| + |mean t|): where two results are that near, they are one number.  A pointwise
    convolution that had a batch norm behind it makes its bias of zero, and rounds eps (|b| + sum |W|) on an input of ones.
    """
    if surrounded is not None and isinstance(surrounded.op, BatchNorm):
        t, of_zero = affine(surrounded.op, len(value))
        size = np.abs(float64(surrounded.op.beta)) + np.abs(float64(surrounded.op.mean) * t)
    elif surrounded is not None and isinstance(surrounded.op, Conv):
        of_zero, weight = float64(surrounded.op.bias), float64(surrounded.op.weight)
        size = np.abs(of_zero) + np.abs(weight).sum(axis=tuple(range(1, weight.ndim)))
    else:
        return value
    same = value.any() and of_zero.shape == value.shape and bool((np.abs(value - of_zero) <= 8 * eps * size).all())
    return of_zero if same else value


def around(map: Value, zeros: Padding, frame: Padding, value: Array) -> Expr:  # noqa: A002 - what is framed
    """A map, then zeros (or a crop) around it, then a frame."""
    if not any(_flat(zeros)):
        return framed(frame, value)(map)
    if not value.any() and min(_flat(zeros)) >= 0:
        return Pad(added(zeros, frame))(map)
    return framed(frame, value)(Pad(zeros)(map))


def added(one: Padding, other: Padding) -> Padding:
    """As much as both."""
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(one, other, strict=True))


def _flat(padding: Padding) -> list[int]:
    return [amount for pair in padding for amount in pair]
