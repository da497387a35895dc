"""An affine operation f(x) = A x + b taken apart: its linear part A x, and the same in magnitudes, |A| |x| and |b|.

What is not affine has linear stand-ins: a rewrite that goes past an activation uses some law of it and nothing else, so what it
makes must be right for every function that keeps this law, and a linear one among them makes the whole block affine.

    law                                         kept by
    phi(x) = x where that is proved             x
    phi(s x) = s phi(x) for s > 0               x
    phi(x) - phi(-x) = c x                      c x / 2
    max(s x + t) = s max(x) + t for s > 0       one pixel of each window
"""

from __future__ import annotations

from math import inf, prod
from typing import Any

import numpy as np

from repcompiler.meaning import wide
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Clip,
    ClipChannels,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    DepthToSpace,
    Frame,
    Gated,
    GlobalAvgPool,
    Identity,
    Linear,
    MaxPool,
    Op,
    Pad,
    PRelu,
    Relu,
    Reshape,
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

MOVES = (Identity, Pad, Select, Reshape, Transpose, Subsample, Concat, Stack, Take, SpaceToDepth, DepthToSpace)
"""What only puts numbers elsewhere, and zeros beside them."""
AFFINE = (*MOVES, AvgPool, BatchNorm, Constant, Conv, ConvTranspose, Frame, GlobalAvgPool, Linear, Scale, Sum)

_OFFSETS = ("bias", "shift", "value", "array")
"""The fields that hold b."""


def linear_part(op: Op) -> Op:
    """A x."""
    if isinstance(op, BatchNorm):
        op = _as_scale(op)
    return op.with_arrays({name: np.zeros(array.shape) for name, array in op.arrays.items() if name in _OFFSETS})


def magnitude(op: Op) -> Op:
    """|A| |x| + |b|, each number of a weight by itself."""
    if isinstance(op, BatchNorm):
        scale = _as_scale(op)
        shift = np.abs(wide(op.beta)) + np.abs(wide(op.mean) * scale.scale)
        return Scale(np.abs(scale.scale), shift)
    if isinstance(op, Sum):
        return Sum((1,) * len(op.signs))
    return op.with_arrays({name: np.abs(wide(np.asarray(array))) for name, array in op.arrays.items()})


def rounded(op: Op, dtype: np.dtype[Any]) -> Op:
    """The operation as it is written: each number of a weight in the type of the model."""
    return op.with_arrays({name: wide(np.asarray(array)).astype(dtype) for name, array in op.arrays.items()})


def sum_length(op: Op) -> int:
    """How often one number of the result is rounded on its way from the operands: products and sums."""
    if isinstance(op, MOVES) or (isinstance(op, Sum) and len(op.signs) == 1):
        return 0
    if isinstance(op, Conv):
        return int(prod(op.weight.shape[1:])) + 1
    if isinstance(op, ConvTranspose):
        return int(prod(op.weight.shape)) // op.out_channels * op.groups + 1
    if isinstance(op, Linear):
        return op.in_channels + 1
    if isinstance(op, AvgPool):
        return prod(op.kernel_size) + 1
    return len(op.signs) - 1 if isinstance(op, Sum) else 5  # batch norm: sum, root, quotient, product, sum


def stand_ins(op: Op) -> tuple[Op, ...]:
    """Linear functions that keep a law of an operation which is not affine; none where we know no such law."""
    if isinstance(op, Relu) or op in (Clip(0.0, inf), Clip(-inf, 0.0)):
        return Identity(), Scale(np.full(1, 0.5), np.zeros(1))
    if isinstance(op, Clip):
        return (Identity(),)
    if isinstance(op, ClipChannels):
        return (Identity(),)
    if isinstance(op, PRelu):
        return Identity(), Scale((1 + wide(op.slope).reshape(-1)) / 2, np.zeros(op.slope.size))
    if isinstance(op, Gated):
        return (Scale(np.full(1, 0.5), np.zeros(1)),)
    if isinstance(op, MaxPool):
        kept = all(sum(p) == d * (k - 1) for p, d, k in zip(op.padding, op.dilation, op.kernel_size, strict=True))
        return (Subsample(op.stride),) if kept else ()
    return ()


def _as_scale(op: BatchNorm) -> Scale:
    """gamma / sqrt(var + eps) and what is left at x = 0."""
    scale = wide(op.gamma) / np.sqrt(wide(op.var) + op.eps)
    return Scale(scale, wide(op.beta) - wide(op.mean) * scale)
