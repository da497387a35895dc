"""Channels that a network does without: those that nothing reads, and those that hold one number wherever they are read.

cut(Relu()(conv(x)), [0, 2])      =  Relu()(conv[0, 2](x))      some channels of a value alone
constants(Relu()(conv(x)))        =  max(b, 0) where the row of conv is zero, NaN elsewhere

Only known weights (numpy) are looked into; of live parameters nothing is constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import singledispatch
from math import prod
from typing import Any

import numpy as np

import repcompiler.meaning_activations  # noqa: F401 - registers what activations mean
from repcompiler.algebra import constant_response, float64
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Node, Value
from repcompiler.meaning import meaning
from repcompiler.ops import ACTIVATIONS, AvgPool, ClipChannels, Conv, Linear, Op, Pad, PRelu
from repcompiler.pattern import Match, RootPattern
from repcompiler.refusal import refuse
from repcompiler.region import Scope
from repcompiler.selection import ALIKE
from repcompiler.term import term
from repcompiler.widening import chosen, taken

NDArray = np.ndarray[Any, Any]

THROUGH = (*ALIKE, ClipChannels, Conv)
"""Operations that treat channels each by itself; of convolutions, the depthwise ones."""


class AroundDeadChannels(RootPattern):
    """A layer that reads channels which are dead, and the term that makes them, back to a layer."""

    roots = (Conv, Linear)

    def __init__(self, term_name: str, reader: str) -> None:
        self.term_name, self.reader = term_name, reader

    def match_node(self, node: Node, match: Match, scope: Scope) -> Iterator[Match]:
        for found in term(self.term_name, (Conv, Linear), THROUGH, mixes).match_value(node.inputs[0], match, scope):
            y = found.captures[self.term_name]
            assert isinstance(y, Expr)
            assert isinstance(node.op, (Conv, Linear))
            bound = found.bind(self.reader, node.op) if dead(y, node.op).any() else None
            if bound is not None:
                yield bound


def dead(y: Expr, reader: Conv | Linear) -> NDArray:
    """Which channels of y the layer could do without: those it does not read, and constants, but such as it pads with zeros."""
    apart = reader.groups > 1 if isinstance(reader, Conv) else len(shape_of(y) or ()) != 2
    of_tokens = any(isinstance(part.op, Linear) and len(shape_of(part) or ()) != 2 for part in y.parts())
    if apart or of_tokens or not isinstance(reader.weight, np.ndarray) or len(numbers := constants(y)) != reader.in_channels:
        return np.zeros(reader.in_channels, bool)
    padded = isinstance(reader, Conv) and max(map(max, reader.padding), default=0) > 0
    unread = ~reader.weight.any(axis=(0, *range(2, reader.weight.ndim)))
    return np.asarray(unread | (numbers == 0 if padded else np.isfinite(numbers)))


def mixes(op: Op) -> bool:
    """Whether an output channel reads several channels, or one that is not its own."""
    return not isinstance(op, Conv) or op.groups < op.in_channels or op.in_channels != op.out_channels


def constants(y: Expr | Value) -> NDArray:
    """The number that each channel is wherever it is read; NaN where it is no constant."""
    assert isinstance(y, Expr), "a pattern captures expressions that end in a layer"
    op = y.op
    if isinstance(op, (Conv, Linear)) and mixes(op):
        if not isinstance(op.weight, np.ndarray):
            return np.full(op.out_channels, np.nan)
        used = op.weight.reshape(op.out_channels, -1).any(axis=1)
        return np.where(used, np.nan, float64(op.bias))
    return _behind(op, constants(y.operands[0]))


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


def cut(y: Expr | Value, kept: Sequence[int]) -> Expr:
    """These channels of a value alone."""
    assert isinstance(y, Expr), "a pattern captures expressions that end in a layer"
    op = y.op
    if isinstance(op, Linear):
        if len(shape_of(y) or ()) != 2:
            refuse("one acts on the channels, the other on the last axis")
        return replace(op, weight=taken(op.weight, kept), bias=taken(op.bias, kept))(*y.operands)
    if isinstance(op, Conv) and mixes(op):
        return chosen(op, kept, None)(*y.operands)
    return _of_channels(op, kept)(cut(y.operands[0], kept))


def _of_channels(op: Op, kept: Sequence[int]) -> Op:
    if isinstance(op, Conv):
        return replace(op, weight=taken(op.weight, kept), bias=taken(op.bias, kept), groups=len(kept))
    if isinstance(op, PRelu) and op.slope.shape != (1,):
        return PRelu(taken(op.slope, kept))
    return op if not isinstance(op, ClipChannels) else ClipChannels(taken(op.minimum, kept), taken(op.maximum, kept))
