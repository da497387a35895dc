"""Pictures of kernels: what the branches of a merged convolution add up to, at one channel.

The branches are those of the sum in the source, each as one convolution (`repcompiler.region`), the kernels centred on the
larger one's.  Red is positive, blue negative, on one scale for all, so that the sum of the pictures is the last picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repcompiler.graphdiff.model import Drawing, Region
from repcompiler.ir import Node, Value
from repcompiler.ops import BatchNorm, Conv, Identity, Op, Sum
from repcompiler.refusal import Refusal
from repcompiler.region import Scope, convolution, regions

NDArray = np.ndarray[Any, Any]
LARGE = 2**22
"""Numbers of a kernel from which on it is not worked out for a picture."""
MOST = 12
"""Kernels in a row."""
CANDIDATES = 12
"""Channels of which one is shown."""
REACH = 16
"""Steps that a branch may be long."""
ROUNDING = 1e-5
"""Relative difference of weights that were merged and rounded to float32."""


@dataclass(frozen=True)
class Kernel:
    """One kernel of one pair of channels."""

    words: str
    taps: tuple[tuple[float, ...], ...]
    """The numbers divided by `scale`: -1 to 1."""
    scale: float
    """The largest magnitude in all kernels of the region."""
    channels: tuple[int, int]
    """Which output channel is shown, and of which input channel."""

    @property
    def cells(self) -> Iterator[tuple[int, int, str, str, str]]:
        """(column, row, colour, opacity, number) of each tap."""
        for y, line in enumerate(self.taps):
            for x, tap in enumerate(line):
                yield x, y, "plus" if tap > 0 else "minus", f"{abs(tap):.2f}", f"{tap * self.scale:.3g}"

    @property
    def size(self) -> tuple[int, int]:
        return len(self.taps[0]), len(self.taps)


def scope(drawing: Drawing) -> Scope:
    """What is linear in a graph, by the passes that show an operation as a convolution."""
    from repcompiler.passes import PASSES
    from repcompiler.rewriter import ViewRule

    views = {op: rule.view for rule in PASSES if isinstance(rule, ViewRule) for op in rule.shows}
    return Scope(drawing.graph, views)


def of_region(scope: Scope, before: Drawing, after: Drawing, region: Region) -> list[Kernel]:
    """The branches' kernels and the merged one; nothing where the region is no sum of branches, and nothing else."""
    nodes = [node for place in region.before if (node := before.boxes[place].node) is not None]
    inside = set(nodes)
    sums = [node for node in nodes if isinstance(node.op, Sum) and not _is_read(node, inside)]
    merged = [node.op for place in region.after if (node := after.boxes[place].node) is not None and isinstance(node.op, Conv)]
    if len(sums) != 1 or len(merged) != 1 or not 1 <= len(merged[0].kernel_size) <= 2 or merged[0].weight.size > LARGE:
        return []
    terms = list(_terms(sums[0], inside))
    branches = [found for value, sign in terms if (found := _branch(value, sign, scope, inside)) is not None]
    return _pictures(branches, merged[0]) if 1 < len(branches) == len(terms) < MOST else []


def _is_read(node: Node, inside: set[Node]) -> bool:
    """Whether anything in the region reads it, but for identities."""
    readers = [user for user in node.output.uses if user in inside]
    return any(not isinstance(user.op, Identity) or _is_read(user, inside) for user in readers)


def _terms(node: Node, inside: set[Node], sign: int = 1) -> Iterator[tuple[Value, int]]:
    """What a tree of sums adds up."""
    assert isinstance(node.op, Sum)
    for value, own in zip(node.inputs, node.op.signs, strict=True):
        source = value
        while source.producer in inside and isinstance(source.producer.op, Identity):
            source = source.producer.inputs[0]
        if source.producer in inside and isinstance(source.producer.op, Sum):
            yield from _terms(source.producer, inside, sign * own)
        else:
            yield source, sign * own


