"""Sums and means of torch over an axis along which values lie side by side.

    torch.stack([a, b, ...], dim).sum(dim)      a + b + ...

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
from repcompiler.ops import Op, Stack


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
    stack = c.value(tensor(x)).producer
    if stack is None or not isinstance(stack.op, Stack) or not stack.op.new or keepdim is not False or dtype is not None:
        return ()
    axis, rank = stack.op.axis, 1 + len(stack.inputs[0].shape or ())
    if dim not in (axis, axis - rank, [axis], [axis - rank], (axis,), (axis - rank,)):
        return ()
    c.state(c.extents(stack.inputs[0].origin) or ())
    return stack.inputs


def _of_nodes(op: Op, terms: Terms) -> Lifted:
    return op, tuple(term if isinstance(term, Expr) else term.origin for term in terms)


SUMS: Mapping[str, Entry] = {"sum": _sum, "mean": _mean}
"""Methods by name; functions of torch and of aten too."""
