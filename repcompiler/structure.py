"""The forms a convolution has: what its zeros, its ones and its repetitions say it is.

    one tap of value 1 an output        ->  a selection of channels, or nothing at all
    one tap a channel, no border        ->  a scale
    a frame of zeros                    ->  a smaller kernel, less padding
    zeros between taps                  ->  dilation
    blocks of zeros, in any order       ->  groups, between selections of channels
    W[o] an outer product               ->  a kernel without some axes, then a depthwise one along those
    equal output channels               ->  one of each, then a selection
    negative padding                    ->  a crop, then the convolution
    no spatial axes                     ->  a fully connected layer

All exact.  Only known weights (numpy) are looked into; live parameters stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import combinations
from math import gcd, prod
from typing import Any

import numpy as np

from repcompiler.algebra import float64, is_diagonal, known_zero, namespace, regroup
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, ConvTranspose, Identity, Linear, LinearOp, Pad, Scale, Select
from repcompiler.refusal import refuse

NDArray = np.ndarray[Any, Any]

EXACT = 4 * np.finfo(np.float64).eps
"""How far an outer product may be off, relative to the largest number: products rounded once in float64."""


def forms(op: Conv, x: Expr | Value) -> tuple[Expr, ...]:
    """Expressions for op(x), the plainest first; which one is cheapest is for the rewriter to say."""
    return tuple(_forms(op, x))


def _forms(op: Conv, x: Expr | Value) -> Iterator[Expr]:
    crop = tuple((min(before, 0), min(after, 0)) for before, after in op.padding)
    if any(map(any, crop)):
        if not _fits(op, x):
            refuse("it would crop more than the smallest images have")
        padding = tuple((max(before, 0), max(after, 0)) for before, after in op.padding)
        yield from _forms(replace(op, padding=padding), Pad(crop)(x))
        return
    if not op.stride:
        yield _connected(grouped(op), x)
        return
    op = dilated(cropped(op, inside=True))
    pointwise = prod(op.kernel_size) == 1 and prod(op.stride) == 1 and not any(map(any, op.padding))
    if pointwise and (index := selection(op)) is not None:
        yield Identity()(x) if index == tuple(range(op.in_channels)) else Select(index)(x)
        return
    finest = grouped(op)
    if pointwise and is_diagonal(finest):
        yield Scale(namespace(op.weight).reshape(float64(finest.weight), (-1,)), op.bias)(x)
        return
    yield finest(x)
    if finest is not op:
        yield op(x)
    smaller = cropped(op, inside=False)
    if smaller is not op and _fits(smaller, x):
        yield from _forms(smaller, x)
    for parts in (*factors(finest), *blocks(op), *distinct(op)):
        yield reduce(lambda term, part: part(term), parts[1:], parts[0](x))


def _connected(op: Conv, x: Expr | Value) -> Expr:
    """The form of a convolution without spatial axes."""
    shape = shape_of(x)
    if shape is None or not is_diagonal(op):
        return Linear(regroup(op, 1), op.bias)(x)
    if selection(op) == tuple(range(op.in_channels)):
        return Identity()(x)
    return Scale(namespace(op.weight).reshape(float64(op.weight), (-1,)), op.bias, axis=len(shape) - 1)(x)


def _fits(op: Conv, x: Expr | Value) -> bool:
    """Whether every image that `op` can read, n >= extent - padding pixels, is larger than what its negative padding crops."""
    sizes = x.spatial(len(op.stride)) if isinstance(x, Value) else [None] * len(op.stride)
    least = [max(e - sum(p), 1) if n is None else n for n, e, p in zip(sizes, op.extent, op.padding, strict=True)]
    return all(n > -sum(min(amount, 0) for amount in pair) for n, pair in zip(least, op.padding, strict=True))


def cropped(op: Conv, inside: bool) -> Conv:
    """`op` without the zero taps around its kernel.  `inside`: only where padding, not negative, makes up for them."""
    used = _used_taps(op)
    if used is None:
        return op
    index: list[slice] = [slice(None), slice(None)]
    padding = []
    for axis, (taps, step, (before, after)) in enumerate(zip(used, op.dilation, op.padding, strict=True)):
        size = op.kernel_size[axis]
        first, last = (int(taps[0]), int(taps[-1])) if len(taps) else (0, 0)
        if inside:
            first = min(first, before // step)
            last = max(last, size - 1 - after // step)
        index.append(slice(first, last + 1))
        padding.append((before - first * step, after - (size - 1 - last) * step))
    if tuple(padding) == op.padding:
        return op
    return replace(op, weight=op.weight[tuple(index)], padding=tuple(padding))


def dilated(op: Conv) -> Conv:
    """`op` without the zeros that stand between its taps at every place of a lattice."""
    used = _used_taps(op)
    if used is None:
        return op
    steps = [gcd(size - 1, *map(int, taps)) or 1 for taps, size in zip(used, op.kernel_size, strict=True)]
    if prod(steps) == 1:
        return op
    weight = op.weight[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
    return replace(op, weight=weight, dilation=tuple(d * step for d, step in zip(op.dilation, steps, strict=True)))


def grouped(op: Conv) -> Conv:
    """`op` with as many groups as its zero blocks allow."""
    if not _may_have_zeros(op):
        return op
    used = op.weight.reshape(*op.weight.shape[:2], -1).any(axis=2)  # (O, I/g)
    for ratio in _divisors(gcd(op.weight.shape[1], op.out_channels // op.groups)):
        squares = used.reshape(op.groups, ratio, -1, ratio, op.weight.shape[1] // ratio).any(axis=(2, 4))
        if not (squares & ~np.eye(ratio, dtype=bool)).any():
            parts = op.weight.reshape(op.groups, ratio, -1, ratio, op.weight.shape[1] // ratio, *op.kernel_size)
            diagonal = np.stack([parts[:, index, :, index] for index in range(ratio)], axis=1)
            weight = diagonal.reshape(op.out_channels, -1, *op.kernel_size)
            return replace(op, weight=weight, groups=op.groups * ratio)
    return op


def blocks(op: Conv) -> Iterator[tuple[Select, Conv, Select]]:
    """A selection, a grouped convolution and a selection, where equal blocks of zeros show in another order of channels."""
    if op.groups > 1 or not _may_have_zeros(op):
        return
    used = op.weight.reshape(*op.weight.shape[:2], -1).any(axis=2)  # (O, I)
    parts = list(_parts(used))
    rows, columns = [o for outputs, _ in parts for o in outputs], [i for _, inputs in parts for i in inputs]
    sizes = {(len(outputs), len(inputs)) for outputs, inputs in parts}
    if len(parts) == 1 or len(sizes) > 1 or len(rows) < op.out_channels or len(columns) < op.in_channels:
        return
    sorted_op = replace(op, weight=op.weight[rows][:, columns], bias=float64(op.bias)[rows])
    yield Select(tuple(columns)), grouped(sorted_op), Select(tuple(map(int, np.argsort(rows))))


def _parts(used: NDArray) -> Iterator[tuple[list[int], list[int]]]:
    """(outputs, inputs) of each part of the graph that has an edge wherever `used`, outputs by inputs, is true."""
    free = used.any(axis=1)
    while free.any():
        first = free.argmax()
        rows, columns = np.arange(len(used)) == first, used[first]
        while (more := used[:, columns].any(axis=1)).sum() > rows.sum():
            rows, columns = more, used[more].any(axis=0)
        free &= ~rows
        yield np.flatnonzero(rows).tolist(), np.flatnonzero(columns).tolist()


def factors(op: Conv) -> Iterator[tuple[Conv, Conv]]:
    """A convolution without some axes and a depthwise one along those: where each W[o] is an outer product of the two.

    Exact at the border: the second pads along axes that the first neither pads nor reaches along, and the first has no bias.
    """
    spatial = [axis for axis, size in enumerate(op.kernel_size) if size > 1]
    for count in range(1, len(spatial) + 1) if isinstance(op.weight, np.ndarray) else ():
        for along in combinations(spatial, count):
            if op.weight.shape[1] == 1 and count == len(spatial):
                continue  # already depthwise along all its axes
            outer = _outer(op.weight, [axis + 2 for axis in along])
            if outer is not None:
                yield _without(op, along, outer[0]), _only(op, along, outer[1])


def _without(op: Conv, along: tuple[int, ...], weight: NDArray) -> Conv:
    """The part of `op` that does not reach along these axes."""
    stride = tuple(1 if axis in along else size for axis, size in enumerate(op.stride))
    padding = tuple((0, 0) if axis in along else pair for axis, pair in enumerate(op.padding))
    dilation = tuple(1 if axis in along else size for axis, size in enumerate(op.dilation))
    return Conv(weight, np.zeros(op.out_channels), stride, padding, dilation, op.groups)


def _only(op: Conv, along: tuple[int, ...], weight: NDArray) -> Conv:
    """The depthwise part along these axes."""
    rest = tuple(axis for axis in range(len(op.stride)) if axis not in along)
    return replace(_without(op, rest, weight), bias=op.bias, groups=op.out_channels)


def _outer(weight: NDArray, along: list[int]) -> tuple[NDArray, NDArray] | None:
    """(u, v) with W[o] = u[o] v[o], v over the axes `along` and u over the others; None where there are none."""
    rest = [axis for axis in range(1, weight.ndim) if axis not in along]
    for kernels in (weight[:1], weight):  # most are none from their first row on
        ordered = kernels.transpose(0, *rest, *along).astype(np.float64)
        part = ordered.reshape(len(kernels), prod(weight.shape[axis] for axis in rest), -1)
        top = np.abs(part).reshape(len(part), -1).argmax(axis=1)
        each = np.arange(len(part))
        row, column = np.divmod(top, part.shape[2])
        peak = part[each, row, column]
        v = part[each, row] / np.where(peak == 0, 1.0, peak)[:, None]
        u = part[each, :, column]
        if (np.abs(part - u[:, :, None] * v[:, None]).max(axis=(1, 2)) > EXACT * np.abs(peak)).any():
            return None
    kept = [1 if axis in along else weight.shape[axis] for axis in range(weight.ndim)]
    only = [weight.shape[axis] if axis in along else 1 for axis in range(2, weight.ndim)]
    return u.reshape(kept), v.reshape(len(weight), 1, *only)


def distinct(op: LinearOp) -> Iterator[tuple[Any, Select]]:
    """One of each kind of output channel, and a selection that repeats them; not of a transposed convolution."""
    if not isinstance(op.weight, np.ndarray) or isinstance(op, ConvTranspose) or (isinstance(op, Conv) and op.groups > 1):
        return
    weight = op.weight.reshape(op.out_channels, -1)
    _, which, count = np.unique(weight[:, 0], return_inverse=True, return_counts=True)
    alike = np.flatnonzero(count[which] > 1)  # of large weights few rows begin with the same number, and need to be read
    rows = np.concatenate([float64(weight[alike]), float64(op.bias)[alike, None]], axis=1)
    known = {int(number): row.tobytes() for number, row in zip(alike, rows, strict=True)}
    kinds: dict[bytes | int, int] = {}
    index = [kinds.setdefault(known.get(number, number), len(kinds)) for number in range(op.out_channels)]
    if len(kinds) == op.out_channels:
        return
    kept = [index.index(kind) for kind in range(len(kinds))]
    yield replace(op, weight=op.weight[kept], bias=float64(op.bias)[kept]), Select(tuple(index))


def selection(op: Conv) -> tuple[int, ...] | None:
    """The input channel that each output channel copies, where that is all `op` does (one tap, no bias)."""
    if not isinstance(op.weight, np.ndarray) or not known_zero(op.bias) or np.count_nonzero(op.weight) != op.out_channels:
        return None
    matrix = regroup(op, 1).reshape(op.out_channels, op.in_channels)
    index = matrix.argmax(axis=1)
    exact = np.array_equal(matrix, np.eye(matrix.shape[1])[index])
    return tuple(map(int, index)) if exact else None


def _may_have_zeros(op: Conv) -> bool:
    """Whether a tap may be unused, or an input and an output unconnected: not if the first output uses all taps and inputs."""
    return isinstance(op.weight, np.ndarray) and not op.weight[0].all()


def _used_taps(op: Conv) -> list[NDArray] | None:
    """Along each axis, the places where some tap is not zero; None where all are used."""
    if not _may_have_zeros(op):
        return None
    used = op.weight.any(axis=(0, 1))
    axes = range(used.ndim)
    return [np.flatnonzero(used.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]


def _divisors(number: int) -> list[int]:
    """The divisors of a number above 1, the largest first."""
    return [ratio for ratio in range(number, 1, -1) if number % ratio == 0]
