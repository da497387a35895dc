"""What torch's modules are, as operations of the neutral graph.

A module is known by its exact type: a subclass may do more, unless all it adds is a constructor.  What has an argument that the
equations do not cover (`padding_mode`, partial windows, training mode ...) is not lifted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from repcompiler.frontends.fx_deterministic import Deterministic
from repcompiler.frontends.fx_run import to_numpy
from repcompiler.frontends.fx_trace import has_hooks, torch_type
from repcompiler.ir import Dim, Shape
from repcompiler.ops import (
    Array,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Identity,
    Linear,
    MaxPool,
    Op,
    Pad,
    PadChannels,
    Padding,
    Subsample,
)
from repcompiler.ops.base import may_be_partial


class Unliftable(Exception):
    """The operation is left as it is, opaque.  `str()` of it says why of those that are linear."""


def spread(value: Any, axes: int) -> tuple[int, ...]:
    """One number an axis."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    if not all(type(item) is int for item in values):
        raise Unliftable
    return tuple(values) * axes if len(values) == 1 else tuple(values)


def convolution(weight: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, groups: int) -> Conv:
    """From torch's arguments; `padding` may be "same" or "valid"."""
    axes = weight.ndim - 2
    dilation = spread(dilation, axes)
    pairs: Padding
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pairs = tuple((total // 2, total - total // 2) for total in totals)
    else:
        pairs = both_sides(0 if padding == "valid" else padding, axes)
    return Conv(weight, or_zeros(bias, weight.shape[0]), spread(stride, axes), pairs, dilation, *spread(groups, 1))


def both_sides(padding: Any, axes: int) -> Padding:
    """The same before and after each axis."""
    return tuple((side, side) for side in spread(padding, axes))


def or_zeros(array: Array | None, channels: int) -> Array:
    """A bias is always an array."""
    return np.zeros(channels) if array is None else array


def transposed(
    weight: Array, bias: Array | None, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> ConvTranspose:
    """From torch's arguments."""
    axes = weight.ndim - 2
    (groups,) = spread(groups, 1)
    sizes = spread(stride, axes), both_sides(padding, axes), spread(output_padding, axes), spread(dilation, axes)
    return ConvTranspose(weight, or_zeros(bias, weight.shape[1] * groups), *sizes, groups)


def normalisation(mean: Array, var: Array, gamma: Array | None, beta: Array | None, eps: float) -> BatchNorm:
    """Batch normalisation by fixed statistics."""
    if type(eps) not in (int, float):
        raise Unliftable("its eps is computed")
    return BatchNorm(np.ones(len(mean)) if gamma is None else gamma, or_zeros(beta, len(mean)), mean, var, float(eps))


def average(
    shape: Shape | None, axes: int, kernel: Any, stride: Any, padding: Any, ceil: bool, count_padding: bool, divisor: int | None
) -> AvgPool:
    """Of a value of that shape, from torch's arguments; no stride means the kernel's."""
    kernel, pairs, steps = spread(kernel, axes), both_sides(padding, axes), spread(stride or kernel, axes)
    if ceil and any(map(may_be_partial, _sizes(shape, axes), kernel, steps, pairs, (1,) * axes)):
        raise Unliftable("its windows may be partial (ceil_mode)")
    if not (count_padding or divisor is not None or not any(map(any, pairs))):
        raise Unliftable("it does not count padded zeros (count_include_pad)")
    return AvgPool(kernel, steps, pairs, divisor or int(np.prod(kernel)))


def _sizes(shape: Shape | None, axes: int) -> Sequence[Dim]:
    return shape[2:] if shape is not None and len(shape) == axes + 2 else (None,) * axes


def maximum(
    shape: Shape | None, axes: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, return_indices: bool
) -> MaxPool | Subsample:
    """A maximum pooling from torch's arguments; over windows of one pixel it only samples."""
    kernel, pairs, steps = spread(kernel, axes), both_sides(padding, axes), spread(stride or kernel, axes)
    dilation = spread(dilation, axes)
    missed = any(d > 1 and any(p) for d, p in zip(dilation, pairs, strict=True))  # a small image, between the taps
    if return_indices or missed:
        raise Unliftable
    if ceil and any(map(may_be_partial, _sizes(shape, axes), kernel, steps, pairs, dilation)):
        raise Unliftable("its windows may be partial (ceil_mode)")
    sampled = set(kernel) == {1} and not any(map(any, pairs))
    return Subsample(steps) if sampled else MaxPool(kernel, steps, pairs, dilation)


def zero_padding(amounts: Sequence[Any], value: Any) -> Pad:
    """From torch's amounts, which go from the last axis backwards."""
    if value not in (0, None) or not all(type(amount) is int for amount in amounts):
        raise Unliftable("it pads with something else than zeros, or by a computed amount")
    return Pad(tuple(zip(amounts[::2], amounts[1::2], strict=True))[::-1])


def channel_padding(amounts: Sequence[Any], value: Any) -> PadChannels:
    """The same where only channels are added, the last of the amounts."""
    (before, after), *others = zero_padding(amounts, value).padding
    if min(before, after) < 0 or any(map(any, others)):
        raise Unliftable("it pads channels and pixels at once, or leaves channels out")
    return PadChannels(before, after)


def _parameter(tensor: torch.Tensor | None) -> Array | None:
    """A parameter or buffer, or what its parametrisation makes of it."""
    return None if tensor is None else floating(tensor)


def floating(tensor: torch.Tensor) -> Array:
    """A dense floating-point tensor as an array."""
    if not tensor.is_floating_point() or tensor.layout is not torch.strided or tensor.device.type == "meta":
        raise Unliftable("its weight is no dense floating-point tensor")
    return to_numpy(tensor)


def _conv(m: Any) -> Op:
    op = convolution(floating(m.weight), _parameter(m.bias), m.stride, m.padding, m.dilation, m.groups)
    if m.padding_mode != "zeros" and any(map(any, op.padding)):
        raise Unliftable(f"its padding_mode is {m.padding_mode}")
    return op


def _conv_transpose(m: Any) -> Op:
    weight, bias = floating(m.weight), _parameter(m.bias)
    return transposed(weight, bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation)


def _linear(m: Any) -> Op:
    weight = floating(m.weight)
    return Linear(weight, or_zeros(_parameter(m.bias), weight.shape[0]))


def _batch_norm(m: Any) -> Op:
    if m.training:
        raise Unliftable("it is in training mode")
    if m.running_mean is None or m.running_var is None:
        raise Unliftable("it has no running statistics")
    return normalisation(floating(m.running_mean), floating(m.running_var), _parameter(m.weight), _parameter(m.bias), m.eps)


def _instance_norm(m: Any) -> Op:
    """By running statistics it normalises each channel as a batch norm does, whatever the batch."""
    if m.training or not m.track_running_stats:
        raise Unliftable("it normalises by the statistics of its input")
    return _batch_norm(m)


def _identity(m: Any) -> Op:
    if m.training and not isinstance(m, nn.Identity):  # a dropout
        raise Unliftable
    return Identity()


def _avg_pool(shape: Shape | None, m: Any) -> Op:
    axes = 1 if isinstance(m, nn.AvgPool1d) else 2 if isinstance(m, nn.AvgPool2d) else 3
    divisor = getattr(m, "divisor_override", None)
    return average(shape, axes, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, divisor)


def _max_pool(shape: Shape | None, m: Any) -> Op:
    axes = 1 if isinstance(m, nn.MaxPool1d) else 2 if isinstance(m, nn.MaxPool2d) else 3
    return maximum(shape, axes, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)


def _pad(m: Any) -> Op:
    return zero_padding(tuple(m.padding), getattr(m, "value", 0))


Readers = Mapping[type[nn.Module], tuple[Callable[[Any], Op], int | None]]
"""How to read a module of each type, and the rank of what it is applied to where the type says."""

MODULES: Readers = {
    nn.Identity: (_identity, None),
    nn.Dropout: (_identity, None),
    nn.Dropout1d: (_identity, None),
    nn.Dropout2d: (_identity, None),
    nn.Dropout3d: (_identity, None),
    nn.AlphaDropout: (_identity, None),
    nn.FeatureAlphaDropout: (_identity, None),
    nn.Linear: (_linear, None),
    nn.SyncBatchNorm: (_batch_norm, None),
    nn.BatchNorm1d: (_batch_norm, None),
    nn.BatchNorm2d: (_batch_norm, 4),
    nn.BatchNorm3d: (_batch_norm, 5),
    nn.InstanceNorm1d: (_instance_norm, 3),
    nn.InstanceNorm2d: (_instance_norm, 4),
    nn.InstanceNorm3d: (_instance_norm, 5),
    nn.Conv1d: (_conv, 3),
    nn.Conv2d: (_conv, 4),
    nn.Conv3d: (_conv, 5),
    nn.ConvTranspose1d: (_conv_transpose, 3),
    nn.ConvTranspose2d: (_conv_transpose, 4),
    nn.ConvTranspose3d: (_conv_transpose, 5),
    nn.ZeroPad1d: (_pad, 3),
    nn.ZeroPad2d: (_pad, 4),
    nn.ZeroPad3d: (_pad, 5),
    nn.ConstantPad1d: (_pad, 3),
    nn.ConstantPad2d: (_pad, 4),
    nn.ConstantPad3d: (_pad, 5),
}

POOLS: Mapping[type[nn.Module], tuple[Callable[[Shape | None, Any], Op], int]] = {
    nn.AvgPool1d: (_avg_pool, 3),
    nn.AvgPool2d: (_avg_pool, 4),
    nn.AvgPool3d: (_avg_pool, 5),
    nn.MaxPool1d: (_max_pool, 3),
    nn.MaxPool2d: (_max_pool, 4),
    nn.MaxPool3d: (_max_pool, 5),
}
"""The same of modules that also depend on the shape they are applied to."""


def module_op(module: nn.Module, readers: Readers, shape: Shape | None) -> tuple[Op, int | None]:
    """The operation that a module is on a value of that shape, and the rank of its input where its type says."""
    kind = torch_type(module)
    if kind in POOLS:
        pool, axes = POOLS[kind]
        readers = {kind: (partial(pool, shape), axes)}
    if kind not in readers:
        raise Unliftable(f"its class is {kind.__module__}.{kind.__name__}")
    if has_hooks(module) or "forward" in vars(module):
        raise Unliftable("it has hooks, or a forward of its own")
    reader, rank = readers[kind]
    try:
        with torch.no_grad(), Deterministic():
            return reader(module), rank
    except (TypeError, RuntimeError) as error:  # a parametrisation that is random, a tensor that numpy cannot see
        raise Unliftable from error
