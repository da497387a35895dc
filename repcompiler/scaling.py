"""Where a scale may go: t f(x) + s = f(t x + s), for every f that it passes.

`passes` says what lets a scale through as it is, and when; a sum, a concatenation and whatever moves an axis change it on the
way (`repcompiler.scaling_absorb`, back to the operations before; `repcompiler.scaling_release`, on to those behind).
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from math import prod

import numpy as np

from repcompiler.algebra import affine, known_zero
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Shape, Value
from repcompiler.ops import (
    Affine,
    AvgPool,
    DepthToSpace,
    GlobalAvgPool,
    Identity,
    MaxPool,
    Op,
    Pad,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Scale,
    Select,
    SpaceToDepth,
    Subsample,
    Transpose,
)
from repcompiler.ops.layout import steps
from repcompiler.refusal import refuse

Term = Expr | Value

BLOCKS = (SpaceToDepth, DepthToSpace)
POOLS = (MaxPool, AvgPool, GlobalAvgPool)

ONE_TO_ONE = (Identity, Relu, PRelu, *POOLS, Resize, Subsample, Pad, *BLOCKS, Select, Reshape, Transpose)
"""Operations on one value that let a scale through."""

UNIT = Scale(np.ones(1), np.zeros(1))


def as_scale(op: Affine) -> Scale:
    """A batch norm as a scale and shift; both constants of one length."""
    t, s = affine(op, op.channels)
    return Scale(t, s, op.axis if isinstance(op, Scale) else 1)


# What a scale passes as it is.


@singledispatch
def passes(op: Op, scale: Scale, axis: int | None) -> None:
    """Refuse unless scale(op(x)) = op(scale(x)); `axis` is the one that the scale tells apart, None where it is uniform."""
    refuse(f"a scale does not pass {op.kind}")


@passes.register
def _identity(op: Identity, scale: Scale, axis: int | None) -> None:
    pass


@passes.register(Relu)
@passes.register(PRelu)
def _rectifier(op: Op, scale: Scale, axis: int | None) -> None:
    """f(t x) = t f(x) for t >= 0."""
    _refuse_negative(op, scale)
    _refuse_shift(op, scale)


@passes.register
def _max_pool(op: MaxPool, scale: Scale, axis: int | None) -> None:
    """max(t x + s) = t max(x) + s for t >= 0: it keeps the order, and padding is never chosen."""
    _refuse_other_axis(op, axis)
    _refuse_negative(op, scale)


@passes.register(GlobalAvgPool)
@passes.register(Resize)
@passes.register(Subsample)
def _mean(op: Op, scale: Scale, axis: int | None) -> None:
    """A mean of pixels, with weights that sum to 1, of t x + s is t times the mean of x, plus s."""
    _refuse_other_axis(op, axis)


@passes.register
def _avg_pool(op: AvgPool, scale: Scale, axis: int | None) -> None:
    _refuse_other_axis(op, axis)
    if max(map(max, op.padding)) > 0 or op.divisor != prod(op.kernel_size):
        _refuse_shift(op, scale)


@passes.register
def _pad(op: Pad, scale: Scale, axis: int | None) -> None:
    _refuse_other_axis(op, axis)
    if max(map(max, op.padding)) > 0:
        _refuse_shift(op, scale)


def _refuse_negative(op: Op, scale: Scale) -> None:
    if not (isinstance(scale.scale, np.ndarray) and bool((scale.scale >= 0).all())):
        refuse(f"a negative scale does not pass {op.kind}")


def _refuse_shift(op: Op, scale: Scale) -> None:
    if not known_zero(scale.shift):
        refuse(f"a shift does not pass {op.kind}")


def _refuse_other_axis(op: Op, axis: int | None) -> None:
    if axis not in (None, 1):
        refuse(f"a scale of another axis than the channels does not pass {op.kind}")


# What both directions ask.


def axis_of(scale: Scale, term: Term) -> int | None:
    """The axis of `term` that a scale tells apart."""
    shape = shape_of(term)
    return scale.channel_axis(None if shape is None else len(shape))


def channels_of(term: Term) -> int:
    """The number of channels; refuses where it is not known."""
    shape = shape_of(term)
    count = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(count, int):
        refuse("the number of channels is not known")
    return count


def reshape_scale(scale: Scale, axis: int, op: Reshape, shape: Shape | None, back: bool = False) -> Scale:
    """The scale on the other side of a reshape of `shape`, which may join its axis with others; `back`: on the operand."""
    ends = len(op.target) + op.tail - 1, len(shape or ()) - 1
    stays = op.tail > 0 or (shape or ())[-1:] == op.target[-1:]
    if shape and stays and axis == ends[not back]:  # of tokens the last axis stays
        return replace(scale, axis=ends[back])
    before = [*zip(op.target, shape or (), strict=False)][: axis + 1]
    if 0 <= axis < len(before) and all(size in (0, extent) for size, extent in before):
        return scale  # the axes up to this one stay
    result = None if shape is None else op.resolve(shape)
    if shape is None or result is None or axis < 1:
        refuse("the reshape moves an axis whose extent is not known")
    here, there = map(steps, (result, shape) if back else (shape, result))
    step, extent = here[axis]
    whole = (o for o, (fine, n) in there.items() if step * extent * fine and not step % fine and not fine * n % (step * extent))
    other = next(whole, None)
    if other is None:
        refuse("the reshape splits the scaled axis")
    finer, size = there[other]
    index = [number // (step // finer) % extent for number in range(size)]
    t, s = affine(scale, extent)
    return Scale(t[index], s[index], other)


def scale_of_places(scale: Scale, op: SpaceToDepth | DepthToSpace, term: Term) -> Scale:
    """The scale of the channels of `term`, an image, as one of the pixels of its blocks as channels."""
    channels, area = channels_of(term), _area(op, term)
    index = [place // area if op.mode == "CRD" else place % channels for place in range(channels * area)]
    t, s = affine(scale, channels)
    return Scale(t[index], s[index])


def scale_of_image(scale: Scale, op: SpaceToDepth | DepthToSpace, term: Term) -> Scale:
    """The scale of the channels of `term`, the pixels of blocks, as one of the image; refuses where places differ in it."""
    channels, area = channels_of(term), _area(op, term)
    t, s = (vector.reshape((-1, area) if op.mode == "CRD" else (area, -1)) for vector in affine(scale, channels))
    axis = 1 if op.mode == "CRD" else 0
    if not isinstance(t, np.ndarray) or any((vector != vector.take([0], axis)).any() for vector in (t, s)):
        refuse("the pixels of one channel are scaled differently")
    return Scale(t.take(0, axis), s.take(0, axis))


def _area(op: SpaceToDepth | DepthToSpace, term: Term) -> int:
    """Pixels of a block."""
    return int(op.block ** (len(shape_of(term) or (None,) * 4) - 2))
