"""Kernel algebra: the weight of a composition, of a sum, of a scaled convolution.

Written against the array API and in float64, so the same equations run on numpy arrays (compiling) and on torch tensors
with autograd (training).  Nothing here asks for the value of a weight, except `known_zero`, which answers no on anything but
numpy.  Kernels are cross-correlation kernels (torch, ONNX): (O, I/groups, *spatial).

Sources: Ding et al., Diverse Branch Block, CVPR 2021, Transforms I-VI; Ding et al., UniRepLKNet, CVPR 2024 (dilation as
zero insertion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import gcd, prod
from typing import Any, TypeVar

import numpy as np

from repcompiler.ops import Affine, Array, BatchNorm, Conv, ConvTranspose, Linear, LinearOp
from repcompiler.refusal import refuse

Kind = TypeVar("Kind", bound=LinearOp)


def namespace(array: Array) -> Any:
    """The array-API namespace of `array`: numpy is one itself, others come through array-api-compat."""
    if isinstance(array, np.ndarray):
        return np
    from array_api_compat import array_namespace

    return array_namespace(array)


def float64(array: Array) -> Array:
    """`array` in double precision, in which all arithmetic on weights is done."""
    if isinstance(array, np.ndarray):
        return array.astype(np.float64, copy=False)  # ml_dtypes (bfloat16) are unknown to the array API
    xp = namespace(array)
    return xp.astype(array, xp.float64)


def factor(array: Array) -> Array:
    """`array` as a factor of a float64 array: as it is where the product will be float64 anyhow, which spares a copy."""
    return array if array.dtype in (namespace(array).float32, namespace(array).float64) else float64(array)


def zeros_like(array: Array, shape: Sequence[int]) -> Array:
    """Float64 zeros of `shape`, where `array` lives."""
    xp = namespace(array)
    return xp.zeros(tuple(shape), dtype=xp.float64, device=array.device)


def broadcast(array: Array, channels: int) -> Array:
    """A per-channel constant of shape (channels,) or (1,), as (channels,) in float64."""
    return namespace(array).broadcast_to(float64(array), (channels,))


def known_zero(array: Array) -> bool:
    """Whether every element is certainly zero: only ever true of numpy arrays, never of live parameters."""
    return isinstance(array, np.ndarray) and not array.any()


def affine(op: Affine, channels: int) -> tuple[Array, Array]:
    """(t, s) with op(x) = t x + s, both of shape (channels,).  BatchNorm: t = gamma / sqrt(var + eps), s = beta - t mean."""
    if isinstance(op, BatchNorm):
        gamma, beta, mean, var = map(float64, (op.gamma, op.beta, op.mean, op.var))
        t = gamma / (var + op.eps) ** 0.5
        return t, beta - mean * t
    return broadcast(op.scale, channels), broadcast(op.shift, channels)


def scale_outputs(op: Kind, t: Array, s: Array) -> Kind:
    """t * op(x) + s:  W' = t W (by output channel),  b' = t b + s."""
    weight, bias = factor(op.weight), t * float64(op.bias) + s
    columns = isinstance(op, ConvTranspose) and op.groups  # (I, O/g, *k)
    return replace(op, weight=_scale_columns(weight, t, columns) if columns else _scale_rows(weight, t), bias=bias)


def scale_inputs(op: LinearOp, t: Array) -> LinearOp:
    """op(t x), without the bias that a shift would bring:  W' = W t (by input channel)."""
    weight = factor(op.weight)
    if isinstance(op, ConvTranspose):
        return replace(op, weight=_scale_rows(weight, t))
    return replace(op, weight=weight * t if isinstance(op, Linear) else _scale_columns(weight, t, op.groups))


def _scale_rows(weight: Array, t: Array) -> Array:
    """A kernel (rows, columns, *k) times t (rows,)."""
    return namespace(t).reshape(t, (-1,) + (1,) * (weight.ndim - 1)) * weight


