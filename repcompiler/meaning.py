"""What each operation means, in float64 numpy: one function each.

Written for clarity and independent of `repcompiler.algebra`: it is the reference that rewrites are checked against.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce, singledispatch
from itertools import product
from typing import Any

import numpy as np

from repcompiler.interpolation import weights
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    DepthToSpace,
    DynamicConv,
    Frame,
    GlobalAvgPool,
    Identity,
    Linear,
    MaxPool,
    Mul,
    Op,
    Pad,
    PadChannels,
    Padding,
    Reshape,
    Resize,
    Scale,
    Select,
    SpaceToDepth,
    Stack,
    Subsample,
    Sum,
    Take,
    Transpose,
)

NDArray = np.ndarray[Any, Any]


def wide(array: NDArray) -> NDArray:
    """Floating-point arrays in float64; all others as they are."""
    floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(np.float64, copy=False) if floating else array


@singledispatch
def meaning(op: Op, *arrays: NDArray) -> NDArray:
    """The result of one operation, arrays in float64."""
    raise ValueError(f"{op.kind} has no meaning here")


@meaning.register
def _conv(op: Conv, x: NDArray) -> NDArray:
    x = _pad(x, op.padding)
    out = _windows(x, op.extent, op.stride)
    weight = wide(op.weight)
    groups, per_group = op.groups, op.weight.shape[1]
    grouped = x.reshape(x.shape[0], groups, per_group, *x.shape[2:])
    rows = weight.reshape(groups, -1, *weight.shape[1:])  # (G, O/g, I/g, *k)
    result = np.zeros((x.shape[0], groups, rows.shape[1], *out))
    flat = result.reshape(*result.shape[:3], -1)
    for tap in product(*map(range, op.kernel_size)):
        window = _at(grouped, _taps(tap, op.dilation, op.stride, out))
        window = window.reshape(*window.shape[:3], -1)
        matrix = _at(rows, tap)
        flat += matrix[None, :, :, 0, None] * window if per_group == 1 else np.matmul(matrix, window)
    return result.reshape(x.shape[0], op.out_channels, *out) + by_channel(wide(op.bias), x.ndim)


@meaning.register
def _dynamic_conv(op: DynamicConv, x: NDArray, weight: NDArray) -> NDArray:
    if not op.each:
        return _conv(op.with_kernel(weight), x)
    kernels = zip(x, weight.reshape(len(x), -1), strict=True)
    return np.concatenate([_conv(op.with_kernel(kernel), sample[None]) for sample, kernel in kernels])


@meaning.register
def _conv_transpose(op: ConvTranspose, x: NDArray) -> NDArray:
    weight = wide(op.weight)
    rows = weight.reshape(op.groups, -1, *weight.shape[1:])  # (G, I/g, O/g, *k)
    grouped = x.reshape(x.shape[0], op.groups, -1, *x.shape[2:])
    flat = grouped.reshape(*grouped.shape[:3], -1)
    full = [
        (n - 1) * s + d * (k - 1) + 1 + e
        for n, s, d, k, e in zip(x.shape[2:], op.stride, op.dilation, op.kernel_size, op.output_padding, strict=True)
    ]
    result = np.zeros((x.shape[0], op.groups, rows.shape[2], *full))
    for tap in product(*map(range, op.kernel_size)):
        part = np.matmul(np.swapaxes(_at(rows, tap), 1, 2), flat).reshape(*result.shape[:3], *x.shape[2:])
        target = _at(result, _taps(tap, op.dilation, op.stride, x.shape[2:]))
        target += part
    result = result.reshape(x.shape[0], op.out_channels, *full)
    crop = tuple((-before, -after) for before, after in op.padding)
    return _pad(result, crop) + by_channel(wide(op.bias), x.ndim)


@meaning.register
def _linear(op: Linear, x: NDArray) -> NDArray:
    return np.asarray(np.matmul(x, wide(op.weight).T) + wide(op.bias))


@meaning.register
def _batch_norm(op: BatchNorm, x: NDArray) -> NDArray:
    mean, var, gamma, beta = (by_channel(wide(array), x.ndim) for array in (op.mean, op.var, op.gamma, op.beta))
    return (x - mean) / np.sqrt(var + op.eps) * gamma + beta


@meaning.register
def _scale(op: Scale, x: NDArray) -> NDArray:
    shape = [1] * x.ndim
    shape[op.axis if op.channels > 1 else 0] = -1
    return x * wide(op.scale).reshape(shape) + wide(op.shift).reshape(shape)


@meaning.register
def _avg_pool(op: AvgPool, x: NDArray) -> NDArray:
    x = _pad(x, op.padding)
    out = _windows(x, op.kernel_size, op.stride)
    ones = (1,) * len(out)
    windows = (_at(x, _taps(tap, ones, op.stride, out)) for tap in product(*map(range, op.kernel_size)))
    return np.asarray(sum(windows, np.zeros(())) / op.divisor)


@meaning.register
def _pad_op(op: Pad, x: NDArray) -> NDArray:
    return _pad(x, op.padding)


@meaning.register
def _pad_channels(op: PadChannels, x: NDArray) -> NDArray:
    return np.pad(x, [(0, 0), (op.before, op.after), *[(0, 0)] * (x.ndim - 2)])


@meaning.register
def _frame(op: Frame, x: NDArray) -> NDArray:
    inside = _pad(np.ones_like(x, bool), op.padding)
    return np.where(inside, _pad(x, op.padding), by_channel(wide(op.value), x.ndim))


@meaning.register
def _subsample(op: Subsample, x: NDArray) -> NDArray:
    return _at(x, [slice(-before, None, step) for (before, _), step in zip(op.padding, op.stride, strict=True)])


@meaning.register
def _sum(op: Sum, *terms: NDArray) -> NDArray:
    signed = (sign * term for sign, term in zip(op.signs, terms, strict=True))
    return np.asarray(sum(signed, np.zeros(())))


@meaning.register
def _mul(op: Mul, x: NDArray, y: NDArray) -> NDArray:
    return np.asarray(x * y)


@meaning.register
def _concat(op: Concat, *parts: NDArray) -> NDArray:
    return np.concatenate(parts, axis=1)


@meaning.register
def _select(op: Select, x: NDArray) -> NDArray:
    return np.asarray(x[:, list(op.index)])


@meaning.register
def _reshape(op: Reshape, x: NDArray) -> NDArray:
    kept = x.shape[x.ndim - op.tail :]
    return x.reshape([*(x.shape[axis] if size == 0 else size for axis, size in enumerate(op.target)), *kept])


@meaning.register
def _transpose(op: Transpose, x: NDArray) -> NDArray:
    return x.transpose(op.perm)


@meaning.register
def _stack(op: Stack, *parts: NDArray) -> NDArray:
    return np.stack(parts, op.axis) if op.new else np.concatenate(parts, op.axis)


@meaning.register
def _take(op: Take, x: NDArray) -> NDArray:
    return x.take([op.index] if op.keep else op.index, op.axis)


@meaning.register
def _global_avg_pool(op: GlobalAvgPool, x: NDArray) -> NDArray:
    return np.asarray(x.mean(axis=tuple(range(2, x.ndim)), keepdims=not op.dropped))


@meaning.register
def _max_pool(op: MaxPool, x: NDArray) -> NDArray:
    x = np.pad(x, [(0, 0), (0, 0), *op.padding], constant_values=-np.inf)
    out = _windows(x, [d * (k - 1) + 1 for k, d in zip(op.kernel_size, op.dilation, strict=True)], op.stride)
    windows = (_at(x, _taps(tap, op.dilation, op.stride, out)) for tap in product(*map(range, op.kernel_size)))
    return np.asarray(reduce(np.maximum, windows))


@meaning.register
def _resize(op: Resize, x: NDArray, *sizes: NDArray) -> NDArray:
    for axis in range(2, x.ndim):
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ weights(op, axis - 2, x.shape[axis]).T, -1, axis)
    return x


@meaning.register
def _space_to_depth(op: SpaceToDepth, x: NDArray) -> NDArray:
    phases = list(product(range(op.block), repeat=x.ndim - 2))
    x = _at(x, [slice(n - n % op.block) for n in x.shape[2:]])
    parts = np.stack([_at(x, [slice(start, None, op.block) for start in phase]) for phase in phases], axis=1)
    parts = np.swapaxes(parts, 1, 2) if op.mode == "CRD" else parts
    return parts.reshape(x.shape[0], -1, *parts.shape[3:])


@meaning.register
def _depth_to_space(op: DepthToSpace, x: NDArray) -> NDArray:
    spatial = x.shape[2:]
    grid = (op.block,) * len(spatial)
    split = x.reshape(x.shape[0], *((-1, *grid) if op.mode == "CRD" else (*grid, -1)), *spatial)
    split = split if op.mode == "CRD" else np.moveaxis(split, len(grid) + 1, 1)
    order = [axis for pair in zip(range(2 + len(grid), split.ndim), range(2, 2 + len(grid)), strict=True) for axis in pair]
    return split.transpose(0, 1, *order).reshape(x.shape[0], -1, *(n * op.block for n in spatial))


@meaning.register
def _identity(op: Identity, x: NDArray) -> NDArray:
    return x


@meaning.register
def _constant_op(op: Constant) -> NDArray:
    return wide(op.array)


def _at(array: NDArray, spatial: Sequence[Any]) -> NDArray:
    """A view of `array` indexed along its last axes."""
    index: tuple[Any, ...] = (..., *spatial)
    return np.asarray(array[index])


def _windows(x: NDArray, extent: Sequence[int], stride: Sequence[int]) -> list[int]:
    """The number of windows an axis; ValueError without one."""
    out = [(n - e) // s + 1 for n, e, s in zip(x.shape[2:], extent, stride, strict=True)]
    if out and min(out) < 1:  # an error everywhere, but that onnxruntime makes a pixel of it where it pools
        raise ValueError(f"a window of {tuple(extent)} is larger than the image {x.shape}")
    return out


def _taps(tap: Sequence[int], dilation: Sequence[int], stride: Sequence[int], out: Sequence[int]) -> list[slice]:
    """The pixels that one tap of a kernel meets at all output positions."""
    return [slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in zip(tap, dilation, stride, out, strict=True)]


def _pad(x: NDArray, padding: Padding) -> NDArray:
    if any(n + before + after < 0 for n, (before, after) in zip(x.shape[2:], padding, strict=True)):
        raise ValueError(f"cannot crop {x.shape} by {padding}")
    framed = [(max(before, 0), max(after, 0)) for before, after in padding]
    if any(map(any, framed)):
        inner = [slice(before, before + n) for n, (before, _) in zip(x.shape[2:], framed, strict=True)]
        padded = np.zeros((*x.shape[:2], *(n + sum(pair) for n, pair in zip(x.shape[2:], framed, strict=True))), x.dtype)
        _at(padded, inner)[...] = x
        x = padded
    extents = zip(x.shape[2:], padding, strict=True)
    return _at(x, [slice(max(-before, 0), n - max(-after, 0)) for n, (before, after) in extents])


def by_channel(vector: NDArray, rank: int) -> NDArray:
    """One number for each channel of a result of `rank` axes."""
    return vector.reshape(-1, *(1,) * (rank - 2))
