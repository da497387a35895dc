"""One layer of a block, widened: it goes on computing what it did, and takes the reserved channels along.

    first layer  [W; E]        between  [W 0; 0 S]        last layer  [W D]

Channels between two layers stand in `order` groups: in each its share of the block's own, then its share of the reserved ones.
A layer of as many groups stays one: a depthwise layer that comes first makes two channels of each, [w; 1] x.  What mixes all
channels reads and makes any order, and so does a depthwise layer between; other layers between are of order 1, [W; S] side by
side in groups of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from repcompiler.algebra import add, float64, known_zero, namespace, pad_axis, regroup
from repcompiler.ops import Array, Conv


@dataclass(frozen=True)
class Layer:
    """One widened layer: its size, known at once, and its weights, computed when asked for."""

    outline: Conv
    conv: Callable[[], Conv]


def widened(conv: Conv, other: Conv, orders: tuple[int, int] = (1, 1), first: bool = False, last: bool = False) -> Layer:
    """`conv` on its own channels and `other` on the reserved ones: both read x in the first layer, both add up in the last.

    Of the forms that go with the orders before and behind it, the one of fewest weights.
    """
    rows = (conv.out_channels, other.out_channels) if not last else (0, 0)
    columns = (conv.in_channels, other.in_channels) if not first else (0, 0)
    forms = [Form(1, 0, True), *_grouped(conv, other, orders, first, last)]
    form = min(forms, key=lambda form: form.fan_in(conv, sum(columns)))
    thin = add(thinned(conv), thinned(other), (None,) * len(conv.stride), agreed=True)
    shape = (sum(rows) or conv.out_channels, form.fan_in(conv, sum(columns)), *thin.kernel_size)
    outline = replace(thin, weight=_nothing(shape), bias=_nothing(shape[:1]), groups=form.groups + form.others)

    def build() -> Conv:
        if form.others:
            own = _beside(conv, form.groups, outline.groups, (0, rows[1]))
            reserved = _beside(other, form.others, outline.groups, (rows[0], 0))
        else:
            own, reserved = (_within(op, form.groups, rows, columns, index) for index, op in enumerate((conv, other)))
        wide = add(own, reserved, (None,) * len(conv.stride), agreed=True)
        before, behind = orders
        if form.mixing and before > 1 and not first:
            wide = replace(wide, weight=taken(wide.weight, interleaved(*columns, before), 1))
        if (form.mixing or form.others) and behind > 1 and not last:
            index = interleaved(*rows, behind)
            wide = replace(wide, weight=taken(wide.weight, index), bias=taken(wide.bias, index))
        return wide

    return Layer(outline, build)


class Form(NamedTuple):
    """How a widened layer is grouped."""

    groups: int
    others: int = 0
    """Groups of reserved channels beside those of the layer's own; 0 where each holds some of both."""
    mixing: bool = False
    """Whether any channel may read any other, in any order."""

    def fan_in(self, conv: Conv, columns: int) -> int:
        """Channels that each channel reads, of so many there are; 0 where those of the layer's own are all."""
        return (conv.in_channels if self.others or not columns else columns) // self.groups


def _grouped(conv: Conv, other: Conv, orders: tuple[int, int], first: bool, last: bool) -> Iterator[Form]:
    """The forms in groups."""
    order = orders[first]
    if (last or order == orders[1]) and conv.groups % order == other.groups % order == 0:
        yield Form(order)
    if first or last or orders[0] != orders[1]:
        return
    for own in (own for own in range(conv.groups, 0, -1) if conv.groups % own == 0):
        fan_in, fan_out = conv.in_channels // own, conv.out_channels // own
        others = other.in_channels // fan_in
        equal = others and (other.in_channels, other.out_channels) == (others * fan_in, others * fan_out)
        if equal and other.groups % others == 0 and (order == 1 or fan_in == fan_out == 1):
            yield Form(own, others)


