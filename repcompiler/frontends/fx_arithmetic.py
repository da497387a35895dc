"""Sums, differences, products and quotients of torch: of two tensors, or of one and a constant along one axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import numpy as np
from torch import fx

from repcompiler.algebra import float64
from repcompiler.frontends.fx_modules import Unliftable
from repcompiler.ir import Expr, Shape, Value
from repcompiler.ops import Array, Mul, Op, Scale, Sum


@dataclass(frozen=True)
class Extent:
    """One that is not known: of this value along this axis."""

    node: fx.Node
    axis: int


Extents = tuple[int | Extent, ...]
"""A shape in which nothing is left open."""


class Context(Protocol):
    """What an entry may ask about its arguments."""

    node: fx.Node
    """The call that is read."""

    def constant(self, arg: Any) -> Array | None:
        """The array of a number, or of what depends on parameters alone; None for all else."""

    def value(self, arg: fx.Node) -> Value:
        """What an expression is written on."""

    def shape(self, arg: Any) -> Shape | None:
        """As far as it is known."""

    def extents(self, arg: fx.Node | Value) -> Extents | None:
        """The shape with a symbol for each extent that is not known; None where not even the rank is."""

    def state(self, sizes: Sequence[Any]) -> None:
        """Note the extents that this call gives its result: numbers, symbols, and -1 or None for what is not known."""

    def is_floating(self, arg: Any) -> bool:
        """Whether it is certainly a floating-point tensor."""

    def is_settled(self, arg: fx.Node) -> bool:
        """Whether no memory that it reads or makes is written to later."""

    def dtype(self, arg: fx.Node) -> str:
        """The name of its type; empty where that is not known."""


Operand = fx.Node | Expr
Lifted = tuple[Op, tuple[Operand, ...]]
"""An operation and what it is applied to; of a call that is several operations, the last one, on expressions."""


Entry = Callable[..., Lifted]
"""Reads a call: the context first, then the arguments as torch names them."""


def add(c: Context, x: Any, other: Any, *, alpha: Any = 1) -> Lifted:
    """x + alpha other, either of them perhaps a constant."""
    if type(alpha) not in (int, float):
        raise Unliftable
    left, right = c.constant(x), c.constant(other)
    if left is None and right is None:
        if abs(alpha) != 1:
            return Sum((1, 1)), (tensor(x), scaled(c, alpha, other))
        if not (c.is_floating(x) or c.is_floating(other)):
            raise Unliftable
        return Sum((1, int(alpha))), (tensor(x), tensor(other))
    if left is None:
        axis, shift = per_channel(c, x, right)
        return Scale(np.ones(1), alpha * shift, axis), (tensor(x),)
    axis, shift = per_channel(c, other, left)
    return Scale(np.full(1, float(alpha)), shift, axis), (tensor(other),)


def sub(c: Context, x: Any, other: Any, *, alpha: Any = 1) -> Lifted:
    """x - alpha other."""
    if type(alpha) not in (int, float):
        raise Unliftable
    return add(c, x, other, alpha=-alpha)


def rsub(c: Context, x: Any, other: Any, *, alpha: Any = 1) -> Lifted:
    """other - alpha x."""
    return sub(c, other, x, alpha=alpha)


def lerp(c: Context, x: Any, end: Any, weight: Any) -> Lifted:
    """(1 - w) x + w end, with a constant w."""
    share = c.constant(weight)
    if share is None or share.size != 1 or share.ndim > len(c.shape(tensor(x)) or ()):
        raise Unliftable
    return Sum((1, 1)), (scaled(c, 1 - share.item(), x), scaled(c, share.item(), end))


def scaled(c: Context, factor: float, x: Any) -> Expr:
    """A tensor times a number, as a part of what a call computes."""
    if not c.is_floating(tensor(x)) or c.constant(x) is not None or not isfinite(factor):
        raise Unliftable
    return Scale(np.full(1, float(factor)), np.zeros(1))(c.value(x))


def mul(c: Context, x: Any, other: Any) -> Lifted:
    """x other, one of them perhaps a constant."""
    factor = c.constant(other)
    if factor is None:
        x, other, factor = other, x, c.constant(x)
    if factor is None and c.is_floating(x) and c.is_floating(other):
        return Mul(), (tensor(other), tensor(x))
    axis, scale = per_channel(c, x, factor)
    return Scale(scale, np.zeros(1), axis), (tensor(x),)


def div(c: Context, x: Any, other: Any) -> Lifted:
    """x / other, a constant that is nowhere zero."""
    divisor = c.constant(other)
    if divisor is None or not np.all(divisor):
        raise Unliftable
    axis, scale = per_channel(c, x, 1.0 / float64(divisor))
    return Scale(scale, np.zeros(1), axis), (tensor(x),)


def neg(c: Context, x: Any) -> Lifted:
    """-x."""
    return mul(c, x, -1.0)


def tensor(arg: Any) -> fx.Node:
    """An argument that is computed, as an operand."""
    if not isinstance(arg, fx.Node):
        raise Unliftable
    return arg


def needed(c: Context, arg: Any) -> Array:
    """A weight."""
    array = c.constant(arg)
    if array is None or array.ndim == 0:
        raise Unliftable("its weights depend on data")
    return array


def optional(c: Context, arg: Any) -> Array | None:
    """A weight that may not be given."""
    return None if arg is None else needed(c, arg)


def per_channel(c: Context, x: Any, array: Array | None) -> tuple[int, Array]:
    """The axis of `x` along which a broadcast constant varies, and its numbers there; refuses one that would enlarge `x`."""
    if array is None or not c.is_floating(x):
        raise Unliftable
    vector, shape = float64(array), c.shape(x)
    if vector.ndim == 0:
        return 1, vector.reshape(1)
    if shape is None or vector.ndim > len(shape):
        raise Unliftable
    if vector.size == 1:
        return 1, vector.reshape(1)
    wide = [axis for axis, size in enumerate(vector.shape, len(shape) - vector.ndim) if size != 1]
    if len(wide) != 1 or shape[wide[0]] != vector.size:
        raise Unliftable
    return wide[0], vector.reshape(-1)


ARITHMETIC: Mapping[str, Entry] = {
    **dict.fromkeys(("add", "add_"), add),
    **dict.fromkeys(("sub", "sub_", "subtract", "subtract_"), sub),
    "rsub": rsub,
    **dict.fromkeys(("mul", "mul_", "multiply", "multiply_"), mul),
    **dict.fromkeys(("div", "div_", "divide", "divide_", "true_divide", "true_divide_"), div),
    **dict.fromkeys(("neg", "neg_", "negative", "negative_"), neg),
    **dict.fromkeys(("lerp", "lerp_"), lerp),
}
"""Methods by name; most are functions of torch and of aten too."""
