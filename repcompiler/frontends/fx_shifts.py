"""Shifts that a forward writes into zeros, as the padded slices that they are.

    y = torch.zeros_like(x);  y[:, a:b, 1:] = x[:, c:d, :-1]        y[:, a:b] = F.pad(x[:, c:d, :-1], (1, 0))

The extents agree whatever they are, for as much goes on the one side as is left free on the other.  A slice of fewer pixels
than are taken off is empty and stays so, while a padding adds its pixels: so it is one pixel, or an extent that is known.
"""

from __future__ import annotations

import operator
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from torch import fx

from repcompiler.frontends.fx_arithmetic import Extent, Extents
from repcompiler.frontends.fx_layout import Undecided, decide
from repcompiler.frontends.fx_run import SHAPE, TYPICAL

ALL = slice(None)


def settle_shifts(region: fx.GraphModule) -> None:
    """Give what is written into fresh channels of zeros the extents of the zeros; bounds that are known are numbers first."""
    for node in region.graph.nodes:
        if node.target in (operator.getitem, operator.setitem) and isinstance(node.args[1], tuple):
            node.args = (node.args[0], tuple(map(_decided, node.args[1])), *node.args[2:])
    for write in list(region.graph.nodes):
        if write.target is operator.setitem:
            _settle(region, write)


def _decided(item: Any) -> Any:
    """An index with numbers for bounds that hold at every size."""
    if not isinstance(item, slice) or not any(isinstance(bound, fx.Node) for bound in (item.start, item.stop)):
        return item
    try:
        bounds = [decide(bound, _extents) for bound in (item.start, item.stop)]
    except Undecided:
        return item
    return slice(bounds[0], bounds[1], item.step) if all(type(bound) in (int, type(None)) for bound in bounds) else item


def _extents(node: fx.Node) -> Extents | None:
    shape = node.meta[SHAPE][0] if SHAPE in node.meta else None
    return shape and tuple(size if isinstance(size, int) else Extent(node, axis) for axis, size in enumerate(shape))


def _settle(region: fx.GraphModule, write: fx.Node) -> None:
    zeros, index, value = write.args
    if not isinstance(zeros, fx.Node) or not isinstance(value, fx.Node) or value.target is not operator.getitem:
        return
    source, taken = value.args
    if zeros.target is not torch.zeros_like or zeros.args != (source,) or zeros.kwargs or SHAPE not in zeros.meta:
        return
    shape = zeros.meta[SHAPE][0]
    put, cut = _parts(index, shape), _parts(taken, shape)
    if put is None or cut is None or len(put[0]) != len(cut[0]) or not any(map(any, put[1])):
        return
    enough = (sum(pair) <= (size if isinstance(size, int) else 1) for pair, size in zip(put[1], shape[2:], strict=True))
    if not all(enough) or [*map(sum, put[1])] != [*map(sum, cut[1])] or not _are_fresh(zeros, put[0], write):
        return
    with region.graph.inserting_before(write):
        padded = region.graph.call_function(F.pad, (value, tuple(chain(*put[1][::-1]))))
    padded.meta[SHAPE] = ((shape[0], len(put[0]), *shape[2:]), zeros.meta[SHAPE][1])
    if typical := zeros.meta.get(TYPICAL):
        padded.meta[TYPICAL] = (typical[0], len(put[0]), *typical[2:])
    write.args = (zeros, (ALL, slice(put[0].start, put[0].stop)), padded)


def _parts(index: Any, shape: Any) -> tuple[range, list[tuple[int, int]]] | None:
    """The channels that an index shows, and how many pixels it leaves out at both ends of each axis; None if it says more."""
    items = (*index, *(ALL,) * (len(shape) - len(index))) if isinstance(index, tuple) else ()
    if len(shape) < 3 or len(items) != len(shape) or not all(isinstance(item, slice) for item in items):
        return None
    bounds = [(item.start or 0, item.stop, item.step) for item in items]
    plain = all(type(a) is int and type(b) in (int, type(None)) and step in (None, 1) for a, b, step in bounds)
    if not plain or items[0] != ALL or not isinstance(shape[1], int):
        return None
    if any(start < 0 or (stop is not None and stop >= 0) for start, stop, _ in bounds[2:]):
        return None
    return range(shape[1])[slice(*bounds[1])], [(start, -(stop or 0)) for start, stop, _ in bounds[2:]]


def _are_fresh(zeros: fx.Node, channels: range, write: fx.Node) -> bool:
    """Whether nothing but writes into other channels has been given the zeros before."""
    order = list(zeros.graph.nodes)
    for user in order[: order.index(write)]:
        if zeros not in user.all_input_nodes:
            continue
        other = _parts(user.args[1], zeros.meta[SHAPE][0]) if user.target is operator.setitem else None
        if other is None or user.args[0] is not zeros or user.args[2] is zeros or {*other[0]} & {*channels}:
            return False
    return True
