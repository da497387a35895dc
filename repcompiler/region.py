"""Linear regions: a value as one convolution of an earlier one, through any private linear operations between.

A fully connected layer is a convolution without spatial axes; its channels are the last axis.

    region ::= source  |  op(region)  |  +-region +- ... +- region  |  [region; ...; region]

A region is found by its structure alone; what it is, is computed only when a rewrite asks for it (`convolution`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from repcompiler import algebra
from repcompiler.addition import add
from repcompiler.ir import Graph, Node, Value
from repcompiler.ops import Concat, Conv, Frame, Identity, Linear, Op, PadChannels, Scale, Select, SpaceToDepth, Sum
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
    if isinstance(node.op, Frame):
        return _framed(node.op, node.inputs[0], scope, None if shared else node)
    if not isinstance(node.op, (Sum, Concat)) or len(node.inputs) < 2:
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


def _framed(frame: Frame, inner: Value, scope: Scope, root: Node | None) -> tuple[Conv, Value, Interior] | None:
    """A pointwise convolution and a frame of what it makes of zero: the convolution of the image surrounded by zeros.

    `root`: what alone may read the result of the convolution, if not anything.
    """
    conv = None if inner.producer is None else inner.producer.op
    if not isinstance(conv, Conv) or not conv.is_pointwise or (root and not is_read_within(inner, (), scope, root)):
        return None
    if not algebra.known_zero(algebra.float64(frame.value) - algebra.float64(conv.bias)):
        return None
    assert inner.producer is not None
    return replace(conv, padding=frame.padding), inner.producer.inputs[0], (inner,)


def _goes_on(branch: dict[Value, tuple[Region, Interior]], scope: Scope) -> bool:
    """Whether a branch, found as far as nothing else reads what lies inside, would go on from there."""
    node = next(reversed(branch)).producer
    return node is not None and (scope.step(node) is not None or isinstance(node.op, (Sum, Concat, Frame)))


def is_read_within(value: Value, interior: Interior, scope: Scope, root: Node | None = None) -> bool:
    """Whether nothing but `root` and what makes the values of `interior` reads a value."""
    inner = {root, *(inside.producer for inside in interior)}
    return not scope.graph.is_output(value) and all(user in inner for user in value.uses)


def convolution(region: Region, views: Mapping[type[Op], View], beside: Sequence[Region] = ()) -> Conv:
    """The region as one convolution; refuses where it is none.  `beside`: other regions on the same source."""
    channels, spatial = space(region, beside)
    result: Conv | None = None
    for step in region.steps or (Identity(),):
        if isinstance(step, Join):
            conv = _join(step, views, beside)
        else:
            conv = view_of(step, views, channels, spatial, region.source.rank)
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
        total = add(total, conv, size)
    return total


def view_of(op: Op, views: Mapping[type[Op], View], channels: int, spatial: int, rank: int | None) -> Conv:
    """One operation as a convolution of its own rank."""
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


def space(region: Region, beside: Sequence[Region]) -> tuple[int, int]:
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
