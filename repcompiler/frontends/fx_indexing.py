"""Slices, parts of a split, choices and concatenations of torch: of pixels, or of the channels of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import fx

from repcompiler.frontends.fx_arithmetic import Context, Entry, Lifted, tensor
from repcompiler.frontends.fx_containers import split_of
from repcompiler.frontends.fx_gates import select, stack_singles
from repcompiler.frontends.fx_layout import Undecided, decide, reshape
from repcompiler.frontends.fx_modules import Unliftable
from repcompiler.frontends.fx_sums import without_axis
from repcompiler.ir import Shape
from repcompiler.ops import Concat, Identity, Op, Pad, Reshape, Select, Subsample

ALL = slice(None)


def getitem(c: Context, x: Any, index: Any) -> Lifted:
    """x[:, a:b], x[:, :, ::s, ::s], x[:, :, a:-b, a:-b], and x.chunk(n, 1)[i]."""
    if type(index) is int and not c.is_floating(tensor(x)):
        return _part(c, tensor(x), index)
    shape, index = c.shape(x), index if isinstance(index, tuple) else (index,)
    index = index if shape is None else _spelt_out(index, len(shape))
    if [type(item) for item in index if item is not ALL and item != ALL] == [int]:
        axis = next(axis for axis, item in enumerate(index) if type(item) is int)
        return select(c, x, axis, index[axis])
    listed = _numbers(c, index[1]) if shape is not None and len(index) > 1 else None
    if listed is not None and all(item == ALL for item in (index[0], *index[2:])):
        return _listed(c, x, listed)
    if shape is not None and all(item is None or item == ALL for item in index) and None in index:
        return _new_axes(c, x, index)
    if shape is None or len(shape) < 3 or not c.is_floating(x):
        raise Unliftable
    slices = [*index, *(ALL,) * (len(shape) - len(index))]
    if len(slices) != len(shape) or not all(isinstance(item, slice) for item in slices) or slices[0] != ALL:
        raise Unliftable
    if not all(type(bound) in (int, type(None)) for item in slices for bound in (item.start, item.stop, item.step)):
        raise Unliftable
    if slices[1] != ALL:
        chosen = _select(range(_channels(c, x, 1))[slices[1]])
        return (_of_pixels(slices[2:]), (chosen(c.value(x)),)) if any(item != ALL for item in slices[2:]) else (chosen, (x,))
    return _of_pixels(slices[2:]), (x,)


def _spelt_out(index: Sequence[Any], rank: int) -> Sequence[Any]:
    """An index with all axes that ... stands for."""
    at = next((place for place, item in enumerate(index) if item is Ellipsis), None)
    if at is None:
        return index
    said = sum(item is not None for item in index) - 1
    return (*index[:at], *(ALL,) * (rank - said), *index[at + 1 :])


def _numbers(c: Context, index: Any) -> list[Any] | None:
    """A list of places, written as one or as a constant vector."""
    if isinstance(index, fx.Node) and (read := c.value(index).constant) is not None:
        array = np.asarray(read())
        return array.tolist() if array.ndim == 1 and array.dtype.kind == "i" else None
    return index if isinstance(index, list) else None


def _listed(c: Context, x: Any, index: Sequence[Any]) -> Lifted:
    """x[:, [2, 0, 1]]."""
    channels = _channels(c, x, 1)
    if not all(type(item) is int and -channels <= item < channels for item in index):
        raise Unliftable
    return _select([item % channels for item in index]), (tensor(x),)


def _new_axes(c: Context, x: Any, index: Sequence[Any]) -> Lifted:
    """x[:, :, None, None]."""
    extents = iter(c.extents(x) or ())
    return reshape(c, x, *(1 if item is None else next(extents) for item in index), *extents)


def _of_pixels(slices: Sequence[slice]) -> Op:
    bounds = [(item.start or 0, item.stop or 0, item.step or 1) for item in slices]
    if any(start < 0 or stop > 0 for start, stop, _ in bounds) or any(item.stop == 0 for item in slices):
        raise Unliftable  # counted from the other end: how much goes depends on the extent
    first, last, stride = zip(*bounds, strict=True)
    if any(step != 1 for step in stride) or not any((*first, *last)):
        if any(last):
            raise Unliftable
        return Subsample(stride, first if any(first) else ())
    return Pad(tuple((-start, stop) for start, stop, _ in bounds))


def _part(c: Context, parts: fx.Node, number: int) -> Lifted:
    """One part of a split along channels."""
    split = split_of(parts)
    if split is None or not parts.args:
        raise Unliftable
    (function, sizes, dim), x = split, parts.args[0]
    channels = _channels(c, x, dim)
    if function == "tensor_split":
        return _select(range(channels)[_bounds(sizes, channels, number)]), (tensor(x),)
    if type(sizes) is int:
        size = -(-channels // sizes) if function == "chunk" else sizes
        sizes = [size] * (-(-channels // size))
    if not isinstance(sizes, (tuple, list)) or not all(type(size) is int for size in sizes) or not -1 < number < len(sizes):
        raise Unliftable
    start = sum(sizes[:number])
    return _select(range(channels)[start : start + sizes[number]]), (tensor(x),)


def _bounds(sections: Any, extent: int, number: int) -> slice:
    """Of one part of a tensor_split: of nearly equal parts, larger ones first, or of those between given indices."""
    if type(sections) is int and sections > 0:
        sections = [index * (extent // sections) + min(index, extent % sections) for index in range(1, sections)]
    if not isinstance(sections, (tuple, list)) or not all(type(index) is int for index in sections):
        raise Unliftable
    if not -1 < number <= len(sections):
        raise Unliftable
    return slice(*(0, *sections, None)[number : number + 2])


def concatenate(c: Context, tensors: Any, dim: Any = 0) -> Lifted:
    """Along channels."""
    parts = tuple(map(tensor, tensors)) if isinstance(tensors, (tuple, list)) else ()
    if all(isinstance(part, fx.Node) and _is_single(c.shape(part), dim) for part in parts) and parts:
        return stack_singles(c, tensors, dim)
    ranks = {None if (shape := c.shape(part)) is None else len(shape) for part in parts}
    rank = next(iter(ranks), None)
    if len(ranks) != 1 or rank is None or rank < 3 or type(dim) is not int or dim % rank != 1:
        raise Unliftable
    if not all(c.is_floating(part) and c.constant(part) is None for part in parts):
        raise Unliftable
    parts = tuple(part for part in parts if not _is_empty(c.shape(part)))
    if not parts:
        raise Unliftable
    return (Concat(), parts) if len(parts) > 1 else (Identity(), parts)


def _is_empty(shape: Shape | None) -> bool:
    return shape is not None and shape[1] == 0


def _is_single(shape: Shape | None, dim: Any) -> bool:
    """Whether an axis that is not that of the channels has one number."""
    rank = 0 if shape is None else len(shape)
    return shape is not None and type(dim) is int and -rank <= dim < rank and dim % rank != 1 and shape[dim] == 1


def flip(c: Context, x: Any, *axes: Any, dims: Any = ()) -> Lifted:
    """Channels in the opposite order."""
    (given,) = axes if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else (axes or dims,)
    if len(given) != 1:
        raise Unliftable
    return _select(range(_channels(c, x, given[0]))[::-1]), (tensor(x),)


def _index_select(c: Context, x: Any, dim: Any, index: Any) -> Lifted:
    _channels(c, x, dim)
    return _listed(c, x, _numbers(c, index) or ())


def _repeat_interleave(c: Context, x: Any, repeats: Any, dim: Any = None, *, output_size: Any = None) -> Lifted:
    """Each channel several times."""
    channels = _channels(c, x, dim)
    if type(repeats) is not int:
        raise Unliftable
    return _select([channel for channel in range(channels) for _ in range(repeats)]), (tensor(x),)


def _repeat(c: Context, x: Any, *sizes: Any, repeats: Any = ()) -> Lifted:
    """All channels several times, or the one place of a new axis beside them."""
    rank, counts = len(c.shape(tensor(x)) or ()), _unpacked(sizes or repeats)
    counts = (*(1,) * (rank - len(counts)), *counts)
    several = [axis for axis, count in enumerate(counts) if count != 1]
    if len(counts) != rank or len(several) != 1 or type(counts[several[0]]) is not int:
        raise Unliftable
    copied = _copied(c, x, several[0], counts[several[0]])
    if copied is not None:
        return copied
    channels = _channels(c, x, several[0])
    return _select([*range(channels)] * counts[1]), (x,)


def _tile(c: Context, x: Any, *sizes: Any, dims: Any = ()) -> Lifted:
    return _repeat(c, x, *sizes, repeats=dims)


def _expand(c: Context, x: Any, *sizes: Any, size: Any = ()) -> Lifted:
    """The one channel several times, or the one place of a new axis beside the channels."""
    wanted, known = [_size(c, item) for item in _unpacked(sizes or size)], c.extents(tensor(x)) or ()
    if len(wanted) != len(known):
        raise Unliftable
    several = [axis for axis, item in enumerate(wanted) if item not in (-1, known[axis])]
    if len(several) != 1 or known[several[0]] != 1 or type(count := wanted[several[0]]) is not int or count < 1:
        raise Unliftable
    copied = _copied(c, x, several[0], count)
    if copied is not None:
        return copied
    _channels(c, x, several[0])
    return _select([0] * count), (x,)


def _size(c: Context, item: Any) -> Any:
    try:
        return decide(item, c.extents)
    except Undecided:
        return None


def _copied(c: Context, x: fx.Node, axis: int, count: int) -> Lifted | None:
    """x.unsqueeze(axis) several times along that axis, the first or the second behind the batch: as copies of channels."""
    image = without_axis(c, c.value(x), axis) if axis in (1, 2) and c.is_floating(x) else None
    shape = () if image is None else image.shape or ()
    if image is None or len(shape) < 3 or not isinstance(channels := shape[1], int) or count < 1:
        return None
    index = [channel for channel in range(channels) for _ in range(count)] if axis == 2 else [*range(channels)] * count
    known = c.extents(x) or ()
    c.state((*known[:axis], count, *known[axis + 1 :]))
    grid = (channels, count) if axis == 2 else (count, channels)
    return Reshape((0, *grid), len(shape) - 2), (_select(index)(image),)


def _unpacked(sizes: Any) -> tuple[Any, ...]:
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else tuple(sizes)


def channel_shuffle(c: Context, x: Any, groups: Any) -> Lifted:
    """Channels as a grid of `groups` rows, read by columns."""
    channels = _channels(c, x, 1)
    if type(groups) is not int or channels % groups:
        raise Unliftable
    width = channels // groups
    return _select([row * width + column for column in range(width) for row in range(groups)]), (tensor(x),)


def _channels(c: Context, x: Any, axis: Any) -> int:
    """How many an image has; refuses where `axis` is another one."""
    shape = c.shape(tensor(x))
    if shape is None or len(shape) < 3 or type(axis) is not int or axis % len(shape) != 1 or not c.is_floating(x):
        raise Unliftable
    if not isinstance(shape[1], int):
        raise Unliftable
    return shape[1]


def _select(index: Sequence[int]) -> Select:
    if not index:
        raise Unliftable
    return Select(tuple(index))


CHOICES: Mapping[str, Entry] = {
    "flip": flip,
    "index_select": _index_select,
    "repeat_interleave": _repeat_interleave,
    "repeat": _repeat,
    "tile": _tile,
    "expand": _expand,
}
"""Methods by name; most are functions of torch and of aten too."""
