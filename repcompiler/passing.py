"""How a value passes an activation in channels of its own, so that it can be told behind it.

    one channel     f(x) = x for every x that can be there (`repcompiler.ranges`), or with a constant of its own
    two channels    f(x) - f(-x) = c x for every x: ReLU, SiLU, GELU, hard swish, and what is written out (`composites`);
                    docs/residual_removal.md has the theorem

A gate, h g(h) with g computed from means of h over all pixels (squeeze and excitation), multiplies reserved channels by one and
does not see them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import NamedTuple

import numpy as np

from repcompiler.algebra import broadcast, float64, namespace, pad_axis, regroup
from repcompiler.composites import Written
from repcompiler.ir import Expr, Value
from repcompiler.ops import Array, Clip, ClipChannels, Conv, Gated, HardSigmoid, Identity, Mul, Op, Opaque, PRelu, Relu, Sigmoid
from repcompiler.ranges import ANYTHING, Interval
from repcompiler.refusal import refuse
from repcompiler.widening import taken

SATURATED = 64.0
"""A number of which the sigmoid is one in every floating-point type."""


@dataclass(frozen=True)
class Gate:
    """h times what `steps` make of it, one after the other, with h = before(x)."""

    steps: tuple[Op, ...]
    before: Op = field(default_factory=Identity)

    @property
    def kind(self) -> str:
        return "a gate"

    def __call__(self, x: Expr | Value) -> Expr:
        """The expression."""
        h = gate = x if isinstance(self.before, Identity) else self.before(x)
        for step in self.steps:
            gate = step(gate)
        return Mul()(h, gate)


Activation = Op | Gate


class Passing(NamedTuple):
    """How x passes an activation in reserved channels."""

    widened: Callable[[int, int], Activation]
    """The activation on so many channels of its own, and so many reserved ones behind them."""
    odd_part: float = 0.0
    """c where it takes two channels, f(x) - f(-x) = c x; 0 where x passes in one."""


CANCELS = "is x, but in float32 most digits of a small x cancel: both are close to log 2"
ODD_PARTS = {
    "elu": "is x + a (1 - exp(-x)) for x > 0, no multiple of x",
    "celu": "is x + a (1 - exp(-x/a)) for x > 0, no multiple of x",
    "selu": "is l (x + a (1 - exp(-x))) for x > 0, no multiple of x",
    "mish": "is 1.2 x near zero and x far from it, no multiple of x",
    "sigmoid": "is tanh(x/2), no multiple of x",
    "hardsigmoid": "is bounded, no multiple of x",
    "tanh": "is 2 tanh(x), no multiple of x",
    "erf": "is 2 erf(x), no multiple of x",
    "pow": "is 2 x x x, no multiple of x",
    "softsign": "is 2 x / (1 + |x|), no multiple of x",
    "softplus": CANCELS,
    "logsigmoid": CANCELS,
}
"""What f(x) - f(-x) is where nothing passes, by the name of f."""


@singledispatch
def passing(op: Activation, inside: Interval) -> Passing:
    """How what lies in the interval passes `op`; refuses where it does not."""
    name = op.label if isinstance(op, Opaque) else op.kind
    refuse(f"the skipped value does not pass {name}: f(x) - f(-x) {ODD_PARTS.get(name.lower(), 'is no multiple of x')}")


@passing.register
def _identity(op: Identity, inside: Interval) -> Passing:
    return Passing(lambda own, reserved: op)


@passing.register
def _relu(op: Relu, inside: Interval) -> Passing:
    """max(x, 0) = x for x >= 0, and max(x, 0) - max(-x, 0) = x for any x."""
    return Passing(lambda own, reserved: op, 0.0 if inside[0] >= 0 else 1.0)


@passing.register
def _gated(op: Gated, inside: Interval) -> Passing:
    """x g(x) + x g(-x) = x, for g(x) + g(-x) = 1."""
    return Passing(lambda own, reserved: op, 1.0)


@passing.register
def _written(op: Written, inside: Interval) -> Passing:
    """e(x) + a x with an even e."""
    a = op.halves.odd
    if not a:
        refuse(f"the skipped value does not pass {op.kind}: f(x) - f(-x) is no multiple of x")
    return Passing(lambda own, reserved: op, 2 * a)


@passing.register
def _prelu(op: PRelu, inside: Interval) -> Passing:
    """With a slope of one below zero as above."""
    if inside[0] >= 0 and op.slope.shape == (1,):
        return Passing(lambda own, reserved: op)
    return Passing(lambda own, reserved: PRelu(_extended(broadcast(op.slope, own), reserved, 1.0)))


@passing.register
def _clip(op: Clip, inside: Interval) -> Passing:
    """Within its bounds; else with bounds of its own, which are none."""
    if op.minimum <= inside[0] and inside[1] <= op.maximum:
        return Passing(lambda own, reserved: op)
    least, most = np.array([op.minimum]), np.array([op.maximum])
    return Passing(lambda own, reserved: _unbounded(broadcast(least, own), broadcast(most, own), reserved))


@passing.register
def _clip_channels(op: ClipChannels, inside: Interval) -> Passing:
    return Passing(lambda own, reserved: _unbounded(op.minimum, op.maximum, reserved))


def in_pairs(op: Activation) -> Passing:
    """How any x passes: in two channels where it can, f(x) - f(-x) = c x, also where one would do."""
    if isinstance(op, PRelu) and op.slope.shape == (1,) and isinstance(op.slope, np.ndarray) and op.slope[0] >= 0:
        return Passing(lambda own, reserved: op, 1.0 + float(op.slope[0]))
    return passing(op, ANYTHING)


def _unbounded(minimum: Array, maximum: Array, reserved: int) -> ClipChannels:
    return ClipChannels(_extended(minimum, reserved, -np.inf), _extended(maximum, reserved, np.inf))


def _extended(constants: Array, reserved: int, neutral: float) -> Array:
    """One constant a channel, and `neutral` for those that are reserved."""
    xp = namespace(constants)
    return xp.concat([constants, xp.full((reserved,), neutral, dtype=constants.dtype, device=constants.device)])


@passing.register
def _gate(op: Gate, inside: Interval) -> Passing:
    """Reserved channels pass what stands before the gate, which is one for them."""
    before = passing(op.before, inside)
    convs = [index for index, step in enumerate(op.steps) if isinstance(step, Conv)]
    last = op.steps[-1]
    saturates = isinstance(last, Sigmoid) or (isinstance(last, HardSigmoid) and last.alpha * SATURATED + last.beta >= 1)
    if not convs or convs[-1] != len(op.steps) - 2 or not saturates:
        refuse("the gate does not end in a convolution and a sigmoid: it cannot be made one for the skipped value")
    if any(isinstance(step, (ClipChannels, PRelu)) for step in op.steps[: convs[0]]):
        refuse("the gate has a constant a channel before it mixes them: it would see the skipped value")

    def widened(own: int, reserved: int) -> Gate:
        steps = list(op.steps)
        steps[convs[0]] = _blind(steps[convs[0]], reserved)
        steps[convs[-1]] = _open(steps[convs[-1]], reserved)
        wide = before.widened(own, reserved)
        assert isinstance(wide, Op), "what stands before a gate is no gate"
        return Gate(tuple(steps), wide)

    return Passing(widened, before.odd_part)


def _blind(op: Op, reserved: int) -> Conv:
    """A convolution that does not see so many more channels behind its own."""
    assert isinstance(op, Conv)
    return replace(op, weight=pad_axis(regroup(op, 1), 1, 0, reserved), groups=1)


def _open(op: Op, reserved: int) -> Conv:
    """A convolution that makes so many more channels, whose sigmoid is one."""
    assert isinstance(op, Conv)
    bias = _extended(float64(op.bias), reserved, SATURATED)
    return replace(op, weight=pad_axis(regroup(op, 1), 0, 0, reserved), bias=bias, groups=1)


def rearranged(op: Activation, index: Sequence[int]) -> Activation:
    """The same activation where channel index[i] of what it reads stands at place i."""
    if isinstance(op, PRelu) and op.slope.shape != (1,):
        return PRelu(taken(op.slope, index))
    if isinstance(op, ClipChannels):
        return ClipChannels(taken(op.minimum, index), taken(op.maximum, index))
    if not isinstance(op, Gate):
        return op
    steps = list(op.steps)
    first, *_, last = [place for place, step in enumerate(steps) if isinstance(step, Conv)] * 2
    reading = steps[first]
    assert isinstance(reading, Conv)
    steps[first] = replace(reading, weight=taken(reading.weight, index, 1))
    making = steps[last]
    assert isinstance(making, Conv)
    steps[last] = replace(making, weight=taken(making.weight, index), bias=taken(making.bias, index))
    before = rearranged(op.before, index)
    assert isinstance(before, Op), "what stands before a gate is no gate"
    return Gate(tuple(steps), before)
