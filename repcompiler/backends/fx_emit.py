"""From operations of the neutral graph to torch.fx nodes and the modules and parameters they need."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from torch import fx, nn

from repcompiler.algebra import affine, known_zero
from repcompiler.backends.fx_writer import Writer
from repcompiler.ops import (
    Array,
    AvgPool,
    BatchNorm,
    Clip,
    ClipChannels,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    DepthToSpace,
    DynamicConv,
    Frame,
    Gated,
    GlobalAvgPool,
    HardSigmoid,
    Identity,
    Linear,
    MaxPool,
    Mul,
    Odd,
    Op,
    Pad,
    PadChannels,
    Padding,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Scale,
    Select,
    Sigmoid,
    Softmax,
    SpaceToDepth,
    Stack,
    Subsample,
    Sum,
    Take,
    Transpose,
)

CONVOLUTIONS: dict[int, type[nn.Module]] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {3: nn.ConvTranspose1d, 4: nn.ConvTranspose2d, 5: nn.ConvTranspose3d}
MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


SMOOTH: dict[str, Callable[[fx.Node], tuple[Any, ...]]] = {
    "silu": lambda x: (F.silu, (x,)),
    "gelu": lambda x: (F.gelu, (x,)),
    "gelu_tanh": lambda x: (F.gelu, (x,), {"approximate": "tanh"}),
    "hardswish": lambda x: (F.hardswish, (x,)),
    "tanh": lambda x: (torch.tanh, (x,)),
    "erf": lambda x: (torch.erf, (x,)),
    "cube": lambda x: (torch.pow, (x, 3)),
}


class Emit(Writer):
    """Adds nodes at the insertion point of the region's graph."""

    def operation(self, op: Op, x: Sequence[fx.Node]) -> fx.Node:
        """The node that computes `op` of the nodes `x`."""
        match op:
            case Conv():
                return self._conv(op, x[0])
            case ConvTranspose():
                return self._conv_transpose(op, x[0])
            case DynamicConv():
                return self._dynamic_conv(op, x[0], x[1])
            case Linear():
                module = nn.Linear(op.in_channels, op.out_channels, not known_zero(op.bias), device="meta")
                return self._module(module, x[0], op.weight, op.bias)
            case Scale():
                return self._scale(op.scale, op.shift, op.axis if op.channels > 1 else None, x[0])
            case BatchNorm():
                return self._scale(*affine(op, op.channels), 1, x[0])
            case Sum():
                return self._sum(op, x)
            case Pad():
                return self._pad(op.padding, x[0])
            case PadChannels():
                assert self.place.rank is not None, "the torch frontend lifts channels of zeros of known rank"
                return self._pad(((op.before, op.after), *((0, 0),) * (self.place.rank - 2)), x[0])
            case Frame():
                inner = self._scale(np.ones(1), -op.value, 1, x[0])
                return self._scale(np.ones(1), op.value, 1, self._pad(op.padding, inner))
            case AvgPool():
                return self._average(op, x[0])
            case Subsample():
                ends = zip(op.first or (None,) * len(op.stride), op.stride, strict=True)
                every = (slice(None), slice(None), *(slice(first, None, step) for first, step in ends))
                return self.graph.call_function(operator.getitem, (x[0], every))
            case Relu():
                return self.graph.call_function(F.relu, (x[0],))
            case Clip():
                bounds = [bound if np.isfinite(bound) else None for bound in (op.minimum, op.maximum)]
                return self.graph.call_function(torch.clamp, (x[0], *bounds))
            case ClipChannels():
                return self._clip_channels(op, x[0])
            case Gated(gate=name) | Odd(function=name):
                return self.graph.call_function(*SMOOTH[name](x[0]))
            case PRelu():
                if op.slope.shape == (1,):
                    return self.graph.call_function(F.leaky_relu, (x[0], float(op.slope[0])))
                return self.graph.call_function(F.prelu, (x[0], self._parameter("slope", op.slope)))
            case Sigmoid():
                return self.graph.call_function(torch.sigmoid, (x[0],))
            case HardSigmoid():
                assert op == HardSigmoid(1 / 6, 0.5), "torch has no other"
                return self.graph.call_function(F.hardsigmoid, (x[0],))
            case Softmax():
                return self.graph.call_function(torch.softmax, (x[0], op.axis))
            case Mul():
                return self.graph.call_function(operator.mul, (x[0], x[1]))
            case Stack():
                return self.graph.call_function(torch.stack if op.new else torch.cat, (list(x), op.axis))
            case Take():
                return self._take(op, x[0])
            case GlobalAvgPool():
                assert self.place.rank is not None, "the torch frontend lifts a mean of known rank"
                axes = tuple(range(2, op.dropped + 2 if op.dropped else self.place.rank))
                return self.graph.call_method("mean", (x[0], axes, not op.dropped))
            case MaxPool():
                return self._maximum(op, x[0])
            case Resize():
                return self._resize(op, *x)
            case SpaceToDepth():
                blocks = self.graph.call_function(F.pixel_unshuffle, (x[0], op.block))
                if op.mode == "CRD":
                    return blocks
                channels = self.graph.call_method("size", (x[0], 1))
                return self.graph.call_function(F.channel_shuffle, (blocks, channels))
            case DepthToSpace():
                dcr = op.mode == "DCR"
                blocks = self.graph.call_function(F.channel_shuffle, (x[0], op.block**2)) if dcr else x[0]
                return self.graph.call_function(F.pixel_shuffle, (blocks, op.block))
            case Concat():
                return self.graph.call_function(torch.cat, (list(x), 1))
            case Select():
                return self._select(op, x[0])
            case Reshape((0, _), 0):
                return self.graph.call_method("flatten", (x[0], 1))
            case Reshape():
                return self.graph.call_method("reshape", (x[0], *self._sizes(op, x[0])))
            case Transpose():
                return self.graph.call_method("permute", (x[0], *op.perm))
            case Identity():
                return x[0]
            case Constant():
                return self._parameter("", op.array)
        raise TypeError(f"{op.kind} is no operation of the algebra")

    def _sizes(self, op: Reshape, x: fx.Node) -> list[Any]:
        """Numbers; where an extent stays it is read, but for one, which the others leave no choice."""
        target = [*op.target, *(0,) * op.tail]
        if 0 in target and -1 not in target:
            target[target.index(0)] = -1
        axes = [*range(len(op.target)), *range(-op.tail, 0)]
        return [size or self.graph.call_method("size", (x, axis)) for size, axis in zip(target, axes, strict=True)]

    def _conv(self, op: Conv, x: fx.Node) -> fx.Node:
        even = all(before == after >= 0 for before, after in op.padding)
        module = CONVOLUTIONS[op.weight.ndim](
            op.in_channels,
            op.out_channels,
            op.kernel_size,
            stride=op.stride,
            padding=tuple(before for before, _ in op.padding) if even else 0,
            dilation=op.dilation,
            groups=op.groups,
            bias=not known_zero(op.bias),
            device="meta",
        )
        return self._module(module, x if even else self._pad(op.padding, x), op.weight, op.bias)

    def _conv_transpose(self, op: ConvTranspose, x: fx.Node) -> fx.Node:
        even = all(before == after >= 0 for before, after in op.padding)
        module = TRANSPOSED[op.weight.ndim](
            op.in_channels,
            op.out_channels,
            op.kernel_size,
            stride=op.stride,
            padding=tuple(before for before, _ in op.padding) if even else 0,
            output_padding=op.output_padding,
            dilation=op.dilation,
            groups=op.groups,
            bias=not known_zero(op.bias),
            device="meta",
        )
        whole = self._module(module, x, op.weight, op.bias)
        return whole if even else self._pad(tuple((-before, -after) for before, after in op.padding), whole)

    def _dynamic_conv(self, op: DynamicConv, x: fx.Node, kernel: fx.Node) -> fx.Node:
        """Where each sample has a kernel of its own, the samples are groups of one."""
        call, function = self.graph.call_method, FUNCTIONS[len(op.stride)]
        even = all(before == after >= 0 for before, after in op.padding)
        x = x if even else self._pad(op.padding, x)
        padding = tuple(before for before, _ in op.padding) if even else 0
        geometry = (op.stride, padding, op.dilation)
        if not op.each:
            bias = None if known_zero(op.bias) else self._parameter("bias", op.bias)
            return self.graph.call_function(function, (x, kernel, bias, *geometry, op.groups))
        batch = call("size", (x, 0))
        groups = self.graph.call_function(operator.mul, (batch, op.groups))
        joined = call("unsqueeze", (call("flatten", (x, 0, 1)), 0))
        kernels = call("reshape", (kernel, -1, *op.weight_shape[1:]))
        result = self.graph.call_function(function, (joined, kernels, None, *geometry, groups))
        result = call("squeeze", (call("unflatten", (result, 1, (batch, op.out_channels))), 0))
        return result if known_zero(op.bias) else self._scale(np.ones(1), op.bias, 1, result)

    def _scale(self, scale: Array, shift: Array, axis: int | None, x: fx.Node) -> fx.Node:
        """x * scale + shift along `axis`; by way of the last axis where it is not known how many come after it."""
        rank = self.place.rank
        behind = 0 if axis is None else -1 - axis if axis < 0 else 0 if rank is None else rank - 1 - axis
        swapped = axis is not None and axis >= 0 and rank is None
        if swapped:
            x = self.graph.call_method("transpose", (x, axis, -1))
        for function, array, neutral in ((operator.mul, scale, 1.0), (operator.add, shift, 0.0)):
            if not np.all(array == neutral) or (function is operator.mul and known_zero(shift)):
                parameter = self._parameter("scale" if function is operator.mul else "shift", array.reshape(-1, *(1,) * behind))
                x = self.graph.call_function(function, (x, parameter))
        return self.graph.call_method("transpose", (x, axis, -1)) if swapped else x

    def _sum(self, op: Sum, terms: Sequence[fx.Node]) -> fx.Node:
        signed = sorted(
            zip(op.signs, terms, strict=True), key=lambda term: -term[0]
        )  # a negative first term needs one more node
        sign, total = signed[0]
        if sign < 0:
            total = self.graph.call_function(operator.neg, (total,))
        for sign, term in signed[1:]:
            total = self.graph.call_function(operator.add if sign > 0 else operator.sub, (total, term))
        return total

    def _pad(self, padding: Padding, x: fx.Node) -> fx.Node:
        return self.graph.call_function(F.pad, (x, tuple(amount for pair in padding[::-1] for amount in pair)))

    def _select(self, op: Select, x: fx.Node) -> fx.Node:
        start, stop = op.index[0], op.index[-1] + 1
        if op.index == tuple(range(start, stop)):
            return self.graph.call_function(operator.getitem, (x, (slice(None), slice(start, stop))))
        index = self._parameter("index", np.array(op.index, np.int64))
        return self.graph.call_function(torch.index_select, (x, 1, index))

    def _take(self, op: Take, x: fx.Node) -> fx.Node:
        if op.keep:
            return self.graph.call_function(torch.narrow, (x, op.axis, op.index, 1))
        return self.graph.call_function(torch.select, (x, op.axis, op.index))

    def _average(self, op: AvgPool, x: fx.Node) -> fx.Node:
        if any(map(any, op.padding)):
            x = self._pad(op.padding, x)
        axes = len(op.stride)
        divisor = (op.divisor,) if axes > 1 else ()
        mean = self.graph.call_function(POOLS[axes], (x, op.kernel_size, op.stride, 0, False, True, *divisor))
        if axes > 1 or op.divisor == op.kernel_size[0]:
            return mean
        return self.graph.call_function(operator.mul, (mean, op.kernel_size[0] / op.divisor))

    def _clip_channels(self, op: ClipChannels, x: fx.Node) -> fx.Node:
        assert self.place.rank is not None, "what is carried through a clip is an image of known rank"
        shape = (-1, *(1,) * (self.place.rank - 2))
        least, most = (
            self._parameter("minimum", op.minimum.reshape(shape)),
            self._parameter("maximum", op.maximum.reshape(shape)),
        )
        return self.graph.call_function(torch.clamp, (x, least, most))

    def _maximum(self, op: MaxPool, x: fx.Node) -> fx.Node:
        assert all(before == after for before, after in op.padding), "the torch frontend lifts no other padding"
        padding = tuple(before for before, _ in op.padding)
        return self.graph.call_function(MAXIMA[len(op.stride)], (x, op.kernel_size, op.stride, padding, op.dilation))

    def _resize(self, op: Resize, x: fx.Node, *given: fx.Node) -> fx.Node:
        axes = max(len(op.scales or op.sizes), (self.place.rank or 0) - 2)
        linear = ("linear", "bilinear", "trilinear")[axes - 1]
        mode = {"floor": "nearest", "round_prefer_ceil": "nearest-exact"}[op.rounding] if op.mode == "nearest" else linear
        corners = None if op.mode == "nearest" else op.coordinates == "align_corners"
        operands = iter(given)
        sizes = tuple(next(operands) if size is None else size for size in op.sizes)
        size, scales = ((said if len(said) > 1 else said[0]) if said else None for said in (sizes, op.scales))
        return self.graph.call_function(F.interpolate, (x, size, scales, mode, corners))
