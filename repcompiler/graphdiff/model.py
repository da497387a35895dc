"""Two drawings and the links between them: what every page, text and file about a diff is made from.

diff    ::= before after pair* region*      every box is in exactly one pair or region
drawing ::= box+                            in topological order, inputs first
pair    ::= box box                         the same operation
region  ::= box* box*                       went, and came instead
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from repcompiler import cost
from repcompiler.document import Document, Statistics
from repcompiler.ir import Graph, Node, Value
from repcompiler.ops import Constant, Opaque
from repcompiler.printer import attributes, render_shape
from repcompiler.rewrite_log import Step

BEFORE, AFTER = 0, 1
UNCERTAIN = ("values", "guess")


@dataclass(frozen=True)
class Box:
    """One operation, or one input of the graph, in words and numbers."""

    name: str
    kind: str
    text: str
    """The kind, and what differs from its defaults."""
    shape: str
    parameters: int = 0
    macs: int = 0
    reads: tuple[int, ...] = ()
    """Places of the boxes whose results it reads."""
    output: bool = False
    """Whether the graph hands its result out."""
    value: Value | None = field(default=None, repr=False)
    """Its result, the first one."""
    label: str = ""
    """What people know it by, as they may see it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Attributes that differ from their defaults, of an operation that the graph does not look into."""
    arrays: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    """Weights of such an operation, by name."""

    @property
    def node(self) -> Node | None:
        """What computes it; None for an input."""
        return None if self.value is None else self.value.producer


@dataclass(frozen=True)
class Drawing:
    """One graph."""

    title: str
    boxes: tuple[Box, ...]
    graph: Graph = field(repr=False)
    statistics: Statistics | None = None
    document: Document | None = field(default=None, repr=False)
    """What the graph was lifted from."""

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each name is."""
        return {box.name: place for place, box in enumerate(self.boxes)}

    @cached_property
    def readers(self) -> list[list[int]]:
        """The places that read each box."""
        readers: list[list[int]] = [[] for _ in self.boxes]
        for place, box in enumerate(self.boxes):
            for source in box.reads:
                readers[source].append(place)
        return readers


@dataclass(frozen=True)
class Pair:
    """The same operation on both sides."""

    before: int
    after: int
    how: str = "log"
    """What says so: "log", "name", "structure", "values" or "guess"."""

    @property
    def certain(self) -> bool:
        return self.how not in UNCERTAIN


@dataclass(frozen=True)
class Region:
    """What went and what came instead; either may be empty."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    how: str = "log"
    steps: tuple[Step, ...] = ()
    """The rewrites, in order, where they are known."""

    @property
    def rules(self) -> dict[str, int]:
        """How often each rule was applied in it."""
        return dict(Counter(step.rule for step in self.steps))

    @property
    def certain(self) -> bool:
        return self.how not in UNCERTAIN


@dataclass(frozen=True)
class Links:
    """The correspondence of two drawings."""

    pairs: tuple[Pair, ...]
    regions: tuple[Region, ...]


def linked(links: Links, side: int) -> dict[int, tuple[str, str]]:
    """Of each place on one side: the name of its link, shared with its counterpart, and what happened to it."""
    found: dict[int, tuple[str, str]] = {}
    for pair in links.pairs:
        found[(pair.before, pair.after)[side]] = f"s{pair.before}", "same" if pair.certain else "unsure"
    for index, region in enumerate(links.regions):
        state = "changed" if region.before and region.after else "gone" if region.before else "new"
        found |= dict.fromkeys((region.before, region.after)[side], (f"r{index}", state))
    return found


def draw(graph: Graph, title: str, statistics: Statistics | None = None, document: Document | None = None) -> Drawing:
    """A graph as boxes.  Constants are parts of what reads them."""
    nodes = [node for node in graph.topological() if node.outputs and not isinstance(node.op, Constant)]
    places = {value: place for place, value in enumerate(graph.inputs)}
    places |= {value: place for place, node in enumerate(nodes, len(places)) for value in node.outputs}
    handed = set(graph.outputs)
    inputs = [
        Box(
            value.name,
            "Input",
            "Input",
            shown(render_shape(value.shape)),
            output=value in handed,
            value=value,
            label=shown(value.label),
        )
        for value in graph.inputs
    ]
    boxes = []
    for node in nodes:
        opaque = document is not None and isinstance(node.op, Opaque)
        known = document.attributes(node) if document is not None and opaque else {}
        settings = {name: value for name, value in known.items() if not hasattr(value, "shape")}
        words = [f"{name}={value}" for name, value in settings.items() if not isinstance(value, bytes)]
        words += [text for text in attributes(node.op) if not text.startswith("eps=")]
        boxes.append(
            Box(
                name=node.output.name,
                kind=shown(_kind(node)),
                text=shown(" ".join([_kind(node), *words])),
                shape=shown(render_shape(node.output.shape)),
                parameters=cost.params(node.op),
                macs=cost.macs(node.op, node.output.typical or node.output.shape),
                reads=tuple(dict.fromkeys(places[value] for value in node.inputs if value in places)),
                output=any(value in handed for value in node.outputs),
                value=node.output,
                label=shown(node.output.label),
                settings=settings,
                arrays=tuple((name, array) for name, array in known.items() if hasattr(array, "shape")),
            )
        )
    return Drawing(shown(title), (*inputs, *boxes), graph, statistics, document)


def shown(text: str) -> str:
    """Data as people may see it: what would move a cursor, turn the direction of text or hide is spelled out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _kind(node: Node) -> str:
    op = node.op
    return op.label if isinstance(op, Opaque) else str(op).split(" ")[0]


def total(boxes: Sequence[Box]) -> tuple[int, int, int]:
    """(operations, parameters, multiply-accumulates)."""
    return len(boxes), sum(box.parameters for box in boxes), sum(box.macs for box in boxes)


__all__ = ["AFTER", "BEFORE", "Box", "Drawing", "Links", "Pair", "Region", "draw", "total"]
