"""What the specification asks of an operation, and the checker does not look at: extents that fit, strides above zero.

A file may say anything.  What is not well-formed is not lifted, whatever the runtime will make of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from math import prod

from repcompiler.ir import Value
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    DepthToSpace,
    DynamicConv,
    Linear,
    MaxPool,
    Op,
    Pad,
    Padding,
    Select,
    SpaceToDepth,
    Subsample,
    Transpose,
)
from repcompiler.refusal import refuse

REACH = 2**20
"""Pixels that a window reaches over, a padding adds or a stride leaves out: equations on larger ones do not fit into memory."""


def wellformed(op: Op, inputs: Sequence[Value], stated: Sequence[int] | None = None) -> None:
    """Refuse what no runtime could run; `stated`: what the node says of the shape of its kernel."""
    if stated is not None and tuple(stated) != getattr(op, "kernel_size", tuple(stated)):
        refuse("its kernel is not of the shape that it states")
    _check(op, inputs)


@singledispatch
def _check(op: Op, inputs: Sequence[Value]) -> None:
    """Nothing is asked of most."""


@_check.register
def _(op: Conv, inputs: Sequence[Value]) -> None:
    _windows(op.kernel_size, op.stride, op.padding, op.dilation, inputs[0])
    _channels(op.in_channels, inputs[0], op.channel_axis(None))
    _grouped(op.weight.shape, op.out_channels, op.groups, op.bias.shape)


@_check.register
def _(op: DynamicConv, inputs: Sequence[Value]) -> None:
    _windows(op.weight_shape[2:], op.stride, op.padding, op.dilation, inputs[0])
    _grouped(op.weight_shape, op.weight_shape[0], op.groups, op.bias.shape)


@_check.register
def _(op: ConvTranspose, inputs: Sequence[Value]) -> None:
    _windows(op.kernel_size, op.stride, op.padding, op.dilation, inputs[0])
    if len(op.output_padding) != len(op.stride) or min(op.output_padding) < 0:
        refuse(f"its output padding is {list(op.output_padding)}")
    _channels(op.in_channels, inputs[0], 1)
    _grouped(op.weight.shape, op.in_channels, op.groups, op.bias.shape, op.out_channels)


@_check.register
def _(op: Linear, inputs: Sequence[Value]) -> None:
    if op.weight.ndim != 2 or not op.weight.size or tuple(op.bias.shape) != (op.out_channels,):
        refuse(f"its weight is {_shape(op.weight.shape)} and its bias {_shape(op.bias.shape)}")
    _channels(op.in_channels, inputs[0], -1)


@_check.register
def _(op: BatchNorm, inputs: Sequence[Value]) -> None:
    shapes = {tuple(array.shape) for array in (op.gamma, op.beta, op.mean, op.var)}
    if shapes != {(op.channels,)} or not op.channels:
        refuse(f"its parameters are {', '.join(map(_shape, sorted(shapes)))}")
    _channels(op.channels, inputs[0], 1)


@_check.register
def _(op: AvgPool, inputs: Sequence[Value]) -> None:
    _windows(op.kernel_size, op.stride, op.padding, (1,) * len(op.stride), inputs[0])


@_check.register
def _(op: MaxPool, inputs: Sequence[Value]) -> None:
    _windows(op.kernel_size, op.stride, op.padding, op.dilation, inputs[0])


@_check.register
def _(op: Subsample, inputs: Sequence[Value]) -> None:
    ones = (1,) * len(op.stride)
    _windows(ones, op.stride, ((0, 0),) * len(ones), ones, inputs[0])


@_check.register
def _(op: Pad, inputs: Sequence[Value]) -> None:
    ones = (1,) * len(op.padding)
    _windows(ones, ones, op.padding, ones, inputs[0])


@_check.register(SpaceToDepth)
@_check.register(DepthToSpace)
def _(op: SpaceToDepth | DepthToSpace, inputs: Sequence[Value]) -> None:
    if not 0 < op.block <= REACH**0.5:
        refuse(f"its blocks are of {op.block} pixels")


@_check.register
def _(op: Transpose, inputs: Sequence[Value]) -> None:
    if sorted(op.perm) != list(range(len(op.perm))) or inputs[0].rank not in (None, len(op.perm)):
        refuse(f"its order of axes is {list(op.perm)}")


@_check.register
def _(op: Select, inputs: Sequence[Value]) -> None:
    channels = None if inputs[0].shape is None or len(inputs[0].shape) < 2 else inputs[0].shape[1]
    if not op.index or min(op.index) < 0 or (isinstance(channels, int) and max(op.index) >= channels):
        refuse(f"it selects channels that are not among {channels}")


def _windows(kernel: Sequence[int], stride: Sequence[int], padding: Padding, dilation: Sequence[int], x: Value) -> None:
    """One number of each kind an axis, and in a range that makes sense."""
    axes = len(kernel)
    if not axes or {len(stride), len(padding), len(dilation)} != {axes} or x.rank not in (None, axes + 2):
        refuse(f"kernel, strides, padding, dilation and input ({x.rank} axes) are not of one number of axes")
    if min(*kernel, *stride, *dilation) < 1:
        refuse(f"kernel {list(kernel)}, strides {list(stride)} and dilation {list(dilation)} are not all positive")
    reach = [max(d * (k - 1) + 1, s, *map(abs, p)) for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True)]
    if prod(reach) > REACH:
        refuse(f"it reaches over {_shape(reach)} pixels")


def _grouped(weight: Sequence[int], rows: int, groups: int, bias: Sequence[int], channels: int | None = None) -> None:
    if min(weight) < 1 or groups < 1 or rows % groups or tuple(bias) != (rows if channels is None else channels,):
        refuse(f"its weight is {_shape(weight)}, its bias {_shape(bias)}, in {groups} groups")


def _channels(wanted: int, x: Value, axis: int) -> None:
    found = x.shape[axis] if x.shape and len(x.shape) > axis else None
    if isinstance(found, int) and found != wanted:
        refuse(f"it reads {wanted} channels, and its input has {found}")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"