def interleaved(own: int, reserved: int, order: int) -> list[int]:
    """Which channel of [own; reserved] stands where in that many groups."""
    parts = np.arange(own).reshape(order, -1), own + np.arange(reserved).reshape(order, -1)
    return [int(channel) for channel in np.concatenate(parts, axis=1).reshape(-1)]


def recoded(op: Conv, pair: float, doubled: bool) -> Conv:
    """[op; -op] of (p - q) / pair: rows for both signs where `doubled`, columns for both numbers where there are a pair.

    The two of a channel are neighbours, so groups stay groups.
    """
    weight, bias = float64(op.weight), float64(op.bias)
    weight = _alternating(weight / pair, 1) if pair else weight
    if doubled:
        weight, bias = _alternating(weight, 0), _alternating(bias, 0)
    return replace(op, weight=weight, bias=bias)


def _alternating(array: Array, axis: int) -> Array:
    """a, -a, b, -b ... along an axis."""
    xp = namespace(array)
    both = xp.stack([array, -array], axis=axis + 1)
    return xp.reshape(both, (*array.shape[:axis], 2 * array.shape[axis], *array.shape[axis + 1 :]))


def _beside(op: Conv, groups: int, total: int, rows: tuple[int, int]) -> Conv:
    """`op` in `groups` of `total` groups, with so many rows of zeros around its kernel."""
    return replace(op, weight=pad_axis(regroup(op, groups), 0, *rows), bias=pad_axis(float64(op.bias), 0, *rows), groups=total)


def _within(op: Conv, groups: int, rows: tuple[int, int], columns: tuple[int, int], index: int) -> Conv:
    """`op` as part `index` of each of so many groups: zeros for the rows and columns of the other part."""
    weight, bias = regroup(op, groups), float64(op.bias)
    xp = namespace(weight)
    weight, bias = xp.reshape(weight, (groups, -1, *weight.shape[1:])), xp.reshape(bias, (groups, -1))
    above, left = (parts[0] // groups * index for parts in (rows, columns))
    below, right = (parts[1] // groups * (1 - index) for parts in (rows, columns))
    weight, bias = pad_axis(pad_axis(weight, 1, above, below), 2, left, right), pad_axis(bias, 1, above, below)
    return replace(op, weight=xp.reshape(weight, (-1, *weight.shape[2:])), bias=xp.reshape(bias, (-1,)), groups=groups)


def live(op: Conv, axis: int) -> list[int] | None:
    """The outputs (axis 0) or inputs (1) that are not zero whatever is read; None for all, as of live parameters."""
    if not isinstance(op.weight, np.ndarray) or (axis and op.groups > 1):
        return None
    used = np.asarray(op.weight.any(axis=tuple(other for other in range(op.weight.ndim) if other != axis)))
    index = np.flatnonzero(used if axis else used | (op.bias != 0))
    return index.tolist() if 0 < len(index) < len(used) else None


def chosen(op: Conv, rows: Sequence[int] | None, columns: Sequence[int] | None) -> Conv:
    """`op` with these outputs alone, of these inputs alone; None for all."""
    if rows is not None:
        op = replace(op, weight=taken(regroup(op, 1), rows), bias=taken(float64(op.bias), rows), groups=1)
    return op if columns is None else replace(op, weight=taken(regroup(op, 1), columns, 1), groups=1)


def taken(array: Array, index: Sequence[int], axis: int = 0) -> Array:
    """What is at these places of an axis."""
    xp = namespace(array)
    return xp.take(array, xp.asarray(index, device=array.device), axis=axis)


def _nothing(shape: Sequence[int]) -> Array:
    """Zeros that take no memory."""
    return np.broadcast_to(np.zeros(()), tuple(map(int, shape)))


def thinned(conv: Conv) -> Conv:
    """Its geometry: one channel, every tap one."""
    bias = np.zeros(1) if known_zero(conv.bias) else np.ones(1)
    return replace(conv, weight=np.ones((1, 1, *conv.kernel_size)), bias=bias, groups=1)
