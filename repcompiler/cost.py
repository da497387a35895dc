"""What a node costs, under the objective the user chose.  A rewrite may not raise the sum.

    latency   seconds estimated for a CPU: launch + max(arithmetic, memory traffic)
    macs      multiply-accumulates
    params    numbers stored
    plain     operations that a plain (VGG-style) network would not have, then operations
    tune      seconds measured in onnxruntime on this machine (`repcompiler.tuning`)

Costs compare alternatives for one place of one graph, so only differences count.  An extent the graph leaves free is that of a
typical run where one is known (`Value.typical`), derived from the producer where the algebra can tell, and otherwise `NOMINAL`:
both sides of a comparison read the same values, so their order rarely depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from repcompiler.algebra import known_zero
from repcompiler.ir import Expr, Node, Shape, Value
from repcompiler.ops import (
    ACTIVATIONS,
    AvgPool,
    BatchNorm,
    ClipChannels,
    Constant,
    Conv,
    ConvTranspose,
    DynamicConv,
    Frame,
    Linear,
    Mul,
    Op,
    Pad,
    PadChannels,
    Resize,
    Scale,
    Softmax,
    Stack,
    Subsample,
    Sum,
    Take,
)

NOMINAL = 28
"""Pixels an axis where nothing is known (a middle stage of an image network)."""

# Fitted by examples/calibrate_cost.py on onnxruntime 1.31, one thread of a server CPU; only their ratios matter.
LAUNCH = 4e-6
"""Seconds to start one operation in a graph runtime."""
DENSE_RATE = 3e10
"""Multiply-accumulates a second of a kernel that a blocked matrix product serves."""
DEPTHWISE_RATE = 1.8e10
"""The same of a depthwise kernel."""
GROUPED_RATE = 7e9
"""The same of groups too narrow for the blocked kernels (a number of channels that is no multiple of `BLOCK`)."""
BLOCK = 8
"""Channels that the blocked kernels take at once."""
RESIZE_RATE = 5e8
"""Numbers a second that are interpolated."""
BANDWIDTH = 4e10
"""Bytes a second, maps that fit into cache."""
BIASED = (Conv, ConvTranspose, DynamicConv, Linear)
ITEM = 4
"""Bytes of a number."""
KNOWN = 2**18
"""Bytes of a map up to which it pays that a runtime knows its extents beforehand, and need not compute them.  onnxruntime then
plans their memory, and holds so many at a time that larger ones no longer fit into cache.
"""


def prod(sizes: Iterable[int]) -> int:
    """The product, as an int whatever array library the sizes come from."""
    return int(math.prod(sizes))


def extents(shape: Shape | None) -> list[int]:
    """A shape with every unknown replaced: 1 for the batch, `NOMINAL` for an axis, an image where even the rank is unknown."""
    if shape is None:
        return [1, NOMINAL, NOMINAL, NOMINAL]
    return [dim if isinstance(dim, int) else (1 if axis == 0 else NOMINAL) for axis, dim in enumerate(shape)]


def macs(op: Op, output: Shape | None) -> int:
    """Multiply-accumulates of one application of `op` for a result of shape `output`."""
    if isinstance(op, Conv):
        return prod(extents(output)) * prod(op.weight.shape[1:])
    if isinstance(op, DynamicConv):
        return prod(extents(output)) * prod(op.weight_shape[1:])
    if isinstance(op, ConvTranspose):
        positions = prod(extents(output)) // prod(op.stride)
        return positions * prod(op.weight.shape) // op.out_channels
    if isinstance(op, Linear):
        return prod(extents(output)) * op.in_channels
    if isinstance(op, AvgPool):
        return prod(extents(output)) * prod(op.kernel_size)
    if isinstance(op, (BatchNorm, Scale)):  # on an image, where nothing is known
        shape = output or (None, op.channels, None, None)
        return 0 if isinstance(op, Scale) and _only_signs(op) else prod(extents(shape))
    return 0


def _only_signs(op: Scale) -> bool:
    """Whether it is an addition or a subtraction, as far as a document knows."""
    return isinstance(op.scale, np.ndarray) and bool(np.all(op.scale == 1.0) or np.all(op.scale == -1.0))


def params(op: Op) -> int:
    """Numbers that `op` stores, those of its own weights (a folded constant takes the place of others no smaller)."""
    if isinstance(op, (Conv, ConvTranspose, Linear)):
        return prod(op.weight.shape) + prod(op.bias.shape)
    if isinstance(op, DynamicConv):
        return prod(op.bias.shape)
    if isinstance(op, BatchNorm):
        return 4 * prod(op.mean.shape)
    if isinstance(op, Scale):
        return prod(op.scale.shape) + prod(op.shift.shape)
    return 0


def stored(op: Op) -> int:
    """Numbers that a document keeps of `op`, at most.  A bias of zeros is not written, nor a scale of ones, or of -1 before a
    shift; where a scale has a shift, ONNX has a batch norm, and with it means and variances.
    """
    if isinstance(op, Scale):
        factors = () if known_zero(op.scale - 1.0) or (_only_signs(op) and not known_zero(op.shift)) else (op.scale,)
        written = [*factors, *(() if known_zero(op.shift) else (op.shift,))]
        if len(written) == 2 and op.channels > 1 and op.axis == 1:
            return 4 * op.channels
        return sum(prod(array.shape) for array in written)
    unwritten = op.bias if isinstance(op, BIASED) and known_zero(op.bias) else np.empty(0)
    return params(op) - prod(unwritten.shape)


def _stores_nothing(node: Node) -> bool:
    """Whether its numbers are the document's own, and nowhere kept: a mean of values is a sum and a scale."""
    return isinstance(node.op, Scale) and node.origin is not None and not node.parameters


