"""Where a choice of channels may go: f(x[index]) = f(x)[index], for every f that treats channels alike, each by itself.

release(Relu()(Select(index)(x)))  =  Relu()(x), index          what of a value is a choice
release(Relu()(conv(x)))           =  Relu()(distinct(x)), index    where output channels of conv are equal
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import numpy as np

from repcompiler.algebra import float64, namespace, regroup
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Value
from repcompiler.ops import (
    AvgPool,
    Clip,
    Conv,
    Gated,
    GlobalAvgPool,
    HardSigmoid,
    Identity,
    Linear,
    MaxPool,
    Odd,
    Op,
    Pad,
    PRelu,
    Relu,
    Resize,
    Select,
    Sigmoid,
    Subsample,
)
from repcompiler.refusal import refuse
from repcompiler.structure import distinct

Index = tuple[int, ...]

ALIKE = (AvgPool, Clip, Gated, GlobalAvgPool, HardSigmoid, Identity, MaxPool, Odd, Pad, PRelu, Relu, Resize, Sigmoid, Subsample)
"""Operations on one value that a choice of channels passes."""


def chooses(op: Op) -> bool:
    """Whether some result of `op` is a copy of another one, or all are copies of what it reads."""
    return isinstance(op, Select) or (isinstance(op, (Conv, Linear)) and any(True for _ in distinct(op)))


def release(term: Expr | Value) -> tuple[Expr | Value, Index]:
    """(rest, index) with rest[:, index] = term; refuses where something does not let the choice out."""
    assert isinstance(term, Expr), "a pattern captures expressions that end in a choice"
    return _released(term.op, term)


@singledispatch
def _released(op: Op, term: Expr) -> tuple[Expr | Value, Index]:
    first, *sizes = term.operands
    rest, index = release(first)
    return op(rest, *sizes), index


@_released.register
def _select(op: Select, term: Expr) -> tuple[Expr | Value, Index]:
    return term.operands[0], op.index


@_released.register(Conv)
@_released.register(Linear)
def _linear(op: Conv | Linear, term: Expr) -> tuple[Expr | Value, Index]:
    if isinstance(op, Linear) and len(shape_of(term) or ()) != 2:
        refuse("one acts on the channels, the other on the last axis")
    kept, select = next(distinct(op))
    return kept(*term.operands), select.index


@_released.register
def _prelu(op: PRelu, term: Expr) -> tuple[Expr | Value, Index]:
    """The slope of a channel is that of its copies; of one that is not chosen it may be any."""
    rest, index = release(term.operands[0])
    if op.slope.shape == (1,):
        return op(rest), index
    at = {channel: place for place, channel in enumerate(index)}
    slope = op.slope[[at.get(channel, 0) for channel in range(channels_of(rest))]]
    if not isinstance(slope, np.ndarray) or (slope[list(index)] != op.slope).any():
        refuse("copies of one channel have slopes of their own")
    return replace(op, slope=slope)(rest), index


def channels_of(term: Expr | Value) -> int:
    """The number of channels; refuses where it is not known."""
    shape = shape_of(term)
    if shape is None or not isinstance(shape[1], int):
        refuse("the number of channels is not known")
    return shape[1]


def gather_columns(op: Conv | Linear, index: Index, channels: int) -> Conv | Linear:
    """op(x[:, index]) as an operation on all `channels` of x: the columns of each one's copies are added up."""
    weight = float64(op.weight) if isinstance(op, Linear) else regroup(op, 1)
    xp = namespace(weight)
    choice = xp.eye(channels, dtype=xp.float64, device=weight.device)[list(index)]
    if isinstance(op, Linear):
        return replace(op, weight=weight @ choice)
    return replace(op, weight=xp.moveaxis(xp.moveaxis(weight, 1, -1) @ choice, -1, 1), groups=1)
