"""Linear regions: a value as one convolution of an earlier one, through any private linear operations between.

A fully connected layer is a convolution without spatial axes; its channels are the last axis.

    region ::= source  |  op(region)  |  +-region +- ... +- region  |  [region; ...; region]

A region is found by its structure alone; what it is, is computed only when a rewrite asks for it (`convolution`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np

from repcompiler import algebra
from repcompiler.ir import Graph, Node, Value
from repcompiler.ops import BatchNorm, Concat, Conv, Identity, Linear, Op, PadChannels, Scale, Select, SpaceToDepth, Sum
from repcompiler.refusal import refuse

View = Callable[[Any, int, int], Conv]
"""(operation, channels, spatial axes) -> the operation as a convolution."""

HORIZON = 8
"""Steps a region may be long: how far a rewrite looks past a merge that does not pay by itself."""


@dataclass(frozen=True)
class Scope:
    """What a match may look at: the graph, and the views that make a convolution of other linear operations."""

    graph: Graph
    views: Mapping[type[Op], View]

    def step(self, node: Node) -> Op | None:
        """What a node does to its one operand, if it has a form as a convolution: fully connected layers in that form."""
        if isinstance(node.op, Linear):
            return self.views[Linear](node.op, node.op.in_channels, 0) if Linear in self.views else None
        return node.op if isinstance(node.op, Conv) or type(node.op) in self.views else None


@dataclass(frozen=True)
class Join:
    """Branches on one source, added up or concatenated."""

    op: Sum | Concat
    branches: tuple[Region, ...]


@dataclass(frozen=True)
class Region:
    """Steps applied one after the other to `source`, innermost first; none for `source` itself."""

    source: Value
    steps: tuple[Op | Join, ...] = ()
    negative: bool = False

    def ops(self) -> Iterator[Op]:
        """Every linear operation in it, innermost first."""
        for step in self.steps:
            if isinstance(step, Join):
                for branch in step.branches:
                    yield from branch.ops()
            else:
                yield step


Interior = tuple[Value, ...]


def regions(value: Value, scope: Scope, horizon: int = HORIZON, shared: bool = False) -> Iterator[tuple[Region, Interior]]:
    """`value` as a region of ever earlier sources, the nearest first, each with the values that lie inside.

    What lies inside is read by nothing else, unless that is for the caller to see to (`shared`).
    """
    steps: tuple[Op | Join, ...] = ()
    interior: Interior = ()
    source = value
    yield Region(value), interior
    while (node := source.producer) is not None and len(steps) < horizon:
        found = last_step(node, scope, horizon - len(steps) - 1, shared)
        if found is None:
            return
        step, earlier, inside = found
        steps, interior, source = (step, *steps), (*interior, source, *inside), earlier
        yield Region(source, steps), interior
        if not shared and not is_read_within(source, interior, scope):
            return


def last_step(
    node: Node, scope: Scope, horizon: int = HORIZON, shared: bool = False
) -> tuple[Op | Join, Value, Interior] | None:
    """The last step of a region that ends in `node`, what it starts from, and the values inside the step; None without one.

    Branches may share values: those that nothing outside of all of them reads (`shared`: whatever reads them).
    """
    step = scope.step(node)
    if step is not None:
        return step, node.inputs[0], ()
    if not isinstance(node.op, (Sum, Concat)) or len(set(node.inputs)) < 2:
        return None
    branches: list[dict[Value, tuple[Region, Interior]]] = []
    for share in (True,) if shared else (False, True):
        if branches and not any(_goes_on(branch, scope) for branch in branches):
            return None
        branches = [{part.source: (part, inside) for part, inside in regions(v, scope, horizon, share)} for v in node.inputs]
        common = next((source for source in branches[0] if all(source in branch for branch in branches)), None)
        if common is None:
            continue
        chosen = [branch[common] for branch in branches]
        interior = tuple(dict.fromkeys(value for _, inside in chosen for value in inside))
        if shared or all(is_read_within(value, interior, scope, node) for value in interior):
            return Join(node.op, tuple(region for region, _ in chosen)), common, interior
    return None


def _goes_on(branch: dict[Value, tuple[Region, Interior]], scope: Scope) -> bool:
    """Whether a branch, found as far as nothing else reads what lies inside, would go on from there."""
    node = next(reversed(branch)).producer
    return node is not None and (scope.step(node) is not None or isinstance(node.op, (Sum, Concat)))


def is_read_within(value: Value, interior: Interior, scope: Scope, root: Node | None = None) -> bool:
    """Whether nothing but `root` and what makes the values of `interior` reads a value."""
    inner = {root, *(inside.producer for inside in interior)}
    return not scope.graph.is_output(value) and all(user in inner for user in value.uses)


def convolution(region: Region, views: Mapping[type[Op], View], beside: Sequence[Region] = ()) -> Conv:
    """The region as one convolution; refuses where it is none.  `beside`: other regions on the same source."""
    channels, spatial = _space(region, beside)
    result: Conv | None = None
    for step in region.steps or (Identity(),):
        if isinstance(step, Join):
            conv = _join(step, views, beside)
        else:
            conv = _view(step, views, channels, spatial, region.source.rank)
        if len(conv.stride) != spatial:
            refuse("one acts on the channels, the other on the last axis")
        result = conv if result is None else algebra.compose(result, conv, region.source.spatial(spatial))
        channels = conv.out_channels
    assert result is not None
    return algebra.negate(result) if region.negative else result


def telling(parts: Iterable[Region]) -> dict[Value, list[Region]]:
    """By source, one region of each kind that tells something about it: for `beside`, they say as much as all of them."""
    kinds: dict[Value, dict[tuple[bool, bool], Region]] = {}
    for part in parts:
        kinds.setdefault(part.source, {}).setdefault((_is_on_last_axis(part), _reader(part) is not None), part)
    return {source: [*found.values()] for source, found in kinds.items()}


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
        inputs, _ = _space(region, ())
        fan_in = max(_fan_in(region), inputs // gcd(inputs, channels))  # groups divide both
        groups = max(inputs // fan_in, 1)
    else:
        groups = gcd(*(op.groups for op in mixing))
        fan_in = mixing[0].in_channels // groups
    weight = np.broadcast_to(np.zeros(()), (channels, fan_in, *thin.kernel_size))
    return replace(thin, weight=weight, bias=np.repeat(thin.bias, channels), groups=groups)


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
    _, spatial = _space(region, ())
    for step in region.steps or (Identity(),):
        if isinstance(step, Join):
            signs = (1,) * len(step.branches)
            steps.append(Join(Sum(signs), tuple(_thin(branch, views) for branch in step.branches)))
            continue
        step = Identity() if isinstance(step, (PadChannels, Select)) else step
        channels = step.channels if isinstance(step, (BatchNorm, Scale)) else 1
        conv = _view(step, views, channels, spatial, region.source.rank)
        bias = np.zeros(1) if algebra.known_zero(conv.bias) else np.ones(1)
        steps.append(replace(conv, weight=np.ones((1, 1, *conv.kernel_size)), bias=bias, groups=1))
    return Region(region.source, tuple(steps))


def _join(join: Join, views: Mapping[type[Op], View], beside: Sequence[Region]) -> Conv:
    near = telling((*join.branches, *beside))
    convs = [convolution(branch, views, near[branch.source]) for branch in join.branches]
    size = join.branches[0].source.spatial(len(convs[0].stride))
    if isinstance(join.op, Concat):
        if not size and join.branches[0].source.rank != 2:
            refuse("it concatenates along another axis than the last")
        return algebra.stack(convs, size)
    signed = [conv if sign > 0 else algebra.negate(conv) for sign, conv in zip(join.op.signs, convs, strict=True)]
    total = signed[0]
    for conv in signed[1:]:
        total = algebra.add(total, conv, size)
    return total


def _view(op: Op, views: Mapping[type[Op], View], channels: int, spatial: int, rank: int | None) -> Conv:
    if isinstance(op, Conv):
        return op
    if spatial == 0 and rank != 2:  # what acts on axis 1 does not act on the last
        if isinstance(op, Scale) and rank is not None and op.channel_axis(rank) == rank - 1:
            op = replace(op, axis=1)
        elif not isinstance(op, Identity) and not (isinstance(op, Scale) and op.channels == 1):
            refuse("one acts on the channels, the other on the last axis")
    if type(op) not in views:
        refuse(f"no pass that shows {op.kind} as a convolution is in use")
    return views[type(op)](op, channels, spatial)


def _space(region: Region, beside: Sequence[Region]) -> tuple[int, int]:
    """(channels, spatial axes) of the source: what its shape says, else what a convolution that reads it says."""
    shape = region.source.shape
    last = any(map(_is_on_last_axis, (region, *beside)))
    axis = len(shape or ()) - 1 if last else 1
    if shape is not None and len(shape) >= 2 and isinstance(size := shape[axis], int):
        return size, 0 if last else len(shape) - 2
    reader = next((conv for conv in map(_reader, (region, *beside)) if conv is not None), None)
    if reader is None:
        refuse(f"the shape of '{region.source.name}' is not known")
    return reader.in_channels, len(reader.stride)


def _is_on_last_axis(region: Region) -> bool:
    """Whether a fully connected layer is in it."""
    return any(isinstance(op, Conv) and not op.stride for op in region.ops())


def _reader(region: Region) -> Conv | None:
    """A convolution that reads as many channels as the source has: nothing before it mixes or chooses channels."""
    for step in region.steps:
        if isinstance(step, Join):
            return next((conv for conv in map(_reader, step.branches) if conv is not None), None)
        if isinstance(step, (Conv, PadChannels, Select, SpaceToDepth)):
            return step if isinstance(step, Conv) else None
    return None
