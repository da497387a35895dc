"""Sums and means of torch over an axis along which values lie side by side.

    torch.stack([a, b, ...], dim).sum(dim)      a + b + ...
    torch.cat([a.unsqueeze(dim), b.unsqueeze(dim), ...], dim).sum(dim)      the same

Values side by side have equal extents: nothing broadcasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repcompiler.frontends.expressions import Terms, average, total
from repcompiler.frontends.fx_arithmetic import Context, Entry, Lifted, tensor
from repcompiler.frontends.fx_gates import mean_of_pixels
from repcompiler.frontends.fx_modules import Unliftable
from repcompiler.ir import Expr, Value
from repcompiler.ops import Concat, Op, Reshape, Stack


def _sum(c: Context, x: Any, dim: Any = None, keepdim: Any = False, *, dtype: Any = None) -> Lifted:
    values = _stacked(c, x, dim, keepdim, dtype)
    if not values:
        raise Unliftable
    return _of_nodes(*total(values))


def _mean(c: Context, x: Any, dim: Any = None, keepdim: Any = False, *, dtype: Any = None) -> Lifted:
    values = _stacked(c, x, dim, keepdim, dtype)
    return _of_nodes(*average(values)) if values else mean_of_pixels(c, x, dim, keepdim, dtype=dtype)


def _stacked(c: Context, x: Any, dim: Any, keepdim: Any, dtype: Any) -> Sequence[Value]:
    """What lies side by side along the axis that a reduction is over; nothing where it is over another, or the axis stays."""
    stack, shape = c.value(tensor(x)).producer, c.shape(x)
    if stack is None or shape is None or not isinstance(stack.op, (Stack, Concat)) or keepdim is not False or dtype is not None:
        return ()
    axis, rank = (stack.op.axis if isinstance(stack.op, Stack) else 1), len(shape)
    if dim not in (axis, axis - rank, [axis], [axis - rank], (axis,), (axis - rank,)):
        return ()
    new = isinstance(stack.op, Stack) and stack.op.new
    values = stack.inputs if new else [value for part in stack.inputs if (value := without_axis(c, part, axis)) is not None]
    if len(values) < len(stack.inputs):
        return ()
    c.state(c.extents(values[0]) or ())
    return values


def without_axis(c: Context, value: Value, axis: int) -> Value | None:
    """What has been given this axis, if anything has: x.unsqueeze(axis)."""
    made = value.producer
    if made is None or not isinstance(made.op, Reshape) or made.inputs[0].origin is None:
        return None
    before, after = c.extents(made.inputs[0]), c.extents(value)
    if before is None or after != (*before[:axis], 1, *before[axis:]):
        return None
    return made.inputs[0]


def _of_nodes(op: Op, terms: Terms) -> Lifted:
    return op, tuple(term if isinstance(term, Expr) else term.origin for term in terms)


SUMS: Mapping[str, Entry] = {"sum": _sum, "mean": _mean}
"""Methods by name; functions of torch and of aten too."""
