"""One side of a row as a picture: boxes placed and edges routed by graphlay (layered, top to bottom), drawn as plain SVG.

graphlay rather than Graphviz, which is no Python package; than fast-sugiyama, which knows no sizes of boxes and routes no
edges; and than grandalf, which is slow beyond a few hundred boxes and under the GPL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repcompiler.errors import ModelError
from repcompiler.graphdiff.model import Drawing

HEIGHT, PORT_HEIGHT, LETTER, WIDEST = 38.0, 18.0, 6.7, 30
"""Sizes in px, and letters a line."""
PORTS = 4
"""Values of other rows that an operation is drawn to read one by one."""
OPTIONS = {
    "direction": "topbottom",
    "effort": "fast",
    "spacing": {"layer_gap": 26.0, "node_gap": 18.0, "dummy_gap": 14.0, "port_gap": 10.0, "stub": 8.0},
    "routing": {"style": "diagonal"},
}


@dataclass(frozen=True)
class Shown:
    """One box or port where it is drawn: the middle of it, and its size."""

    place: int
    port: str
    """Empty for a box; "from" or "to" for a value that comes from, or goes on to, another row."""
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """What an SVG element of this size shows."""

    width: float
    height: float
    boxes: tuple[Shown, ...]
    paths: tuple[str, ...]


def shortened(text: str, most: int = WIDEST) -> str:
    """The end of a long name, which tells more than its beginning."""
    return text if len(text) <= most else "…" + text[1 - most :]


def picture(drawing: Drawing, places: Sequence[int]) -> Picture:
    """The boxes at `places`, with ports for what they read from elsewhere and what is read of them there."""
    inside = set(places)
    items: dict[tuple[int, str], tuple[str, ...]] = {}
    edges: list[tuple[tuple[int, str], tuple[int, str]]] = []
    for place in sorted(places):
        box = drawing.boxes[place]
        outside = [source for source in box.reads if source not in inside]
        edges += [((source, ""), (place, "")) for source in box.reads if source in inside]
        if len(outside) > PORTS:
            items[place, "from"] = (f"{len(outside)} values from above",)
            edges.append(((place, "from"), (place, "")))
        else:
            items |= {(source, "from"): (shortened(drawing.boxes[source].name, 24),) for source in outside}
            edges += [((source, "from"), (place, "")) for source in outside]
        items[place, ""] = _lines(box.text, box.name)
        if box.output or any(reader not in inside for reader in drawing.readers[place]):
            items[place, "to"] = ("output" if box.output else shortened(box.name, 24),)
            edges.append(((place, ""), (place, "to")))
    return _placed(items, edges)


def _lines(text: str, name: str) -> tuple[str, ...]:
    return (text if len(text) <= WIDEST else text[: WIDEST - 1] + "…", shortened(name))


def _placed(items: Mapping[tuple[int, str], tuple[str, ...]], edges: Iterable[tuple[Any, Any]]) -> Picture:
    try:
        import graphlay
    except ImportError as error:
        raise ModelError("a drawing needs graphlay and jinja2: pip install repcompiler[diff]") from error
    if not items:
        return Picture(0, 0, (), ())
    graph = graphlay.Graph()
    sizes = {}
    for item, lines in items.items():
        sizes[item] = (max(map(len, lines)) * LETTER + 16, PORT_HEIGHT if item[1] else HEIGHT)
        graph.node(item, width=sizes[item][0], height=sizes[item][1])
    for source, target in edges:
        graph.edge(source, target)
    laid = graphlay.layout(graph, options=OPTIONS)
    left, top = laid.bounds["min"]["x"] - 4, laid.bounds["min"]["y"] - 4
    shown = [
        Shown(*item, node["center"]["x"] - left, node["center"]["y"] - top, *sizes[item], items[item])
        for item, node in zip(items, laid.nodes, strict=True)
    ]
    paths = [
        "M" + "L".join(f"{point['x'] - left:.0f} {point['y'] - top:.0f}" for point in edge["points"]) for edge in laid.edges
    ]
    size = laid.bounds["max"]["x"] - left + 4, laid.bounds["max"]["y"] - top + 4
    return Picture(*size, tuple(shown), tuple(paths))
