"""What of a value is scale.

release(Relu()(scale(x)))        =   Relu()(x), scale
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch

from repcompiler.algebra import affine, namespace
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Value
from repcompiler.ops import Affine, Array, BatchNorm, Concat, DepthToSpace, Op, Reshape, Scale, Select, SpaceToDepth, Transpose
from repcompiler.refusal import refuse
from repcompiler.scaling import (
    UNIT,
    Term,
    as_scale,
    axis_of,
    channels_of,
    passes,
    reshape_scale,
    scale_of_image,
    scale_of_places,
)


def release(term: Term) -> tuple[Term, Scale]:
    """(rest, scale) with scale(rest) = term and the same shape; refuses where something does not let the scale out."""
    return (term, UNIT) if isinstance(term, Value) else _released(term.op, term)


@singledispatch
def _released(op: Op, term: Expr) -> tuple[Expr | Value, Scale]:
    first, *sizes = term.operands
    rest, scale = release(first)
    passes(op, scale, axis_of(scale, rest))
    return op(rest, *sizes), scale


@_released.register(BatchNorm)
@_released.register(Scale)
def _out_of_affine(op: Affine, term: Expr) -> tuple[Term, Scale]:
    return term.operands[0], as_scale(op)


@_released.register
def _out_of_concat(op: Concat, term: Expr) -> tuple[Term, Scale]:
    rests, scales = zip(*map(release, term.operands), strict=True)
    if any(axis_of(scale, rest) not in (None, 1) for rest, scale in zip(rests, scales, strict=True)):
        refuse("a scale of another axis than the channels is that of one part alone")
    vectors = [affine(scale, channels_of(rest)) for rest, scale in zip(rests, scales, strict=True)]
    t, s = (_concat(parts) for parts in zip(*vectors, strict=True))
    return op(*rests), Scale(t, s)


def _concat(vectors: Sequence[Array]) -> Array:
    return namespace(vectors[0]).concat(list(vectors))


@_released.register
def _out_of_select(op: Select, term: Expr) -> tuple[Term, Scale]:
    rest, scale = release(term.operands[0])
    if axis_of(scale, rest) != 1:
        return op(rest), scale
    index = list(op.index)
    return op(rest), Scale(scale.scale[index], scale.shift[index])


@_released.register
def _out_of_reshape(op: Reshape, term: Expr) -> tuple[Term, Scale]:
    rest, scale = release(term.operands[0])
    axis = axis_of(scale, rest)
    return op(rest), scale if axis is None else reshape_scale(scale, axis, op, shape_of(rest))


@_released.register
def _out_of_transpose(op: Transpose, term: Expr) -> tuple[Term, Scale]:
    rest, scale = release(term.operands[0])
    axis = axis_of(scale, rest)
    return op(rest), scale if axis is None else replace(scale, axis=op.perm.index(axis % len(op.perm)))


@_released.register(SpaceToDepth)
@_released.register(DepthToSpace)
def _out_of_blocks(op: SpaceToDepth | DepthToSpace, term: Expr) -> tuple[Term, Scale]:
    rest, scale = release(term.operands[0])
    axis = axis_of(scale, rest)
    if axis not in (None, 1):
        refuse(f"a scale of another axis than the channels does not pass {op.kind}")
    if axis is not None:
        scale = (scale_of_places if isinstance(op, SpaceToDepth) else scale_of_image)(scale, op, rest)
    return op(rest), scale