def _scale_columns(weight: Array, t: Array, groups: int) -> Array:
    """A kernel (rows, columns/groups, *k) times t (columns,): the columns of a group are those of its rows alone."""
    factors = namespace(t).reshape(t, (groups, 1, -1) + (1,) * (weight.ndim - 2))
    return namespace(t).reshape(_split(weight, groups) * factors, weight.shape)


def constant_response(op: Conv | Linear, s: Array) -> Array:
    """What `op` without its bias makes, away from any padding, of an input that is s_c everywhere in channel c: (O,)."""
    weight = float64(op.weight)
    xp = namespace(weight)
    if isinstance(op, Linear):
        return weight @ s
    summed = xp.sum(xp.reshape(weight, (*weight.shape[:2], -1)), axis=2)  # (O, I/g)
    by_group = xp.reshape(summed, (op.groups, -1, summed.shape[1]))
    return xp.reshape(by_group @ xp.reshape(s, (op.groups, -1, 1)), (-1,))


def negate(op: Conv) -> Conv:
    """-op(x)."""
    return replace(op, weight=-float64(op.weight), bias=-float64(op.bias))


def pad_axis(array: Array, axis: int, before: int, after: int) -> Array:
    """`array` with zeros before and after along one axis."""
    if before == after == 0:
        return array
    shape = list(array.shape)
    parts = []
    for extent, part in ((before, None), (array.shape[axis], array), (after, None)):
        if extent:
            shape[axis] = extent
            parts.append(zeros_like(array, shape) if part is None else part)
    return namespace(array).concat(parts, axis=axis)


def insert_zeros(weight: Array, dilation: Sequence[int]) -> Array:
    """The dense kernel (dilation 1) of a dilated one: dilation - 1 zeros between taps."""
    xp = namespace(weight)
    for axis, step in enumerate(dilation, start=2):
        taps = weight.shape[axis]
        if step > 1 and taps > 1:
            spread = pad_axis(xp.expand_dims(weight, axis=axis + 1), axis + 1, 0, step - 1)
            weight = xp.reshape(spread, (*weight.shape[:axis], taps * step, *weight.shape[axis + 1 :]))
            weight = weight[(slice(None),) * axis + (slice(0, (taps - 1) * step + 1),)]
    return weight


def regroup(op: Conv, groups: int) -> Array:
    """The weight of `op` with fewer groups (a divisor of its own): zeros outside the diagonal blocks."""
    weight = float64(op.weight)
    if groups == op.groups:
        return weight
    xp = namespace(weight)
    ratio = op.groups // groups
    blocks = xp.reshape(weight, (groups, ratio, -1, *weight.shape[1:]))  # (G, ratio, O/g, I/g, *k)
    eye = xp.eye(ratio, dtype=xp.float64, device=weight.device)
    eye = xp.reshape(eye, (1, ratio, 1, ratio, 1) + (1,) * (weight.ndim - 2))
    wide = xp.expand_dims(blocks, axis=3) * eye  # (G, ratio, O/g, ratio, I/g, *k)
    return xp.reshape(wide, (weight.shape[0], ratio * weight.shape[1], *weight.shape[2:]))


