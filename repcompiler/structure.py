"""The plainest form of a convolution: what its zeros and ones say it is.

    block-diagonal kernel         ->  a grouped one
    one tap a channel, no border  ->  a scale
    one tap of value 1 an output  ->  a selection of channels, or nothing at all
    negative padding              ->  a crop, then the convolution

All exact.  Only known weights (numpy) are looked into; live parameters stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd, prod

import numpy as np

from repcompiler.algebra import float64, is_diagonal, known_zero, namespace, regroup
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Identity, Pad, Scale, Select


def apply(op: Conv, x: Expr | Value) -> Expr:
    """The plainest expression for op(x)."""
    crop = tuple((min(before, 0), min(after, 0)) for before, after in op.padding)
    if any(map(any, crop)):
        padding = tuple((max(before, 0), max(after, 0)) for before, after in op.padding)
        return apply(replace(op, padding=padding), Pad(crop)(x))
    pointwise = prod(op.kernel_size) == 1 and prod(op.stride) == 1 and not any(map(any, op.padding))
    if pointwise and (index := selection(op)) is not None:
        return Identity()(x) if index == tuple(range(op.in_channels)) else Select(index)(x)
    op = grouped(op)
    if pointwise and is_diagonal(op):
        return Scale(namespace(op.weight).reshape(float64(op.weight), (-1,)), op.bias)(x)
    return op(x)


def grouped(op: Conv) -> Conv:
    """`op` with as many groups as its zero blocks allow."""
    if not isinstance(op.weight, np.ndarray):
        return op
    used = op.weight.reshape(*op.weight.shape[:2], -1).any(axis=2)  # (O, I/g)
    for ratio in _divisors(gcd(op.weight.shape[1], op.out_channels // op.groups)):
        blocks = used.reshape(op.groups, ratio, -1, ratio, op.weight.shape[1] // ratio).any(axis=(2, 4))
        if not (blocks & ~np.eye(ratio, dtype=bool)).any():
            parts = op.weight.reshape(op.groups, ratio, -1, ratio, op.weight.shape[1] // ratio, *op.kernel_size)
            diagonal = np.stack([parts[:, index, :, index] for index in range(ratio)], axis=1)
            weight = diagonal.reshape(op.out_channels, -1, *op.kernel_size)
            return replace(op, weight=weight, groups=op.groups * ratio)
    return op


def selection(op: Conv) -> tuple[int, ...] | None:
    """The input channel that each output channel copies, where that is all `op` does (one tap, no bias)."""
    if not isinstance(op.weight, np.ndarray) or not known_zero(op.bias):
        return None
    matrix = regroup(op, 1).reshape(op.out_channels, op.in_channels)
    index = matrix.argmax(axis=1)
    exact = np.array_equal(matrix, np.eye(matrix.shape[1])[index])
    return tuple(map(int, index)) if exact else None


def _divisors(number: int) -> list[int]:
    """The divisors of a number above 1, the largest first."""
    return [ratio for ratio in range(number, 1, -1) if number % ratio == 0]
