"""What all operations share, and those that belong to no family: sum, product, identity, constant, opaque."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from repcompiler.ir import Dim, Expr, Shape, Value

if TYPE_CHECKING:
    from repcompiler.pattern import Pattern, RootPattern

Array = Any
"""An array of any array-API namespace: numpy while compiling, torch while training."""

Symbol = TypeVar("Symbol", bound=Hashable)
"""An extent that is not known."""

Padding = tuple[tuple[int, int], ...]


class Op:
    """An operation of the IR.  Calling it on operands builds an expression; `of` builds a pattern."""

    @property
    def pure(self) -> bool:
        """Whether removing an unread application changes nothing."""
        return True

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays that it carries, by the name of their field."""
        return {name: value for name, value in vars(self).items() if hasattr(value, "shape")}

    def with_arrays(self, arrays: Mapping[str, Array]) -> Op:
        """The same operation with others in their place."""
        return cast(Op, replace(cast(Any, self), **arrays)) if arrays else self

    def is_same_as(self, other: Op) -> bool:
        """Whether both are of one class, with equal attributes and arrays: numbers are compared last, and of numpy's alone."""
        if type(self) is not type(other):
            return False
        pairs = [(value, vars(other)[name]) for name, value in vars(self).items()]
        pairs.sort(key=lambda pair: hasattr(pair[0], "shape"))
        return all(one is another or _equal(one, another) for one, another in pairs)

    def __call__(self, *operands: Expr | Value) -> Expr:
        return Expr(self, operands)

    @classmethod
    def of(cls, *operands: str | Pattern, name: str = "") -> RootPattern:
        """A pattern that matches this operation on `operands`; `name` captures the operation itself."""
        from repcompiler.pattern import OpPattern

        return OpPattern((cls,), operands, name)

    @property
    def kind(self) -> str:
        """The name shown to people."""
        return type(self).__name__

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Shape of the first result, as far as the operand shapes say."""
        return shapes[0]

    def __str__(self) -> str:
        return self.kind


def _equal(one: Any, another: Any) -> bool:
    """Whether attributes or arrays are equal; what differs mostly does so at its beginning, and need not be read further."""
    if not hasattr(one, "shape"):
        return bool(one == another)
    known = isinstance(one, np.ndarray) and isinstance(another, np.ndarray)
    return known and np.array_equal(one.flat[:64], another.flat[:64]) and np.array_equal(one, another)


def window(size: Dim, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> Dim:
    """The number of window positions along one axis, where its extent is known."""
    if not isinstance(size, int):
        return None
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def may_be_partial(size: Dim, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> bool:
    """Whether rounding the number of windows up (ceil_mode) may add one along an axis, at this size or at some size.

    One that would begin behind the pixels is none.  So there is one more where r = (size + before + after - reach) mod stride
    is not 0, reach = dilation (kernel - 1) + 1, and stride - r < reach - after: the window holds a pixel.
    """
    reach = dilation * (kernel - 1) + 1
    if not isinstance(size, int):
        return stride > 1 and reach - padding[1] > 1
    left = (size + sum(padding) - reach) % stride
    return left != 0 and stride - left < reach - padding[1]


def broadcast(shapes: Sequence[tuple[int | Symbol, ...] | None]) -> tuple[int | Symbol | None, ...] | None:
    """The shape to which all of these broadcast, aligned at their last axes."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    rank = max(map(len, known))
    return tuple(_widest(dims) for dims in zip(*((1,) * (rank - len(shape)) + shape for shape in known), strict=True))


def _widest(dims: Sequence[int | Symbol]) -> int | Symbol | None:
    """A number but 1 is the extent of all; without, the one extent there is beside 1: two that are not known may differ."""
    wide = set(dims) - {1}
    numbers = [dim for dim in wide if isinstance(dim, int)]
    return numbers[0] if numbers else 1 if not wide else wide.pop() if len(wide) == 1 else None


@dataclass(frozen=True)
class Sum(Op):
    """sign_1 x_1 + ... + sign_n x_n: Add, Sub and n-ary sums in one; operands may broadcast."""

    signs: tuple[int, ...]

    @classmethod
    def of(cls, *operands: str | Pattern, name: str = "") -> RootPattern:
        """A pattern that matches two terms of an addition tree, whatever else is added."""
        from repcompiler.joins import SumPattern
        from repcompiler.pattern import LinearPattern
        from repcompiler.residual import ChainPattern, ResidualPattern

        first, second = operands
        if isinstance(first, ChainPattern) and isinstance(second, LinearPattern):
            return ResidualPattern(first, second)
        if not (isinstance(first, LinearPattern) and isinstance(second, LinearPattern)):
            raise TypeError("the terms of a sum are matched as linear(...), or the first as chain(...)")
        return SumPattern(first, second)

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return broadcast(shapes)

    def __str__(self) -> str:
        return "Add" if self.signs == (1, 1) else "Sub" if self.signs == (1, -1) else f"Sum{list(self.signs)}"


@dataclass(frozen=True)
class Mul(Op):
    """x y, number by number, neither a constant (that is a Scale); operands may broadcast."""

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return broadcast(shapes)


@dataclass(frozen=True)
class Identity(Op):
    """x itself (also Dropout in eval mode, and casts to the type a value has)."""


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """A tensor that depends on nothing."""

    array: Array

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return tuple(int(size) for size in self.array.shape)


@dataclass(frozen=True, eq=False)
class Opaque(Op):
    """An operation of the document that no rewrite looks into.

    `evaluate` maps the arrays of the node's inputs to the arrays of its outputs; `foldable` says that the result depends
    on nothing else, so that it can be computed once where all inputs are constants.  `reason` says of an operation that is
    linear why it is none of those that a rewrite understands.
    """

    label: str
    evaluate: Callable[[Sequence[Array]], Sequence[Array]] | None = None
    foldable: bool = False
    effect: bool = False
    reason: str = ""

    @property
    def pure(self) -> bool:
        return not self.effect

    @property
    def kind(self) -> str:
        return self.label

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return None