def launches(op: Op, output: Shape | None = None) -> int:
    """Operations of the document that `op` is, given the shape of its result.

    An n-ary sum is a chain of binary ones; a frame is padded, and then written side by side; a bias is an operation of its own
    on a matrix product of other than two axes.
    """
    if isinstance(op, Constant):
        return 0
    if isinstance(op, Sum):
        return len(op.signs) - 1
    if isinstance(op, ClipChannels):  # from below, and from above
        return int(np.isfinite(op.minimum).any()) + int(np.isfinite(op.maximum).any())
    if isinstance(op, Frame):
        return 1 + sum(amount > 0 for pair in op.padding for amount in pair)
    if isinstance(op, Linear) and (output is None or len(output) != 2):
        return 1 if known_zero(op.bias) else 2
    return 1


def rate(op: Op) -> float:
    """Multiply-accumulates a second."""
    if not isinstance(op, Conv) or op.groups == 1:
        return DENSE_RATE
    if op.groups == op.in_channels == op.out_channels:
        return DEPTHWISE_RATE
    return GROUPED_RATE if op.weight.shape[1] % BLOCK else DENSE_RATE


def latency(op: Op, inputs: Sequence[Shape | None], output: Shape | None) -> float:
    """Seconds for one application (a roofline: the slower of arithmetic and memory, and the start)."""
    if isinstance(op, Constant):
        return 0.0
    numbers = params(op) + sum(prod(extents(shape)) for shape in inputs) + prod(extents(output))
    arithmetic = prod(extents(output)) / RESIZE_RATE if isinstance(op, Resize) else macs(op, output) / rate(op)
    return launches(op, output) * LAUNCH + max(arithmetic, ITEM * numbers / BANDWIDTH)


ODD = 100
"""Operations of a plain network that are worth less than one that it would not have."""


def plain(op: Op, inputs: Sequence[Shape | None], output: Shape | None) -> float:
    """Branches first, then operations, then a trace of arithmetic to settle ties."""
    odd = isinstance(op, (Sum, Mul, Softmax, Stack, Take, BatchNorm, Scale, AvgPool, Pad, PadChannels, Subsample))
    return launches(op, output) * (ODD if odd else 1) + 1e-15 * macs(op, output)


@dataclass(frozen=True)
class Objective:
    """A named cost of one operation, given the shapes it reads and makes."""

    name: str
    of_op: Callable[[Op, Sequence[Shape | None], Shape | None], float]
    start: float = 0.0
    """What starting one operation is charged.  The addition of a skip connection is no more, and runtimes fold it into
    the layer before; nor is what an operation saves in another form.
    """

    def of_node(self, node: Node) -> tuple[float, int]:
        """(cost, operations) of a node."""
        shapes = [size_of(value) for value in node.inputs]
        shape = node.output.typical or _size_after(node.op, shapes, node.output.shape)
        stays = self.shuns_extents(shape) and not isinstance(node.op, ACTIVATIONS)  # what these imply is no shape
        count = launches(node.op, shape) + (0 if stays else len(node.implied))
        return 0.0 if self.name == "params" and _stores_nothing(node) else self.of_op(node.op, shapes, shape), count

    def shuns_extents(self, shape: Shape | None) -> bool:
        """Whether a runtime had better not know a shape beforehand, but compute it as the document does."""
        return self.name == "latency" and ITEM * prod(extents(shape)) > KNOWN

    def of_term(self, term: Expr | Value | None, output: Shape | None = None, made: Collection[Expr] = ()) -> tuple[float, int]:
        """(cost, operations) of an expression, what it shares counted once, and what is `made` already not at all.

        `output`: the shape of the value it stands for.
        """
        cost, count = 0.0, 0
        for part in [part for part in term.parts() if part not in made] if isinstance(term, Expr) else ():
            shapes = [size_of(operand) for operand in part.operands]
            shape = _size_after(part.op, shapes, output if part is term else None)
            cost += self.of_op(part.op, shapes, shape)
            count += launches(part.op, shape)
        return cost, count


def shape_of(term: Expr | Value) -> Shape | None:
    """The shape of a value, or of what an expression will make."""
    if isinstance(term, Value):
        return term.shape
    return term.op.infer_shape([shape_of(operand) for operand in term.operands])


def size_of(term: Expr | Value) -> Shape | None:
    """The shape of a value or expression to reckon with: behind a resize of free extents, what it makes of `NOMINAL`."""
    if isinstance(term, Expr):
        return _size_after(term.op, [size_of(operand) for operand in term.operands])
    if term.typical is not None:
        return term.typical
    node = term.producer
    resized = node is not None and isinstance(node.op, Resize)
    return _size_after(node.op, [size_of(node.inputs[0])], term.shape) if node is not None and resized else term.shape


def _size_after(op: Op, operands: Sequence[Shape | None], stated: Shape | None = None) -> Shape | None:
    """What is stated of a result, its gaps filled by what `op` makes of its operands."""
    if isinstance(op, Resize):
        operands = [None if shape is None else tuple(extents(shape)) for shape in operands]
    inferred = op.infer_shape(operands)
    if stated is None or inferred is None or len(stated) != len(inferred):
        return inferred if stated is None else stated
    return tuple(known if isinstance(known, int) else found for known, found in zip(stated, inferred, strict=True))


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("latency", latency, LAUNCH),
        Objective("macs", lambda op, _, output: float(macs(op, output))),
        Objective("params", lambda op, _, __: float(stored(op))),
        Objective("plain", plain),
    )
}

TUNE = "tune"
"""The objective that measures instead (`repcompiler.tuning`)."""
