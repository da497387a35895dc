"""The same diff for the viewers that people already use: Graphviz, model-explorer, Netron."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repcompiler.errors import ModelError
from repcompiler.graphdiff.model import Drawing, linked
from repcompiler.graphdiff.poster import FILL

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff


def dot(diff: GraphDiff) -> str:
    """Two clusters, with a dashed line from what went to what came.  `dot -Tsvg` draws it."""
    lines = ["digraph diff {", '  node [shape=box style="rounded,filled" fontname=monospace fontsize=10];']
    for side, (letter, drawing) in enumerate(zip("ba", (diff.before, diff.after), strict=True)):
        states = linked(diff.links, side)
        lines.append(f"  subgraph cluster_{letter} {{ label={_quoted(drawing.title)};")
        lines += [f"    {line}" for line in _nodes(drawing, letter, {place: state for place, (_, state) in states.items()})]
        lines.append("  }")
    for region in diff.links.regions:
        if region.before and region.after:
            rules = _quoted(", ".join(region.rules))
            lines.append(f"  b{region.before[-1]} -> a{region.after[-1]} [style=dashed constraint=false label={rules}];")
    return "\n".join([*lines, "}\n"])


def _nodes(drawing: Drawing, letter: str, states: dict[int, str]) -> Iterator[str]:
    for place, box in enumerate(drawing.boxes):
        yield f'{letter}{place} [label={_quoted(f"{box.text}{chr(10)}{box.label}")} fillcolor="{FILL[states[place]]}"];'
    for place, box in enumerate(drawing.boxes):
        for source in box.reads:
            yield f"{letter}{source} -> {letter}{place};"


def _quoted(text: str) -> str:
    """A string as Graphviz reads it; no escapes of its own (\\N and the like) but the end of a line."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def node_data(diff: GraphDiff) -> dict[str, Any]:
    """Node data of model-explorer for the result: what happened to each node, and a colour.

    One graph's data without the graph's name, which the viewer takes for whichever graph is open; nodes have the ids that its
    ONNX adapter gives them: their names, or else their places.
    """
    states, model = linked(diff.links, 1), getattr(diff.after.document, "onnx_ir_model", None)
    places = {} if model is None else {node: place for place, node in enumerate(model.graph)}
    results = {}
    for place, box in enumerate(diff.after.boxes):
        if box.node is None:
            continue
        link, state = states[place]
        region = diff.links.regions[int(link[1:])] if link[0] == "r" else None
        rules = f": {', '.join(region.rules)}" if region is not None and region.rules else ""
        origin = box.node.origin
        name = getattr(origin, "name", "") or (f"<node_{places[origin]}>" if origin in places else box.name)
        results[name] = {"value": f"{state}{rules}", "bgColor": FILL[state], "textColor": "#1b2430"}
    return {"name": f"{diff.before.title} -> {diff.after.title}", "results": results}


def write_annotated(diff: GraphDiff, path: Path) -> None:
    """A copy of the result with `metadata_props` on each node that came: the rules, and the names of what went."""
    document = diff.after.document
    if document is None or not hasattr(document, "onnx_ir_model"):
        raise ModelError("only an ONNX model has metadata that Netron shows")
    copy = document.fork()
    nodes = {node.output.name: node for node in copy.lift().nodes if node.outputs}
    for region in diff.links.regions:
        for box in map(diff.after.boxes.__getitem__, region.after):
            origin = None if box.node is None else nodes[box.name].origin
            if origin is not None:
                rules = ", ".join(f"{name} x {count}" for name, count in region.rules.items())
                origin.metadata_props["repcompiler.rules"] = rules or f"not known; aligned by {region.how}"
                went = [diff.before.boxes[gone].name for gone in region.before]
                origin.metadata_props["repcompiler.from"] = json.dumps(went)
    copy.save(path)
