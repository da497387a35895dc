"""Slice assignment to channels, as the concatenation that it makes.

    out[:, a:b] = v         ->  out = cat([out[:, :a], v, out[:, b:]], 1)
    out[:, a:b] += x        ->  out = cat([out[:, :a], out[:, a:b] + x, out[:, b:]], 1)

A write into a view of channels is the same: out[:, a:b].add_(x), out.narrow(1, a, n).copy_(x), view = out[:, a:b]; view += x.
Where nobody could tell: `out` is memory of its own, all that reads it before the write is done with it by then, and all that
reads it afterwards reads the concatenation instead.  RMNet's mobile blocks add to their first channels so.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import fx, nn

from repcompiler.frontends.fx_memory import is_private_write, shares_memory_with, written_by
from repcompiler.frontends.fx_run import SHAPE, TYPICAL

ALL = slice(None)
FUNCTIONAL = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}

COPY = "copy_"
IN_PLACE = {"add_": operator.iadd, "sub_": operator.isub, "mul_": operator.imul, "div_": operator.itruediv, COPY: COPY}
"""Methods that write, as the operators that do the same."""

Part = tuple[range, fx.Node, int]
"""Channels of the memory, the node whose channels they are, and the channel of the memory that is this node's first."""


def settle_slices(region: fx.GraphModule) -> None:
    """Give assignments to channels their functional form."""
    modules = dict(region.named_modules())
    for node in list(region.graph.nodes):
        _settle_view(region, node)
    if not any(node.target is operator.setitem for node in region.graph.nodes):
        return
    for target in list(region.graph.nodes):
        order = {node: index for index, node in enumerate(region.graph.nodes)}
        writes = [user for user in sorted(target.users, key=order.__getitem__) if _is_write(user, target)]
        if writes and all(_is_plain(write, target) for write in writes) and _is_alone(target, writes, order, modules):
            _replace(region, target, writes, order)


def _settle_view(region: fx.GraphModule, write: fx.Node) -> None:
    """A write into a view that nothing else reads, as an assignment to what it is a view of."""
    view = write.args[0] if write.args else None
    into: Any = IN_PLACE.get(str(write.target)) if write.op == "call_method" else write.target
    if into not in (COPY, *FUNCTIONAL) or write.users or write.kwargs or len(write.args) != 2:
        return
    if not isinstance(view, fx.Node) or len(view.users) > 1:
        return
    index = _index_of(view)
    value = write.args[1]
    if index is None or SHAPE not in view.meta or not isinstance(value, fx.Node):
        return
    if into is not COPY:
        write.target, write.op = into, "call_function"
        value = write
    view.target, view.op, view.args = operator.getitem, "call_function", (view.args[0], index)
    with region.graph.inserting_after(write):
        region.graph.call_function(operator.setitem, (*view.args, value))
    if into is COPY:
        region.graph.erase_node(write)
        region.graph.erase_node(view)


def _index_of(view: fx.Node) -> Any:
    """The channels that a view shows, as an index."""
    if view.target is operator.getitem:
        index = view.args[1]  # of anything but slices it may be a copy
        return index if isinstance(index, tuple) and all(isinstance(item, slice) for item in index) else None
    if view.target not in ("narrow", torch.narrow) or view.kwargs or len(view.args) != 4:
        return None
    arguments: Any = view.args
    x, axis, start, length = arguments
    known = isinstance(x, fx.Node) and axis == 1 and type(start) is int and type(length) is int
    return (ALL, slice(start, start + length)) if known and start >= 0 else None


def _is_write(user: fx.Node, target: fx.Node) -> bool:
    return user.target is operator.setitem and user.args[0] is target


def _channels(node: fx.Node) -> range | None:
    """All channels of a map of at least one spatial axis, where they are known."""
    shape, _ = node.meta.get(SHAPE, ((), ""))
    return range(shape[1]) if len(shape) > 2 and isinstance(shape[1], int) else None


def _written(index: object, channels: range) -> range | None:
    """The channels that an index names, if that is all it says."""
    items = index if isinstance(index, tuple) else (index,)
    if len(items) < 2 or not all(isinstance(item, slice) for item in items):
        return None
    bounds = (items[1].start, items[1].stop)
    plain = items[1].step in (None, 1) and all(type(bound) in (int, type(None)) for bound in bounds)
    if not plain or any(item != ALL for item in (*items[:1], *items[2:])):
        return None
    return channels[slice(*bounds)]


