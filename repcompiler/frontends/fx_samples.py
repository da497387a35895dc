"""Convolutions whose kernel is computed: one for all samples, or one a sample, the samples as groups of one convolution.

    weight = mixed.view(batch * out, in // groups, kh, kw)
    y = F.conv2d(x.reshape(1, batch * in, h, w), weight, None, stride, padding, dilation, groups * batch)
    y = y.permute(1, 0, 2, 3).view(batch, out, y.size(-2), y.size(-1))

That is how dynamic convolutions (CondConv, DynamicConv) are written: the last view is the convolution of each sample, and what
leads to it is part of it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeGuard

from torch import fx

from repcompiler.frontends.fx_arithmetic import Context, Extent, Lifted
from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_layout import RESHAPES, Undecided, decide, keeps_pixels
from repcompiler.frontends.fx_modules import Unliftable, both_sides, or_zeros, spread
from repcompiler.ops import Array, DynamicConv

MEMBERS = "repcompiler_members"
"""Key of `fx.Node.meta`: the nodes that stay or go with this one."""

Members = tuple[fx.Node, ...]


def computed_kernel(
    c: Context, x: fx.Node, weight: Any, bias: Array | None, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Lifted:
    """A convolution by one kernel that depends on data."""
    shape = c.shape(weight) if isinstance(weight, fx.Node) else None
    if shape is None or not all(isinstance(size, int) for size in shape) or type(groups) is not int:
        raise Unliftable
    sizes = tuple(size for size in shape if isinstance(size, int))
    if not c.is_floating(weight):
        raise Unliftable
    return _dynamic(sizes, or_zeros(bias, sizes[0]), stride, padding, dilation, groups), (x, weight)


def _dynamic(
    shape: tuple[int, ...], bias: Array, stride: Any, padding: Any, dilation: Any, groups: int, each: bool = False
) -> DynamicConv:
    axes = len(shape) - 2
    if isinstance(padding, str) or axes < 1:
        raise Unliftable
    geometry = spread(stride, axes), both_sides(padding, axes), spread(dilation, axes)
    return DynamicConv(shape, bias, *geometry, groups, each)


def samples_as_groups(c: Context, view: fx.Node) -> tuple[Lifted, Members] | None:
    """The convolution of each sample that `view` is, of (images, kernels), and what is part of it; None where it is none."""
    if not _is_reshape(view) or not isinstance(view.args[0], fx.Node):
        return None
    conv = _unswapped(view.args[0])
    if target_name(conv.target) not in ("conv1d", "conv2d", "conv3d") or conv.op != "call_function":
        return None
    try:
        joined, weight, bias, stride, padding, dilation, groups = _arguments(*conv.args, **conv.kwargs)
        if bias is not None or not (_is_reshape(joined) and _is_reshape(weight)):
            return None
        shape, extents = _kernel(c, joined, weight, view, groups)
        each = _factor(c, groups, _batch(c, joined))
        op = _dynamic(shape, or_zeros(None, shape[0]), stride, padding, dilation, each, each=True)
        known, made = c.extents(joined.args[0]) or (), c.extents(conv) or ()
        if extents != [*made[2:]] and not (keeps_pixels(op) and extents == [*known[2:]]):
            return None
    except (Undecided, Unliftable, TypeError, ValueError):
        return None
    operands = joined.args[0], weight.args[0]
    members = _members(view, operands)
    return ((op, operands), members) if {conv, joined, weight} <= {*members} else None


def _batch(c: Context, joined: Any) -> int | Extent:
    known = c.extents(joined.args[0])
    if known is None:
        raise Undecided
    return known[0]


def _kernel(c: Context, joined: Any, weight: Any, view: Any, groups: Any) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of one sample's kernel, and the extents that are said of the result.

    Raises Undecided or Unliftable unless it is certain that the samples are groups.
    What torch makes sure of needs no proof: that a reshape keeps the count of numbers, and that kernels and groups fit.
    """
    x, kernels = joined.args[0], weight.args[0]
    known, batch = c.extents(x), _batch(c, joined)
    if known is None or not (c.is_floating(x) and c.is_floating(kernels)):
        raise Unliftable
    (one, inner, *tail), (rows, *kernel), (outer, out, *rest) = map(_sizes, (joined, weight, view))
    by_rows = None if rows == -1 else _factor(c, rows, batch)
    out_channels = by_rows if out == -1 else decide(out, c.extents)
    channels = known[1] if inner == -1 else _factor(c, inner, batch)
    counted = out_channels == by_rows if outer == -1 else decide(outer, c.extents) == batch
    shape = (out_channels, *_decided(c, kernel))
    if one != 1 or not counted or _decided(c, tail) != [*known[2:]]:
        raise Unliftable
    if not all(type(size) is int and size > 0 for size in shape) or (c.shape(weight) or ())[1:] != shape[1:]:
        raise Unliftable
    if channels != known[1] or _factor(c, groups, batch) * shape[1] != channels:
        raise Unliftable
    return shape, _decided(c, rest)


def _members(view: fx.Node, operands: Sequence[fx.Node]) -> Members:
    """What only leads from the operands to `view`, last things first."""
    found = {view: None}
    for node in reversed(view.graph.nodes):
        if node.op.startswith("call") and node not in operands and node.users and found.keys() >= node.users.keys():
            found[node] = None
    return tuple(found)[1:]


def _arguments(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> tuple[Any, ...]:
    return x, weight, bias, stride, padding, dilation, groups


def _unswapped(node: fx.Node) -> fx.Node:
    """What the one sample of a result was exchanged with its channels of."""
    name, rest = target_name(node.target), node.args[1:]
    order = rest[0] if len(rest) == 1 and isinstance(rest[0], (tuple, list)) else rest
    swapped = (name == "permute" and list(order[:2]) == [1, 0] and list(order[2:]) == list(range(2, len(order)))) or (
        name in ("transpose", "swapaxes") and set(order) == {0, 1}
    )
    return node.args[0] if swapped and isinstance(node.args[0], fx.Node) else node


def _is_reshape(node: Any) -> TypeGuard[Any]:
    return isinstance(node, fx.Node) and target_name(node.target) in RESHAPES and isinstance(node.args[0], fx.Node)


def _sizes(node: fx.Node) -> Sequence[Any]:
    sizes: Any = node.args[1:]
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def _factor(c: Context, term: Any, batch: int | Extent) -> int:
    """n, where `term` is n times the batch; raises Undecided where it is not."""
    numbers, extents = 1, []
    pending = [term]
    while pending:
        part = pending.pop()
        if isinstance(part, fx.Node) and part.target is operator.mul:
            pending += part.args
            continue
        value = decide(part, c.extents)
        if type(value) is int:
            numbers *= value
        else:
            extents.append(value)
    if extents == [batch]:
        return numbers
    if extents or not isinstance(batch, int) or numbers % batch:
        raise Undecided
    return numbers // batch


def _decided(c: Context, sizes: Sequence[Any]) -> list[Any]:
    return [decide(size, c.extents) for size in sizes]