def _branch(value: Value, sign: int, scope: Scope, inside: set[Node]) -> tuple[str, Conv, int] | None:
    """A branch back to where the region begins: in words, and as one convolution."""
    whole = None
    try:
        for found, interior in regions(value, scope, REACH):
            producers = [inner.producer for inner in (*interior, *([] if found.source is value else [value]))]
            if all(producer in inside for producer in producers):
                whole = found
        return None if whole is None else (_words([*whole.ops()]), convolution(whole, scope.views), sign)
    except (Refusal, ValueError):
        return None


def _words(ops: Sequence[Op]) -> str:
    """ "3x3 conv, batch norm"."""
    words = [_word(op) for op in ops if not isinstance(op, Identity)]
    linear = any(not isinstance(op, (BatchNorm, Identity)) for op in ops)
    return ", ".join(words if linear else ["identity", *words])


def _word(op: Op) -> str:
    if isinstance(op, BatchNorm):
        return "batch norm"
    return f"{'x'.join(map(str, op.kernel_size))} conv" if isinstance(op, Conv) else op.kind.lower()


def _pictures(branches: list[tuple[str, Conv, int]], merged: Conv) -> list[Kernel]:
    """None where the branches do not add up to what is there: then the region did more than merge them."""
    channel = _channel(branches, merged)
    kernels = [(words, sign * _at(conv, channel, merged)) for words, conv, sign in branches]
    total = _at(merged, channel, merged)
    if any(kernel.shape != total.shape for _, kernel in kernels):
        return []
    largest = max(float(np.abs(kernel).max()) for kernel in (total, *(kernel for _, kernel in kernels))) or 1.0
    if float(np.abs(sum(kernel for _, kernel in kernels) - total).max()) > ROUNDING * largest:
        return []
    shown = [*kernels, ("their sum: the new kernel", total)]
    return [
        Kernel(words, tuple(map(tuple, (k / largest).tolist())), largest, (channel, _source(merged, channel)))
        for words, k in shown
    ]


def _channel(branches: list[tuple[str, Conv, int]], merged: Conv) -> int:
    """The output channel to show: of a few, that in which the faintest branch is the least faint."""

    def faintest(channel: int) -> float:
        return min(float(np.abs(_at(conv, channel, merged)).max()) for _, conv, _ in branches)

    return max(range(0, merged.out_channels, -(-merged.out_channels // CANDIDATES)), key=faintest)


def _input(conv: Conv, channel: int) -> int:
    """Which input of its group is the channel's own, so that an identity has something to show."""
    per_group = conv.out_channels // conv.groups
    return (channel % per_group) % int(conv.weight.shape[1])


def _source(conv: Conv, channel: int) -> int:
    """The same, counted over all groups."""
    return (channel // (conv.out_channels // conv.groups)) * int(conv.weight.shape[1]) + _input(conv, channel)


def _at(conv: Conv, channel: int, frame: Conv) -> NDArray:
    """The kernel of one channel, in the middle of a frame as large as the merged kernel."""
    source = _source(frame, channel)
    group = channel // (conv.out_channels // conv.groups)
    inside = source - group * int(conv.weight.shape[1])
    taps = (
        np.asarray(conv.weight[channel, inside], np.float64)
        if 0 <= inside < conv.weight.shape[1]
        else np.zeros(conv.kernel_size)
    )
    sizes = [max(a, b) for a, b in zip(frame.kernel_size, conv.kernel_size, strict=True)]
    before = [own[0] - pad[0] for own, pad in zip(frame.padding, conv.padding, strict=True)]
    framed = np.zeros(sizes)
    framed[tuple(slice(max(b, 0), max(b, 0) + n) for b, n in zip(before, conv.kernel_size, strict=True))] = taps
    return framed.reshape(1, -1) if framed.ndim == 1 else framed


__all__ = ["Kernel", "Scope", "of_region", "scope"]
