"""Where a scale may go: t f(x) + s = f(t x + s), for every f that it passes, back to linear operations that take it in.

    absorb(Relu()(conv(x)), scale)   =   Relu()(scaled conv(x))         what a value is when scaled
    release(Relu()(scale(x)))        =   Relu()(x), scale               what of a value is scale

`passes` says what lets a scale through as it is, and when; a sum, a concatenation and whatever moves an axis change it on the
way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from itertools import accumulate
from math import prod

import numpy as np

from repcompiler.algebra import affine, known_zero, namespace, scale_outputs
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Shape, Value
from repcompiler.ops import (
    Affine,
    Array,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    Identity,
    Linear,
    LinearOp,
    MaxPool,
    Op,
    Pad,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Scale,
    Select,
    Subsample,
    Sum,
    Transpose,
)
from repcompiler.ops.layout import steps
from repcompiler.refusal import refuse

Term = Expr | Value

ONE_TO_ONE = (Identity, Relu, PRelu, MaxPool, Resize, Subsample, AvgPool, Pad, Select, Reshape, Transpose)
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


# What a value is when scaled.


def absorb(term: Term, scale: Scale) -> Expr:
    """scale(term) with the scale taken in by the linear operations that make it; refuses where one does not let it through."""
    if isinstance(term, Value):
        refuse(f"'{term.name}' is read more than once, or made by what takes no scale in", "fan-out")
    return _absorbed(term.op, term, scale, _axis(scale, term))


def _axis(scale: Scale, term: Term) -> int | None:
    shape = shape_of(term)
    return scale.channel_axis(None if shape is None else len(shape))


@singledispatch
def _absorbed(op: Op, term: Expr, scale: Scale, axis: int | None) -> Expr:
    passes(op, scale, axis)
    return op(absorb(term.operands[0], scale))


@_absorbed.register(Conv)
@_absorbed.register(ConvTranspose)
@_absorbed.register(Linear)
def _into_linear(op: LinearOp, term: Expr, scale: Scale, axis: int | None) -> Expr:
    shape = shape_of(term)
    if axis not in (None, op.channel_axis(None if shape is None else len(shape))):
        refuse("it scales another axis than the one the weight makes")
    return scale_outputs(op, *affine(scale, op.out_channels))(*term.operands)


@_absorbed.register(BatchNorm)
@_absorbed.register(Scale)
def _into_affine(op: Affine, term: Expr, scale: Scale, axis: int | None) -> Expr:
    axes = {found for found in (_axis(as_scale(op), term), axis) if found is not None}
    if len(axes) > 1:
        refuse("the two scale different axes")
    channels = max(op.channels, scale.channels)
    (t1, s1), (t2, s2) = affine(op, channels), affine(scale, channels)
    return Scale(t2 * t1, t2 * s1 + s2, axes.pop() if axes else 1)(*term.operands)


@_absorbed.register
def _into_sum(op: Sum, term: Expr, scale: Scale, axis: int | None) -> Expr:
    """t (x - y) + s = (t x + s) - (t y): the shift goes with one term."""
    shapes = [shape_of(operand) for operand in term.operands]
    if axis is not None and (shape_of(term) is None or not all(_has(shape, axis, scale.channels) for shape in shapes)):
        refuse("a term of the sum is broadcast along the scaled axis")
    shifts = [op.signs[0] * scale.shift, *(0 * scale.shift for _ in op.signs[1:])]
    return op(*(absorb(x, replace(scale, shift=shift)) for x, shift in zip(term.operands, shifts, strict=True)))


def _has(shape: Shape | None, axis: int, extent: int) -> bool:
    return shape is not None and -1 < axis < len(shape) and shape[axis] == extent


@_absorbed.register
def _into_concat(op: Concat, term: Expr, scale: Scale, axis: int | None) -> Expr:
    if axis != 1:
        return op(*(absorb(operand, scale) for operand in term.operands))
    stops = list(accumulate(_channels(operand) for operand in term.operands))
    t, s = affine(scale, stops[-1])
    parts = zip(term.operands, [0, *stops], stops, strict=False)
    return op(*(absorb(operand, Scale(t[start:stop], s[start:stop])) for operand, start, stop in parts))


def _channels(term: Term) -> int:
    shape = shape_of(term)
    count = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(count, int):
        refuse("the number of channels is not known")
    return count


@_absorbed.register
def _into_select(op: Select, term: Expr, scale: Scale, axis: int | None) -> Expr:
    if axis != 1:
        return op(absorb(term.operands[0], scale))
    if len(set(op.index)) < len(op.index):
        refuse("a channel is chosen twice, and each is scaled by itself")
    order = [op.index.index(channel) if channel in op.index else -1 for channel in range(_channels(term.operands[0]))]
    t, s = affine(scale, len(op.index))
    xp = namespace(t)
    t, s = xp.concat([t, xp.ones_like(t[:1])]), xp.concat([s, xp.zeros_like(s[:1])])
    return op(absorb(term.operands[0], Scale(t[order], s[order])))


@_absorbed.register
def _into_reshape(op: Reshape, term: Expr, scale: Scale, axis: int | None) -> Expr:
    inner = scale if axis is None else _reshaped(scale, axis, op, shape_of(term.operands[0]), back=True)
    return op(absorb(term.operands[0], inner))


@_absorbed.register
def _into_transpose(op: Transpose, term: Expr, scale: Scale, axis: int | None) -> Expr:
    inner = scale if axis is None else replace(scale, axis=op.perm[axis % len(op.perm)])
    return op(absorb(term.operands[0], inner))


def _reshaped(scale: Scale, axis: int, op: Reshape, shape: Shape | None, back: bool = False) -> Scale:
    """The scale on the other side of a reshape of `shape`, which may join its axis with others; `back`: on the operand."""
    ends = len(op.target) - 1, len(shape or ()) - 1
    if shape and shape[-1] == op.target[-1] and axis == ends[not back]:  # of tokens the last axis stays
        return replace(scale, axis=ends[back])
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


# What of a value is scale.


def release(term: Term) -> tuple[Term, Scale]:
    """(rest, scale) with scale(rest) = term and the same shape; refuses where something does not let the scale out."""
    return (term, UNIT) if isinstance(term, Value) else _released(term.op, term)


@singledispatch
def _released(op: Op, term: Expr) -> tuple[Expr | Value, Scale]:
    rest, scale = release(term.operands[0])
    passes(op, scale, _axis(scale, rest))
    return op(rest), scale


@_released.register(BatchNorm)
@_released.register(Scale)
def _out_of_affine(op: Affine, term: Expr) -> tuple[Term, Scale]:
    return term.operands[0], as_scale(op)


@_released.register
def _out_of_concat(op: Concat, term: Expr) -> tuple[Term, Scale]:
    rests, scales = zip(*map(release, term.operands), strict=True)
    if any(_axis(scale, rest) not in (None, 1) for rest, scale in zip(rests, scales, strict=True)):
        refuse("a scale of another axis than the channels is that of one part alone")
    vectors = [affine(scale, _channels(rest)) for rest, scale in zip(rests, scales, strict=True)]
    t, s = (_concat(parts) for parts in zip(*vectors, strict=True))
    return op(*rests), Scale(t, s)


def _concat(vectors: Sequence[Array]) -> Array:
    return namespace(vectors[0]).concat(list(vectors))


@_released.register
def _out_of_select(op: Select, term: Expr) -> tuple[Term, Scale]:
    rest, scale = release(term.operands[0])
    if _axis(scale, rest) != 1:
        return op(rest), scale
    index = list(op.index)
    return op(rest), Scale(scale.scale[index], scale.shift[index])


@_released.register
def _out_of_reshape(op: Reshape, term: Expr) -> tuple[Term, Scale]:
    rest, scale = release(term.operands[0])
    axis = _axis(scale, rest)
    return op(rest), scale if axis is None else _reshaped(scale, axis, op, shape_of(rest))


@_released.register
def _out_of_transpose(op: Transpose, term: Expr) -> tuple[Term, Scale]:
    rest, scale = release(term.operands[0])
    axis = _axis(scale, rest)
    return op(rest), scale if axis is None else replace(scale, axis=op.perm.index(axis % len(op.perm)))
