"""What a value is when scaled: the scale goes back to linear operations that take it in.

absorb(Relu()(conv(x)), scale)   =   Relu()(scaled conv(x))
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from itertools import accumulate

from repcompiler.algebra import affine, namespace, scale_outputs
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Shape, Value
from repcompiler.ops import (
    Affine,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Linear,
    LinearOp,
    Op,
    Reshape,
    Scale,
    Select,
    SpaceToDepth,
    Sum,
    Transpose,
)
from repcompiler.refusal import refuse
from repcompiler.scaling import Term, as_scale, axis_of, channels_of, passes, reshape_scale, scale_of_image, scale_of_places


def absorb(term: Term, scale: Scale) -> Expr:
    """scale(term) with the scale taken in by the linear operations that make it; refuses where one does not let it through."""
    if isinstance(term, Value):
        refuse(f"'{term.name}' is read more than once, or made by what takes no scale in", "fan-out")
    return _absorbed(term.op, term, scale, axis_of(scale, term))


@singledispatch
def _absorbed(op: Op, term: Expr, scale: Scale, axis: int | None) -> Expr:
    passes(op, scale, axis)
    first, *sizes = term.operands
    return op(absorb(first, scale), *sizes)


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
    axes = {found for found in (axis_of(as_scale(op), term), axis) if found is not None}
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
    stops = list(accumulate(channels_of(operand) for operand in term.operands))
    t, s = affine(scale, stops[-1])
    parts = zip(term.operands, [0, *stops], stops, strict=False)
    return op(*(absorb(operand, Scale(t[start:stop], s[start:stop])) for operand, start, stop in parts))


@_absorbed.register
def _into_select(op: Select, term: Expr, scale: Scale, axis: int | None) -> Expr:
    if axis != 1:
        return op(absorb(term.operands[0], scale))
    if len(set(op.index)) < len(op.index):
        refuse("a channel is chosen twice, and each is scaled by itself")
    order = [op.index.index(channel) if channel in op.index else -1 for channel in range(channels_of(term.operands[0]))]
    t, s = affine(scale, len(op.index))
    xp = namespace(t)
    t, s = xp.concat([t, xp.ones_like(t[:1])]), xp.concat([s, xp.zeros_like(s[:1])])
    return op(absorb(term.operands[0], Scale(t[order], s[order])))


@_absorbed.register
def _into_reshape(op: Reshape, term: Expr, scale: Scale, axis: int | None) -> Expr:
    inner = scale if axis is None else reshape_scale(scale, axis, op, shape_of(term.operands[0]), back=True)
    return op(absorb(term.operands[0], inner))


@_absorbed.register
def _into_transpose(op: Transpose, term: Expr, scale: Scale, axis: int | None) -> Expr:
    inner = scale if axis is None else replace(scale, axis=op.perm[axis % len(op.perm)])
    return op(absorb(term.operands[0], inner))


@_absorbed.register(SpaceToDepth)
@_absorbed.register(DepthToSpace)
def _into_blocks(op: SpaceToDepth | DepthToSpace, term: Expr, scale: Scale, axis: int | None) -> Expr:
    if axis not in (None, 1):
        refuse(f"a scale of another axis than the channels does not pass {op.kind}")
    if axis is not None:
        scale = (scale_of_image if isinstance(op, SpaceToDepth) else scale_of_places)(scale, op, term)
    return op(absorb(term.operands[0], scale))