def compose(first: Conv, second: Conv, size: Sequence[int | None] | None = None) -> Conv:
    """second(first(x)) as one convolution; refuses where there is none.

    Taps meet at t1 d1 + t2 d2 s1; strides multiply; padding is p1 + p2 s1.  The second's zeros surround first(x), not x: where
    it pads, this is exact only if first(x), carried on past its own border, is zero there.  So `first` has no bias, and its
    next window touches no pixel: extent1 <= p1 + s1 before the image, and behind it less what the last window leaves over,
    (n + p1 - extent1) mod s1, which is up to s1 - 1 where `size`, the image's extent n an axis, is not known.
    """
    if len(first.stride) != len(second.stride):
        refuse("one acts on the channels, the other on the last axis")
    extents = (None,) * len(first.stride) if size is None else size
    for n, p1, p2, e1, s1 in zip(extents, first.padding, second.padding, first.extent, first.stride, strict=True):
        over = s1 - 1 if n is None else (n + sum(p1) - e1) % s1
        if max(p2) > 0 and not known_zero(first.bias):
            refuse("the second pads a map that already carries a bias: exact only inside the image")
        if (p2[0] > 0 and p1[0] < e1 - s1) or (p2[1] > 0 and p1[1] < e1 - s1 + over):
            refuse("the second pads with zeros where the first would go on: exact only inside the image")
    steps = tuple(d * s for d, s in zip(second.dilation, first.stride, strict=True))
    if is_diagonal(second):
        weight, dilation, groups = scale_outputs(first, _diagonal(second), 0.0).weight, first.dilation, first.groups
    elif is_diagonal(first):
        weight, dilation, groups = scale_inputs(second, _diagonal(first)).weight, steps, second.groups
    else:
        groups = gcd(first.groups, second.groups)
        inner, outer = (_split(regroup(op, groups), groups) for op in (first, second))
        weight, dilation = _convolve(inner, outer, first.dilation, steps)
        weight = namespace(weight).reshape(weight, (second.out_channels, *weight.shape[2:]))
    bias = constant_response(second, float64(first.bias)) + float64(second.bias)
    stride = tuple(s1 * s2 for s1, s2 in zip(first.stride, second.stride, strict=True))
    strides = zip(first.padding, second.padding, first.stride, strict=True)
    padding = tuple((p1[0] + p2[0] * s1, p1[1] + p2[1] * s1) for p1, p2, s1 in strides)
    dilation = tuple(d if k > 1 else 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    return Conv(weight, bias, stride, padding, dilation, groups)


def is_diagonal(op: Conv) -> bool:
    """Whether `op` only scales (and shifts, samples, pads or crops) each channel: a depthwise kernel of one tap."""
    return op.groups == op.in_channels == op.out_channels and prod(op.kernel_size) == 1


def _diagonal(op: Conv) -> Array:
    return namespace(op.weight).reshape(float64(op.weight), (-1,))


def _split(weight: Array, groups: int) -> Array:
    return namespace(weight).reshape(weight, (groups, -1, *weight.shape[1:]))


def _convolve(
    inner: Array, outer: Array, inner_step: Sequence[int], outer_step: Sequence[int]
) -> tuple[Array, tuple[int, ...]]:
    """Sum over the middle channels of inner (G, M, I, *k1) at t1 inner_step + t2 outer_step, and the common dilation."""
    xp = namespace(inner)
    k1, k2 = inner.shape[3:], outer.shape[3:]
    used = [(a if n > 1 else 0, b if m > 1 else 0) for a, n, b, m in zip(inner_step, k1, outer_step, k2, strict=True)]
    dilation = tuple(gcd(*pair) or 1 for pair in used)
    spread = insert_zeros(
        xp.reshape(inner, (-1, inner.shape[2], *k1)), [a // d or 1 for (a, _), d in zip(used, dilation, strict=True)]
    )
    size = spread.shape[2:]
    matrix = xp.reshape(spread, (inner.shape[0], inner.shape[1], -1))  # (G, M, I * taps)
    total = None
    for tap in product(*map(range, k2)):
        part = outer[(..., *tap)] @ matrix
        part = xp.reshape(part, (*part.shape[:2], inner.shape[2], *size))
        for axis, (t, k, (_, b), d) in enumerate(zip(tap, k2, used, dilation, strict=True), start=3):
            part = pad_axis(part, axis, t * b // d, (k - 1 - t) * b // d)
        total = part if total is None else total + part
    return total, dilation


def add(first: Conv, second: Conv, size: Sequence[int | None], agreed: bool = False) -> Conv:
    """first(x) + second(x) as one convolution; refuses where there is none.  `size`: the input's extent an axis.

    `agreed`: both make maps of one size whenever the model runs, also where `size` does not tell.

    Both kernels are laid on one lattice at their true offsets (no assumption that padding is half the kernel): the taps of a
    kernel sit at d t - p before the output pixel's origin, whatever its padding p is.
    """
    if len(first.stride) != len(second.stride):
        refuse("one acts on the channels, the other on the last axis")
    if first.stride != second.stride:
        refuse(f"the branches have strides {first.stride} and {second.stride}")
    if first.out_channels != second.out_channels or first.in_channels != second.in_channels:
        refuse("the branches have different channel counts")
    shrink = [_shrink(op) for op in (first, second)]
    for n, a, b, stride in zip(size, *shrink, first.stride, strict=True):
        equal = (n - a - 1) // stride == (n - b - 1) // stride if n is not None else agreed and abs(a - b) < stride
        if a != b and not equal:
            refuse("the branches' outputs differ in size")
    groups = gcd(first.groups, second.groups)
    axes = [_Lattice(*axis) for axis in zip(*map(_geometry, (first, second)), strict=True)]
    weights = []
    for index, op in enumerate((first, second)):
        weight = insert_zeros(regroup(op, groups), [axis.steps[index] for axis in axes])
        for axis, lattice in enumerate(axes, start=2):
            before = lattice.offsets[index]
            weight = pad_axis(weight, axis, before, lattice.taps - before - weight.shape[axis])
        weights.append(weight)
    padding = tuple((axis.before, axis.least_after(a, b)) for axis, a, b in zip(axes, *shrink, strict=True))
    bias = float64(first.bias) + float64(second.bias)
    return Conv(weights[0] + weights[1], bias, first.stride, padding, tuple(axis.dilation for axis in axes), groups)


def stack(convs: Sequence[Conv], size: Sequence[int | None]) -> Conv:
    """[W1 * x; W2 * x; ...] = [W1; W2; ...] * x: the rows of all kernels, one behind the other.

    Refuses as `add` does, but that maps can be concatenated only where their sizes agree.
    """
    rows_of = [conv.out_channels for conv in convs]
    total: Conv | None = None
    for index, conv in enumerate(convs):
        before, after = sum(rows_of[:index]), sum(rows_of[index + 1 :])
        weight = pad_axis(regroup(conv, 1), 0, before, after)
        wide = replace(conv, weight=weight, bias=pad_axis(float64(conv.bias), 0, before, after), groups=1)
        total = wide if total is None else add(total, wide, size, agreed=True)
    assert total is not None
    return total


def _shrink(op: Conv) -> list[int]:
    """Pixels an axis loses before striding: extent - 1 - padding.  Equal shrink means equal output sizes at any size."""
    return [extent - 1 - sum(p) for extent, p in zip(op.extent, op.padding, strict=True)]


def _geometry(op: Conv) -> list[tuple[int, int, int]]:
    return [(k, d, p[0]) for k, d, p in zip(op.kernel_size, op.dilation, op.padding, strict=True)]


class _Lattice:
    """The common sampling lattice of two kernels (taps, dilation, padding before) along one axis."""

    def __init__(self, first: tuple[int, int, int], second: tuple[int, int, int]) -> None:
        both = (first, second)
        self.before = max(p for _, _, p in both)
        shifts = [self.before - p for _, _, p in both]
        self.dilation = gcd(*(d for k, d, _ in both if k > 1), *shifts) or 1
        self.steps = [d // self.dilation or 1 for _, d, _ in both]
        self.offsets = [shift // self.dilation for shift in shifts]
        spans = [(k - 1) * d // self.dilation + offset for (k, d, _), offset in zip(both, self.offsets, strict=True)]
        self.taps = max(spans) + 1

    def least_after(self, *shrink: int) -> int:
        """The padding behind the image that loses as many pixels as either kernel does, or any number between: the least."""
        reach = self.dilation * (self.taps - 1) - self.before
        return reach - min(max(reach, min(shrink)), max(shrink))
