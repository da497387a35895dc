"""Between which numbers a value lies, whatever the input: interval arithmetic from each value back to what makes it.

    after ReLU [0, inf)        after ReLU6 [0, 6]        after a sigmoid or a softmax [0, 1]

Nothing is assumed of inputs.  Bounds are over all channels and pixels, and hold for exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from math import inf, prod

import numpy as np

from repcompiler.algebra import affine
from repcompiler.ir import Value
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Clip,
    Concat,
    Conv,
    DepthToSpace,
    Frame,
    GlobalAvgPool,
    HardSigmoid,
    Identity,
    Linear,
    MaxPool,
    Mul,
    Odd,
    Op,
    Pad,
    PadChannels,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Scale,
    Select,
    Sigmoid,
    Softmax,
    SpaceToDepth,
    Subsample,
    Sum,
    Transpose,
)

Interval = tuple[float, float]
ANYTHING: Interval = (-inf, inf)
HORIZON = 6
"""Operations that are looked back over."""


def interval(value: Value, horizon: int = HORIZON) -> Interval:
    """The least interval that is known to hold every number of `value`."""
    return _interval(value, horizon, {})


def _interval(value: Value, horizon: int, known: dict[Value, Interval]) -> Interval:
    node = value.producer
    if node is None or not horizon or value is not node.output:
        return ANYTHING
    if value not in known:
        known[value] = image(node.op, [_interval(operand, horizon - 1, known) for operand in node.inputs])
    return known[value]


@singledispatch
def image(op: Op, operands: Sequence[Interval]) -> Interval:
    """What `op` makes of operands that lie in these intervals."""
    return ANYTHING


@image.register(Identity)
@image.register(Reshape)
@image.register(Transpose)
@image.register(Select)
@image.register(Subsample)
@image.register(SpaceToDepth)
@image.register(DepthToSpace)
@image.register(MaxPool)
@image.register(GlobalAvgPool)
@image.register(Resize)
def _moved(op: Op, operands: Sequence[Interval]) -> Interval:
    """The numbers themselves, the largest of some, or a mean."""
    return operands[0]


@image.register
def _relu(op: Relu, operands: Sequence[Interval]) -> Interval:
    return max(operands[0][0], 0.0), max(operands[0][1], 0.0)


@image.register
def _clip(op: Clip, operands: Sequence[Interval]) -> Interval:
    least, most = float(np.min(op.minimum)), float(np.max(op.maximum))
    low, high = operands[0]
    return min(max(low, least), most), min(max(high, least), most)


@image.register
def _prelu(op: PRelu, operands: Sequence[Interval]) -> Interval:
    low, high = operands[0]
    if low >= 0.0:
        return low, high
    ends = [_times(float(slope), low) for slope in (np.min(op.slope), np.max(op.slope))]
    return min(0.0, *ends), max(0.0, high, *ends)


@image.register(Sigmoid)
@image.register(HardSigmoid)
@image.register(Softmax)
def _share(op: Op, operands: Sequence[Interval]) -> Interval:
    return 0.0, 1.0


@image.register
def _odd(op: Odd, operands: Sequence[Interval]) -> Interval:
    """All of them grow with x."""
    low, high = operands[0]
    return (low**3, high**3) if op.function == "cube" else (-1.0 if low < 0 else 0.0, 1.0 if high > 0 else 0.0)


@image.register
def _concat(op: Concat, operands: Sequence[Interval]) -> Interval:
    return _hull(operands)


@image.register(Pad)
@image.register(PadChannels)
def _pad(op: Pad | PadChannels, operands: Sequence[Interval]) -> Interval:
    return _hull([operands[0], (0.0, 0.0)])


@image.register
def _frame(op: Frame, operands: Sequence[Interval]) -> Interval:
    return _hull([operands[0], (float(np.min(op.value)), float(np.max(op.value)))])


@image.register
def _avg_pool(op: AvgPool, operands: Sequence[Interval]) -> Interval:
    share = prod(op.kernel_size) / op.divisor
    whole = share * operands[0][0], share * operands[0][1]
    return _hull([whole, (0.0, 0.0)]) if max(map(max, op.padding)) > 0 else whole


@image.register
def _sum(op: Sum, operands: Sequence[Interval]) -> Interval:
    signed = [part if sign > 0 else (-part[1], -part[0]) for sign, part in zip(op.signs, operands, strict=True)]
    return sum(low for low, _ in signed), sum(high for _, high in signed)


@image.register
def _mul(op: Mul, operands: Sequence[Interval]) -> Interval:
    ends = [_times(a, b) for a in operands[0] for b in operands[1]]
    return min(ends), max(ends)


@image.register(BatchNorm)
@image.register(Scale)
def _affine(op: BatchNorm | Scale, operands: Sequence[Interval]) -> Interval:
    t, s = affine(op, op.channels)
    ends = [_times(float(factor), end) + float(shift) for factor, shift in zip(t, s, strict=True) for end in operands[0]]
    return min(ends), max(ends)


@image.register(Conv)
@image.register(Linear)
def _linear(op: Conv | Linear, operands: Sequence[Interval]) -> Interval:
    """b + sum of w x: each weight meets the end that suits it, a pixel of the padding zero."""
    low, high = operands[0]
    if isinstance(op, Conv) and max(map(max, op.padding), default=0) > 0:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == -inf and high == inf:
        return ANYTHING
    weight = np.asarray(op.weight, np.float64).reshape(op.out_channels, -1)
    up, down = np.maximum(weight, 0.0).sum(1), np.minimum(weight, 0.0).sum(1)
    lows = [_times(a, low) + _times(b, high) + s for a, b, s in zip(up, down, op.bias, strict=True)]
    highs = [_times(a, high) + _times(b, low) + s for a, b, s in zip(up, down, op.bias, strict=True)]
    return float(min(lows)), float(max(highs))


def _times(factor: float, end: float) -> float:
    """Zero times anything is zero: no number is infinite, only unbounded."""
    return factor * end if factor and end else 0.0


def _hull(intervals: Sequence[Interval]) -> Interval:
    return min(low for low, _ in intervals), max(high for _, high in intervals)
