"""Check one rewrite by itself: the block before and after, in float64, on a small random image.

The interpreter gives both meanings, independently of the algebra that made the new weights.  The image is odd and not square,
and just large enough that every tap of every kernel meets pixels and borders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from repcompiler import interpreter
from repcompiler.ir import Expr, Node, Value
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Constant,
    Conv,
    ConvTranspose,
    DynamicConv,
    Linear,
    MaxPool,
    Op,
    Reshape,
    Scale,
    Select,
    Subsample,
)
from repcompiler.pattern import Captured, Match
from repcompiler.ranges import interval
from repcompiler.refusal import refuse

NDArray = np.ndarray[Any, Any]
Arrays = dict[Value, NDArray]

TOLERANCE = 1e-9
"""Relative to the largest result: far above float64 rounding, far below any error in a float32 weight."""


def certify(root: Node, match: Match, part: Expr | Value | None, term: Expr | Value | None) -> None:
    """Refuse the rewrite of the block that `match` found at `root` to `term` unless both give the same numbers.

    `part` is the new part of `term`, without what else the root adds up or concatenates.
    """
    if not isinstance(term, Expr) or isinstance(term.op, Constant):
        return  # what only goes, or what the runtime itself computed
    ops = [root.op, *(value.producer.op for value in match.interior if value.producer is not None)]
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for captured in match.captures.values():
        for source, read_by in _sources(captured, part, ops):
            image = rng.standard_normal(_probe_shape(source, ops, read_by))
            arrays.setdefault(source, np.clip(image, *interval(source)))  # what it can be: a rewrite may count on that
    try:
        shape = _of_expr(part, arrays).shape if isinstance(part, Expr) else ()
        for value in match.rest:
            arrays.setdefault(value, np.asarray(rng.standard_normal(shape)))
        before, after = _of_value(root.output, arrays), _of_expr(term, arrays)
    except ValueError as error:
        refuse(f"its own check needs extents that are not known: {error}")
    if before.shape != after.shape:
        refuse(f"its own check failed: shape {after.shape} instead of {before.shape}")
    deviation = float(np.max(np.abs(before - after), initial=0.0))
    if not deviation <= TOLERANCE * float(np.max(np.abs(before), initial=1.0)):
        refuse(f"its own check failed: the results differ by {deviation:.1e}")


def _sources(captured: Captured, part: Expr | Value | None, ops: Sequence[Op]) -> Iterator[tuple[Value, int]]:
    """The values outside the block that a capture reads, each with its number of channels as far as its reader tells."""
    if isinstance(captured, Value):
        yield captured, _channels(part, ops)
    elif isinstance(captured, Expr):
        for operand in captured.operands:
            yield from [(operand, _channels(captured, ops))] if isinstance(operand, Value) else _sources(operand, part, ops)


def _channels(part: Expr | Value | None, ops: Sequence[Op]) -> int:
    """Channels the block reads: what the innermost operation says that tells, else enough for every choice of channels."""
    channels = max((index + 1 for op in ops if isinstance(op, Select) for index in op.index), default=3)
    while isinstance(part, Expr):
        if isinstance(part.op, (Conv, ConvTranspose, DynamicConv, Linear)):
            channels = part.op.in_channels
        elif isinstance(part.op, (BatchNorm, Scale)) and part.op.channels > 1:
            channels = part.op.channels
        part = part.operands[0]
    return channels


def _probe_shape(source: Value, ops: Sequence[Op], channels: int) -> tuple[int, ...]:
    """Two samples, the true channels, and along each further axis the summed reach of all windows and a little more.

    Where the true extent is known, the probe's has the same phase to all strides: output sizes that agree there agree here.
    """
    windows = [op for op in ops if isinstance(op, (Conv, ConvTranspose, DynamicConv, AvgPool, MaxPool, Subsample))]
    rank = source.rank or (len(windows[0].stride) + 2 if windows else 2)
    if source.shape is not None and any(isinstance(op, Reshape) for op in ops):  # its target may be said of these very extents
        return tuple(size if isinstance(size, int) else 2 if axis == 0 else 5 for axis, size in enumerate(source.shape))
    if source.shape is not None and rank < 3:
        return (2, *(dim if isinstance(dim, int) else 5 for dim in source.shape[1:]))
    if source.shape is not None and isinstance(source.shape[1], int):
        channels = source.shape[1]
    sizes = []
    for axis, true in enumerate(source.spatial(rank - 2)):
        reach, period = 3 + 2 * axis, 1
        for op in windows:
            before, after = op.padding[axis]
            dilation = 1 if isinstance(op, (AvgPool, Subsample)) else op.dilation[axis]
            kernel = 1 if isinstance(op, Subsample) else op.kernel_size[axis]
            reach += period * (dilation * (kernel - 1) + max(0, -before) + max(0, -after))
            period *= op.stride[axis]
        sizes.append(reach if true is None else min(true, reach + (true - reach) % period))
    return (2, channels, *sizes)


def _of_value(value: Value, arrays: Arrays) -> NDArray:
    """What the block computes, from its result backwards."""
    if value not in arrays:
        node = value.producer
        assert node is not None
        arrays[value] = np.asarray(interpreter.evaluate(node.op, [_of_value(v, arrays) for v in node.inputs])[0])
    return arrays[value]


def _of_expr(term: Expr, arrays: Arrays) -> NDArray:
    """What the new expression computes, each part of it once."""
    made: dict[Expr, NDArray] = {}
    for part in term.parts():
        operands = [arrays[operand] if isinstance(operand, Value) else made[operand] for operand in part.operands]
        made[part] = np.asarray(interpreter.evaluate(part.op, operands)[0])
    return made[term]
