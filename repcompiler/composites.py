"""Activations written out: what several operations make of each number of one value, as one function of it.

    SiLU         x sigmoid(x)                          GELU   x (1 + erf(sqrt(1/2) x)) / 2
    hard swish   x clip(x + 3, 0, 6) / 6               and any other: x sigmoid(1.7 x), max(x, 0) - 0.1 max(-x, 0) ...

Every function is an even one plus an odd one, in one way only, and that of sums, products and functions of functions follows
from those of the parts.  Where the odd one is a x, f(x) - f(-x) = 2 a x for every x, whatever the even one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple

from repcompiler.ir import Expr, Node, Value
from repcompiler.ops import Clip, Gated, HardSigmoid, Identity, Mul, Odd, Op, PRelu, Relu, Scale, Sigmoid, Sum

OPERATIONS = 24
"""Operations that one activation may be written in."""

Term = Expr | Value


@dataclass(frozen=True, eq=False)
class Written(Op):
    """What `nodes`, in order, make of each number of `source`: the last one's result."""

    source: Value
    nodes: tuple[Node, ...]

    @property
    def kind(self) -> str:
        return " ".join(node.op.kind for node in self.nodes)

    @property
    def interior(self) -> tuple[Value, ...]:
        """The values between the source and the result."""
        return tuple(node.output for node in self.nodes[:-1])

    def __call__(self, *operands: Term) -> Expr:
        """The same operations on another value."""
        (x,) = operands
        made: dict[Value, Term] = {self.source: x}
        for node in self.nodes:
            made[node.output] = result = node.op(*(made[operand] for operand in node.inputs))
        return result

    @property
    def halves(self) -> Halves:
        """Of the whole function."""
        found = {self.source: Halves(0.0, 1.0)}
        for node in self.nodes:
            found[node.output] = halves(node.op, [found[operand] for operand in node.inputs])
        return found[self.nodes[-1].output]


def written(value: Value) -> Written | None:
    """What computes `value` from numbers of one other value that more than one operation reads, if anything does."""
    if value.producer is None or len(value.producer.inputs) < 2 or not _alike(value.producer.op):
        return None
    nodes = [value.producer]
    while len(outside := _outside(nodes)) > 1 and len(nodes) < OPERATIONS:
        makers = (found.producer for found in outside if found.constant is None and set(found.uses) <= {*nodes})
        earlier = next((maker for maker in makers if maker is not None and _alike(maker.op)), None)
        if earlier is None:
            return None
        nodes.append(earlier)
    return Written(outside[0], tuple(nodes[::-1])) if len(outside) == 1 else None


def _outside(nodes: Sequence[Node]) -> list[Value]:
    """What they read of others."""
    return [value for value in dict.fromkeys(v for node in nodes for v in node.inputs) if value.producer not in nodes]


def _alike(op: Op) -> bool:
    """Whether it does the same to every number."""
    uniform = not (isinstance(op, PRelu) and op.slope.size > 1) and not (isinstance(op, Scale) and op.channels > 1)
    return uniform and isinstance(op, (Clip, Gated, HardSigmoid, Identity, Mul, Odd, PRelu, Relu, Scale, Sigmoid, Sum))


class Halves(NamedTuple):
    """f(x) = e(x) + o(x), e even and o odd: e a constant where `even` is one, o(x) = a x where `odd` is a number a."""

    even: float | None
    odd: float | None


@singledispatch
def halves(op: Op, x: Sequence[Halves]) -> Halves:
    """Those of what `op` makes of functions whose halves are known."""
    return Halves(None, None)


@halves.register
def _identity(op: Identity, x: Sequence[Halves]) -> Halves:
    return x[0]


@halves.register
def _scale(op: Scale, x: Sequence[Halves]) -> Halves:
    t, s = float(op.scale[0]), float(op.shift[0])
    return Halves(None if x[0].even is None else t * x[0].even + s, _product(t, x[0].odd))


@halves.register
def _sum(op: Sum, x: Sequence[Halves]) -> Halves:
    evens, odds = ([_product(sign, half) for sign, half in zip(op.signs, parts, strict=True)] for parts in zip(*x, strict=True))
    return Halves(_total(evens), _total(odds))


@halves.register
def _mul(op: Mul, x: Sequence[Halves]) -> Halves:
    """(e + o) (e' + o') = (e e' + o o') + (e o' + o e')."""
    (e, o), (f, p) = x
    return Halves(_total([_product(e, f), 0.0 if 0.0 in (o, p) else None]), _total([_product(e, p), _product(f, o)]))


@halves.register
def _odd(op: Odd, x: Sequence[Halves]) -> Halves:
    return Halves(0.0, None) if x[0].even == 0 else Halves(None, None)


@halves.register
def _sigmoid(op: Sigmoid, x: Sequence[Halves]) -> Halves:
    """s(u) + s(-u) = 1."""
    return Halves(0.5, None) if x[0].even == 0 else Halves(None, None)


@halves.register
def _hard_sigmoid(op: HardSigmoid, x: Sequence[Halves]) -> Halves:
    """Clipped between 0 and 1, it is odd around 1/2."""
    known = x[0].even is not None and op.alpha * x[0].even + op.beta == 0.5
    return Halves(0.5 if known else None, None)


@halves.register
def _clip(op: Clip, x: Sequence[Halves]) -> Halves:
    """Around its middle it is odd, unless its bounds cross."""
    middle = x[0].even
    known = middle is not None and op.minimum <= op.maximum and op.minimum + op.maximum == 2 * middle
    return Halves(middle if known else None, None)


@halves.register
def _relu(op: Relu, x: Sequence[Halves]) -> Halves:
    """max(u, 0) = |u| / 2 + u / 2."""
    return Halves(None, _product(0.5, x[0].odd) if x[0].even == 0 and x[0].odd is not None else None)


@halves.register
def _prelu(op: PRelu, x: Sequence[Halves]) -> Halves:
    """max(u, 0) + s min(u, 0) = (1 - s) |u| / 2 + (1 + s) u / 2."""
    known = x[0].even == 0 and x[0].odd is not None
    return Halves(None, _product((1 + float(op.slope[0])) / 2, x[0].odd) if known else None)


@halves.register
def _gated(op: Gated, x: Sequence[Halves]) -> Halves:
    """u g(u) with g(u) + g(-u) = 1."""
    return halves(Relu(), x)


def _product(a: float | None, b: float | None) -> float | None:
    """Zero times what is not known is zero."""
    return 0.0 if 0.0 in (a, b) else None if a is None or b is None else a * b


def _total(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
