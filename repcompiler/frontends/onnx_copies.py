"""Copies of channels in ONNX: Tile and Expand along channels, and a Reshape of copies along a new axis.

    Reshape(Tile(Unsqueeze(x, 2), [1, 1, n, 1, 1]))      each channel n times, as exporters write torch.repeat_interleave

Each returns what `Lift` is to put in the node's place; None, or a refusal, where this node has a form outside the algebra.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir

from repcompiler.frontends.onnx_channels import channels_of
from repcompiler.frontends.onnx_lift import Lift, Lifted, array_of
from repcompiler.frontends.onnx_opaque import made_by
from repcompiler.ir import Shape, Value
from repcompiler.ops import Identity, Select


def copies(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Tile: all channels several times; Expand: the one channel, or nothing at all."""
    x = lift.data(node)
    counts = _counts(lift, node, x.shape)
    if counts is None or x.constant is not None or len(counts) < 3 or any(n != 1 for n in (*counts[:1], *counts[2:])):
        return None
    if counts[1] == 1:
        return Lifted(Identity(), (x,), lift.parameters(node))
    return _selected(x, [*range(channels_of(x, 1))] * counts[1], lift.parameters(node))


def copied(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A Reshape that joins copies along a new axis with the channels before or behind it."""
    many = made_by("Tile", node.inputs[0]) or made_by("Expand", node.inputs[0])
    new = None if many is None else made_by("Unsqueeze", many.inputs[0])
    if many is None or new is None:
        return None
    x, axes, result = lift.data(new), lift.integers(new, 1, "axes"), lift.declare(node.outputs[0])
    counts = _counts(lift, many, lift.data(many).shape)
    if counts is None or axes is None or x.shape is None or result.shape is None or len(x.shape) < 3 or len(axes) != 1:
        return None
    axis, channels = axes[0] % len(counts), x.shape[1]
    if axis not in (1, 2) or not isinstance(channels, int) or any(n != 1 for n in (*counts[:axis], *counts[axis + 1 :])):
        return None
    index = [c for c in range(channels) for _ in range(counts[2])] if axis == 2 else [*range(channels)] * counts[1]
    if None in result.shape or result.shape != (x.shape[0], len(index), *x.shape[2:]) or not index:
        return None
    return _selected(x, index)


def _counts(lift: Lift, node: onnx_ir.Node, shape: Shape | None) -> list[int] | None:
    """How often a Tile or an Expand copies along each axis; None where that is not known."""
    given = lift.optional(node, 1)
    if shape is None or given is None or given.constant is None:
        return None
    numbers = [int(number) for number in array_of(given).reshape(-1)]
    if node.op_type == "Tile":
        return numbers
    if len(numbers) > len(shape):
        return None
    pairs = [*zip(shape, [1] * (len(shape) - len(numbers)) + numbers, strict=True)]
    if any(wanted not in (1, size) and size != 1 for size, wanted in pairs):
        return None
    return [1 if wanted in (1, size) else wanted for size, wanted in pairs]


def _selected(x: Value, index: Sequence[int], parameters: tuple[Value, ...] = ()) -> Lifted | None:
    return Lifted(Select(tuple(index)), (x,), parameters) if index and x.constant is None else None
