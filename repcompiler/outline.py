"""Operations without their numbers: what a region would be as one convolution, before any weight is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import gcd

import numpy as np

from repcompiler import algebra
from repcompiler.ops import BatchNorm, Concat, Conv, Identity, Op, PadChannels, Scale, Select, SpaceToDepth, Sum
from repcompiler.region import Join, Region, View, convolution, space, view_of


def outline(region: Region, views: Mapping[type[Op], View]) -> Conv | None:
    """The convolution that the region would be, its weight a placeholder of the right shape, at next to no cost.

    Found from one-channel kernels: how taps, strides and padding combine does not depend on channels.  Where zero blocks may
    make the result cheaper than that, the placeholder is no larger than the plainest form can be.  None without a convolution.
    """
    convs = [op for op in region.ops() if isinstance(op, Conv)]
    mixing = [op for op in convs if not algebra.is_diagonal(op)]
    channels, moves = _channels(region), _moves_channels(region)
    if not convs or channels is None or (moves and not mixing):
        return None
    thin = convolution(_thin(region, views), {})
    if not mixing:
        groups, fan_in = channels, 1
    elif moves:
        inputs, _ = space(region, ())
        fan_in = max(_fan_in(region), inputs // gcd(inputs, channels))  # groups divide both
        groups = max(inputs // fan_in, 1)
    else:
        groups = gcd(*(op.groups for op in mixing))
        fan_in = mixing[0].in_channels // groups
    weight = np.broadcast_to(np.zeros(()), (channels, fan_in, *thin.kernel_size))
    return replace(thin, weight=weight, bias=np.repeat(thin.bias, channels), groups=groups)


def hollow(op: Op) -> Op:
    """The operation without its numbers: placeholders of the same shapes, which take no room."""
    return op.with_arrays({name: np.broadcast_to(np.zeros(()), array.shape) for name, array in op.arrays.items()})


def _moves_channels(region: Region) -> bool:
    joins = [step for step in region.steps if isinstance(step, Join)]
    inner = any(isinstance(join.op, Concat) or any(map(_moves_channels, join.branches)) for join in joins)
    return inner or any(isinstance(step, (PadChannels, Select, SpaceToDepth)) for step in region.steps)


def _channels(region: Region) -> int | None:
    """Channels of the region's result."""
    for index, step in reversed(list(enumerate(region.steps))):
        if isinstance(step, Conv):
            return step.out_channels
        if isinstance(step, SpaceToDepth):
            earlier = _channels(Region(region.source, region.steps[:index]))
            return None if earlier is None else earlier * _area(step, region)
        if isinstance(step, Select):
            return len(step.index)
        if isinstance(step, PadChannels):
            earlier = _channels(Region(region.source, region.steps[:index]))
            return None if earlier is None else step.before + earlier + step.after
        if isinstance(step, Join):
            parts = [_channels(branch) for branch in step.branches]
            known = [part for part in parts if part is not None]
            if isinstance(step.op, Sum):
                return known[0] if known else None
            return sum(known) if len(known) == len(parts) else None
    shape = region.source.shape
    return shape[1] if shape is not None and len(shape) > 1 and isinstance(shape[1], int) else None


def _fan_in(region: Region) -> int:
    """Input channels that some output channel reads, at least: what the first step that mixes channels reads."""
    copies = 1
    for step in region.steps:
        if isinstance(step, Join):
            return max(max(map(_fan_in, step.branches)) // copies, 1)
        if isinstance(step, Select):
            copies *= max(Counter(step.index).values())
        elif isinstance(step, SpaceToDepth):
            copies *= _area(step, region)
        elif isinstance(step, Conv) and step.weight.shape[1] > 1:
            return max(int(step.weight.shape[1]) // copies, 1)
        elif isinstance(step, Conv):
            copies *= step.out_channels // step.in_channels
    return 1


def _area(step: SpaceToDepth, region: Region) -> int:
    """Pixels of a block."""
    return int(step.block ** ((region.source.rank or 4) - 2))


def _thin(region: Region, views: Mapping[type[Op], View]) -> Region:
    """The region on one channel: every tap one, biases kept only in that they are there."""
    steps: list[Op | Join] = []
    _, spatial = space(region, ())
    for step in region.steps or (Identity(),):
        if isinstance(step, Join):
            signs = (1,) * len(step.branches)
            steps.append(Join(Sum(signs), tuple(_thin(branch, views) for branch in step.branches)))
            continue
        step = Identity() if isinstance(step, (PadChannels, Select)) else step
        channels = step.channels if isinstance(step, (BatchNorm, Scale)) else 1
        conv = view_of(step, views, channels, spatial, region.source.rank)
        bias = np.zeros(1) if algebra.known_zero(conv.bias) else np.ones(1)
        steps.append(replace(conv, weight=np.ones((1, 1, *conv.kernel_size)), bias=bias, groups=1))
    return Region(region.source, tuple(steps))
