"""How many pixels a value has at least: what a rewrite makes has to run on every image that the source runs on.

A crop, a stride or a resize may leave no pixel of an image, and hand that on; to a window, an image into which it does not fit
is an error.  To make n > 0 pixels, an operation that reads e pixels at a time, s apart, on p more than there are, needs

    (n - 1) s + e - p

of its operand.  A convolution that a rewrite makes may need no more of a value than this certainly has: by its extents, by what
makes it, or because whatever reads it would be an error otherwise.  Of convolutions alone that is so: where the second of two
needs e2 - p2 pixels of the first, that one needs (e2 - p2 - 1) s1 + e1 - p1, which is what their composition needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Node, Value
from repcompiler.ops import (
    ACTIVATIONS,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    ConvTranspose,
    DepthToSpace,
    DynamicConv,
    Frame,
    Identity,
    MaxPool,
    Mul,
    Op,
    Pad,
    PadChannels,
    Reshape,
    Resize,
    Scale,
    Select,
    SpaceToDepth,
    Subsample,
    Sum,
)
from repcompiler.refusal import refuse

STRICT = (AvgPool, Conv, ConvTranspose, DynamicConv, MaxPool)
"""Operations that make one pixel at least, or are an error."""
CROPPING = (Frame, Pad)
"""Operations that leave out pixels at both ends, and are an error where there are not as many."""
MOVING = (*CROPPING, Subsample)
"""Operations that read one pixel at a time, and may make none."""
ALIKE = (*ACTIVATIONS, BatchNorm, Concat, Identity, Mul, PadChannels, Scale, Select, Sum)
"""Operations that make as many pixels as they read."""
KNOWN = (*STRICT, *MOVING, *ALIKE, DepthToSpace, Resize, SpaceToDepth)
HORIZON = 12
"""Operations that are looked over, before and behind."""


def refuse_smaller_images(terms: Iterable[Expr | Value | None]) -> None:
    """Refuse what would be an error on images on which the source is none."""
    for part in (part for term in terms if isinstance(term, Expr) for part in term.parts()):
        strict = isinstance(part.op, STRICT)
        for axis in range(len(part.op.padding)) if isinstance(part.op, (*STRICT, *CROPPING)) else ():
            least = max(needed(part.op, axis, 1), 1) if strict else needed(part.op, axis, 0)
            if not _Pixels(axis).are_there(part.operands[0], least):
                refuse("it would be an error on images of which a crop, a stride or a resize leaves no pixel")


def needed(op: Op, axis: int, n: int) -> int:
    """Pixels along an axis that `op` certainly reads where it makes n or more."""
    n = max(n, 1) if isinstance(op, STRICT) else n
    if n < 1 and isinstance(op, CROPPING):
        return max(0, -sum(op.padding[axis]))
    if n < 1 or not isinstance(op, KNOWN):
        return 0
    if isinstance(op, Resize):
        return ceil(n / op.scales[axis % len(op.scales)]) if op.scales else 1
    if isinstance(op, (DepthToSpace, SpaceToDepth)):
        return ceil(n / op.block) if isinstance(op, DepthToSpace) else n * op.block
    if isinstance(op, (ConvTranspose, *ALIKE)):
        return 1 if isinstance(op, (ConvTranspose, Mul, Sum)) else n  # one pixel may be added to many
    before, after = op.padding[axis]
    stride = 1 if isinstance(op, (Frame, Pad)) else op.stride[axis]
    size = 1 if isinstance(op, MOVING) else op.kernel_size[axis]
    dilation = op.dilation[axis] if isinstance(op, (Conv, DynamicConv, MaxPool)) else 1
    least = 1 if isinstance(op, (AvgPool, MaxPool)) else 0  # a pool pads no image without pixels; onnxruntime's Conv does
    return max((n - 1) * stride + dilation * (size - 1) + 1 - before - after, -before, -after, least)


class _Pixels:
    """What is known of one axis."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.demands: dict[Value, int] = {}
        self.found: dict[tuple[Value, int], bool] = {}

    def are_there(self, term: Expr | Value, n: int, horizon: int = HORIZON) -> bool:
        """Whether there are certainly n pixels of a value, whenever the graph runs."""
        if n < 1:
            return True
        size = (shape_of(term) or ())[self.axis + 2 : self.axis + 3]
        if size and isinstance(size[0], int):
            return size[0] >= n
        if isinstance(term, Expr):
            return self._made(term.op, term.operands, n, horizon)
        if (term, n) not in self.found:
            self.found[term, n] = self._known(term, n, horizon)
        return self.found[term, n]

    def _known(self, value: Value, n: int, horizon: int) -> bool:
        node = value.producer
        if n == 1 and (node is None or isinstance(node.op, STRICT)):
            return True
        made = node is not None and self._made(node.op, node.inputs, n, horizon)
        return made or self._demand(value, HORIZON) >= n

    def _made(self, op: Op, operands: Iterable[Expr | Value], n: int, horizon: int) -> bool:
        """Whether `op` makes n pixels of what is there."""
        if isinstance(op, STRICT) and n == 1:
            return True
        if not horizon or not isinstance(op, KNOWN) or isinstance(op, ConvTranspose) or (isinstance(op, Resize) and op.sizes):
            return False
        before = n if isinstance(op, ALIKE) else needed(op, self.axis, n)
        return all(self.are_there(operand, before, horizon - 1) for operand in operands)

    def _demand(self, value: Value, horizon: int) -> int:
        """Pixels that a value must have, or the graph ends in an error."""
        if value not in self.demands:
            self.demands[value] = 0
            self.demands[value] = max((self._of_reader(user, value, horizon) for user in value.uses), default=0)
        return self.demands[value]

    def _of_reader(self, node: Node, value: Value, horizon: int) -> int:
        if isinstance(node.op, Reshape) and horizon:
            axis = node.op.kept_axes(value.shape or ()).get(self.axis + 2, 0)
            return _Pixels(axis - 2)._demand(node.output, horizon - 1) if axis > 1 else 0
        if not isinstance(node.op, KNOWN) or (value is not node.inputs[0] and not isinstance(node.op, ALIKE)):
            return 0
        return needed(node.op, self.axis, self._demand(node.output, horizon - 1) if horizon else 0)
