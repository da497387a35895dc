"""Leaky ReLUs that are written out: x where it is positive, and a multiple of it elsewhere.

    where(x > 0, x, s x)        max(x, s x), s <= 1        min(x, s x), s >= 1

At zero all of them are zero, so that it does not matter whether zero counts as positive.
"""

from __future__ import annotations

import numpy as np

from repcompiler.algebra import float64, known_zero
from repcompiler.ir import Value
from repcompiler.ops import Array, PRelu, Scale

ABOVE = frozenset(("gt", "ge", "greater", "greater_equal", "greaterorequal"))
BELOW = frozenset(("lt", "le", "less", "less_equal", "lessorequal"))
"""Comparisons of a value with zero, in small letters."""


def chosen(comparison: str, x: Value, positive: Value, negative: Value) -> PRelu | None:
    """Of x: the one value where it compares so with zero, else the other."""
    if comparison in BELOW:
        positive, negative = negative, positive
    slope = _factor(negative, x) if comparison in ABOVE | BELOW and positive is x else None
    return None if slope is None else PRelu(slope)


def extreme(larger: bool, one: Value, other: Value) -> tuple[PRelu, Value] | None:
    """The larger of two values, or the smaller; and the one of which it is an activation."""
    for x, multiple in ((one, other), (other, one)):
        slope = _factor(multiple, x)
        if slope is not None and (float64(slope) <= 1 if larger else float64(slope) >= 1).all():
            return PRelu(slope), x
    return None


def _factor(value: Value, x: Value) -> Array | None:
    """s where a value is s x: a number, or one a channel."""
    node = value.producer
    if node is None or not isinstance(node.op, Scale) or node.inputs[0] is not x or not known_zero(node.op.shift):
        return None
    s = node.op.scale
    return s if isinstance(s, np.ndarray) and (s.size == 1 or node.op.axis == 1) else None