def _is_plain(write: fx.Node, target: fx.Node) -> bool:
    """Whether a map of the same type and extents is written to some of the channels."""
    channels, value = _channels(target), write.args[2]
    part = None if channels is None else _written(write.args[1], channels)
    if part is None or write.users or not isinstance(value, fx.Node):
        return False
    (shape, dtype), (stated, stated_dtype) = target.meta[SHAPE], value.meta.get(SHAPE, ((), ""))
    return bool(dtype == stated_dtype and stated == (shape[0], len(part), *shape[2:]))


def _is_alone(target: fx.Node, writes: list[fx.Node], order: Mapping[fx.Node, int], modules: dict[str, nn.Module]) -> bool:
    """Whether nothing else holds the memory, or reads it between what is written and where that is assigned."""
    sources = shares_memory_with(target, modules)
    if target.op in ("placeholder", "get_attr") or len(sources) > 1:
        return False
    if sources and not is_private_write(target, sources[0], modules):
        return False
    users = [user for user in target.users if order[user] < order[writes[-1]] and user not in writes]
    in_place = {view: write for write in writes if (view := _updated(write, target)) is not None}
    for user in users:
        if written_by(user, modules) or (user in in_place and in_place[user].args[2] not in user.users):
            return False
        if target not in shares_memory_with(user, modules) or user in in_place:
            continue
        if any(written_by(reader, modules) or shares_memory_with(reader, modules) for reader in user.users):
            return False
        following = next(order[write] for write in writes if order[write] > order[user])
        if any(order[reader] > following for reader in user.users):
            return False
    for write in in_place.values():
        since = order[write.args[2]]  # type: ignore[index]
        if any(since < order[user] < order[write] for user in target.users):
            return False
    between = (node for node in order if order[writes[0]] < order[node] < order[writes[-1]] and node not in writes)
    others = (node for node in between if node not in (write.args[2] for write in in_place.values()))
    return all(is_private_write(node, value, modules) for node in others for value in written_by(node, modules))


def _updated(write: fx.Node, target: fx.Node) -> fx.Node | None:
    """The view in out[...] += x, of the channels that are written, read by nothing else."""
    update = write.args[2]
    if not isinstance(update, fx.Node) or update.target not in FUNCTIONAL or len(update.users) > 1:
        return None
    view = update.args[0]
    same = isinstance(view, fx.Node) and view.target is operator.getitem and view.args == (target, write.args[1])
    return view if same and isinstance(view, fx.Node) and len(view.users) == 1 else None


def _replace(region: fx.GraphModule, target: fx.Node, writes: list[fx.Node], order: Mapping[fx.Node, int]) -> None:
    channels = _channels(target)
    assert channels is not None
    for update in [write.args[2] for write in writes if _updated(write, target) is not None]:
        assert isinstance(update, fx.Node)
        update.target = FUNCTIONAL[update.target]  # type: ignore[index]
    parts: list[Part] = [(channels, target, 0)]
    for write, following in pairwise((*writes, None)):
        assert write is not None
        part, value = _written(write.args[1], channels), write.args[2]
        assert part is not None
        assert isinstance(value, fx.Node)
        if part:
            parts = [*_outside(parts, part, True), (part, value, part.start), *_outside(parts, part, False)]
        last = len(order) if following is None else order[following]
        readers = [user for user in target.users if order.get(user, -1) > order[write] and order[user] <= last]
        if readers := [reader for reader in readers if reader not in writes]:
            with region.graph.inserting_before(write):
                taken = [_taken(region, item) for item in parts]
                complete = region.graph.call_function(torch.cat, (taken, 1)) if len(taken) > 1 else taken[0]
            complete.meta.update({key: target.meta[key] for key in (SHAPE, TYPICAL) if key in target.meta})
            for reader in readers:
                reader.replace_input_with(target, complete)
    for write in writes:
        region.graph.erase_node(write)
    if not target.users:
        region.graph.erase_node(target)


def _outside(parts: list[Part], written: range, before: bool) -> Iterator[Part]:
    """What is left of the parts before or behind the channels that are written."""
    for channels, node, first in parts:
        left = range(channels.start, min(channels.stop, written.start))
        left = left if before else range(max(channels.start, written.stop), channels.stop)
        if left:
            yield left, node, first


def _taken(region: fx.GraphModule, part: Part) -> fx.Node:
    """These channels, of what has them."""
    channels, node, first = part
    start, stop = channels.start - first, channels.stop - first
    if (start, stop) == (0, node.meta[SHAPE][0][1]):
        return node
    taken = region.graph.call_function(operator.getitem, (node, (ALL, slice(start, stop))))
    shape, dtype = node.meta[SHAPE]
    typical = node.meta.get(TYPICAL)
    taken.meta[SHAPE] = ((shape[0], len(channels), *shape[2:]), dtype)
    taken.meta[TYPICAL] = typical and (typical[0], len(channels), *typical[2:])
    return taken
