"""Channels that a network does without: those that nothing reads, and those that hold one number wherever they are read.

cut(Relu()(conv(x)), [0, 2])      =  Relu()(conv[0, 2](x))      some channels of a value alone
constants(Relu()(conv(x)))        =  max(b, 0) where the row of conv is zero, NaN elsewhere

Only known weights (numpy) are looked into; of live parameters nothing is constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from math import prod
from typing import Any

import numpy as np

import repcompiler.meaning_activations  # noqa: F401 - registers what activations mean
from repcompiler.algebra import constant_response, float64
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Value
from repcompiler.meaning import meaning
from repcompiler.ops import ACTIVATIONS, AvgPool, ClipChannels, Conv, Linear, Op, Pad, PRelu
from repcompiler.refusal import refuse
from repcompiler.selection import ALIKE
from repcompiler.widening import chosen, taken

NDArray = np.ndarray[Any, Any]

THROUGH = (*ALIKE, ClipChannels, Conv)
"""Operations that treat channels each by itself; of convolutions, the depthwise ones."""


def mixes(op: Op) -> bool:
    """Whether an output channel reads several channels, or one that is not its own."""
    return not isinstance(op, Conv) or op.groups < op.in_channels or op.in_channels != op.out_channels


def constants(term: Expr | Value) -> NDArray:
    """The number that each channel is wherever it is read; NaN where it is no constant."""
    assert isinstance(term, Expr), "a pattern captures expressions that end in a layer"
    op = term.op
    if isinstance(op, (Conv, Linear)) and mixes(op):
        if not isinstance(op.weight, np.ndarray):
            return np.full(op.out_channels, np.nan)
        used = op.weight.reshape(op.out_channels, -1).any(axis=1)
        return np.where(used, np.nan, float64(op.bias))
    return _behind(op, constants(term.operands[0]))


@singledispatch
def _behind(op: Op, x: NDArray) -> NDArray:
    """What constant channels are behind `op`: the same where it only moves numbers."""
    if not isinstance(op, ACTIVATIONS):
        return x
    with np.errstate(invalid="ignore"):
        result: NDArray = meaning(op, x[None, :, None])[0, :, 0]
    return result


@_behind.register
def _depthwise(op: Conv, x: NDArray) -> NDArray:
    if not isinstance(op.weight, np.ndarray):
        return np.full(op.out_channels, np.nan)
    return np.asarray(constant_response(op, _padded(op.padding, x)) + float64(op.bias))


@_behind.register
def _mean(op: AvgPool, x: NDArray) -> NDArray:
    return _padded(op.padding, x) * prod(op.kernel_size) / op.divisor


@_behind.register
def _pad(op: Pad, x: NDArray) -> NDArray:
    return _padded(op.padding, x)


def _padded(padding: Sequence[Sequence[int]], x: NDArray) -> NDArray:
    """Zeros around a channel leave it constant if it is zero."""
    return np.where(x == 0, x, np.nan) if max(map(max, padding), default=0) > 0 else x


def cut(term: Expr | Value, kept: Sequence[int]) -> Expr:
    """These channels of a value alone."""
    assert isinstance(term, Expr), "a pattern captures expressions that end in a layer"
    op = term.op
    if isinstance(op, Linear):
        if len(shape_of(term) or ()) != 2:
            refuse("one acts on the channels, the other on the last axis")
        return replace(op, weight=taken(op.weight, kept), bias=taken(op.bias, kept))(*term.operands)
    if isinstance(op, Conv) and mixes(op):
        return chosen(op, kept, None)(*term.operands)
    return _of_channels(op, kept)(cut(term.operands[0], kept))


def _of_channels(op: Op, kept: Sequence[int]) -> Op:
    if isinstance(op, Conv):
        return replace(op, weight=taken(op.weight, kept), bias=taken(op.bias, kept), groups=len(kept))
    if isinstance(op, PRelu) and op.slope.shape != (1,):
        return PRelu(taken(op.slope, kept))
    return op if not isinstance(op, ClipChannels) else ClipChannels(taken(op.minimum, kept), taken(op.maximum, kept))
