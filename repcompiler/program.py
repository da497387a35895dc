"""A block of a graph, or an expression that is to take its place, as a list of operations that can be run on anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from repcompiler import interpreter
from repcompiler.ir import Expr, Value
from repcompiler.linear_part import AFFINE, magnitude
from repcompiler.ops import Constant, Conv, Linear, Op, Opaque
from repcompiler.rank_one import RankOne, respond

NDArray = np.ndarray[Any, Any]
Key = Value | Expr
Form = Callable[[Op, int], Op]
"""(operation, how many operations that are not affine it comes behind) -> what is computed in place of it."""
Feeds = Mapping[Value, NDArray | RankOne]


@dataclass(frozen=True)
class Program:
    """Operations in order, each with the keys of its operands; `result` is the key of what comes out.

    `sources` are the values it reads.
    """

    steps: tuple[tuple[Key, Op, tuple[Key, ...]], ...]
    result: Key
    sources: tuple[Value, ...]

    @classmethod
    def of(cls, term: Expr | Value, outside: Iterable[Value]) -> Program:
        """What computes `term` from the values `outside`, and from others that nothing computes."""
        given = set(outside)
        steps: dict[Key, tuple[Key, Op, tuple[Key, ...]]] = {}
        sources: dict[Value, None] = {}
        pending: list[tuple[Key, bool]] = [(term, False)]
        while pending:
            key, known = pending.pop()
            made = _made(key)
            if key in steps or key in sources:
                continue
            if made is None or key in given:
                sources[key] = None  # type: ignore[index]  # an expression is always made
            elif known:
                steps[key] = (key, *made)
            else:
                pending += [(key, True), *((operand, False) for operand in made[1])]
        return cls(tuple(steps.values()), term, tuple(sources))

    @property
    def ops(self) -> list[Op]:
        return [op for _, op, _ in self.steps]

    def readers(self, source: Value) -> list[Op]:
        """The operations that read a source."""
        return [op for _, op, operands in self.steps if source in operands]

    @cached_property
    def levels(self) -> list[int]:
        """For each step, the most operations that are not affine on a way to it."""
        found: dict[Key, int] = {}
        levels = []
        for key, op, operands in self.steps:
            levels.append(max((found.get(operand, 0) for operand in operands), default=0))
            found[key] = levels[-1] + (not isinstance(op, AFFINE))
        return levels

    def run(self, feeds: Feeds, form: Form = lambda op, level: op, size: bool = False) -> dict[Key, NDArray]:
        """Every value in float64, each operation in the given form; `size`: in magnitudes, of the inputs as well."""
        made: dict[Key, Any] = {value: _absolute(array) if size else array for value, array in feeds.items()}
        for (key, op, operands), level in zip(self.steps, self.levels, strict=True):
            made[key] = _apply(form(op, level), [made[operand] for operand in operands], size)
        if isinstance(given := made[self.result], RankOne):
            made[self.result] = given.dense()
        return made


def _made(key: Key) -> tuple[Op, tuple[Key, ...]] | None:
    """By what, and of what; None for a value that is given."""
    if isinstance(key, Expr):
        return key.op, key.operands
    node = key.producer
    if node is None:
        return None if key.constant is None else (Constant(np.asarray(key.constant())), ())
    return None if key is not node.output else (node.op, node.inputs)


def _apply(op: Op, arrays: list[Any], size: bool) -> NDArray:
    if isinstance(op, (Conv, Linear)) and isinstance(arrays[0], RankOne):
        return respond(op, arrays[0], size)
    dense = [array.dense() if isinstance(array, RankOne) else array for array in arrays]
    if not isinstance(op, Opaque):
        return np.asarray(interpreter.evaluate(magnitude(op) if size else op, dense)[0])
    try:
        return np.asarray(interpreter.evaluate(op, dense)[0])
    except Exception as error:  # of whatever runs the document
        raise ValueError(f"{op.label} does not run on numbers that were made up: {error}") from error


def _absolute(array: NDArray | RankOne) -> NDArray | RankOne:
    return array.absolute() if isinstance(array, RankOne) else np.abs(array)
