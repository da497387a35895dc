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
        yield f'{letter}{place} [label={_quoted(f"{box.text}{chr(10)}{box.name}")} fillcolor="{FILL[states[place]]}"];'
    for place, box in enumerate(drawing.boxes):
        for source in box.reads:
            yield f"{letter}{source} -> {letter}{place};"


def _quoted(text: str) -> str:
    """A string as Graphviz reads it; no escapes of its own (\\N and the like) but the end of a line."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def node_data(diff: GraphDiff) -> dict[str, Any]:
    """Node data of model-explorer for the result: what happened to each node, and a colour."""
    states = linked(diff.links, 1)
    results = {}
    for place, box in enumerate(diff.after.boxes):
        link, state = states[place]
        region = diff.links.regions[int(link[1:])] if link[0] == "r" else None
        rules = f": {', '.join(region.rules)}" if region is not None and region.rules else ""
        results[_node_name(box.node) or box.name] = {"value": f"{state}{rules}", "bgColor": FILL[state]}
    return {"main": {"results": results}}


def _node_name(node: Any) -> str:
    """The document's own name of a node."""
    return str(getattr(getattr(node, "origin", None), "name", "") or "")


def write_annotated(diff: GraphDiff, path: Path) -> None:
    """The result with `metadata_props` on each node that came: the rules, and the names of what went."""
    if not hasattr(diff.after.document, "onnx_ir_model"):
        raise ModelError("only an ONNX model has metadata that Netron shows")
    for region in diff.links.regions:
        for place in region.after:
            node = diff.after.boxes[place].node
            if node is not None and node.origin is not None:
                rules = ", ".join(f"{name} x {count}" for name, count in region.rules.items())
                node.origin.metadata_props["repcompiler.rules"] = rules or f"not known; aligned by {region.how}"
                went = [diff.before.boxes[gone].name for gone in region.before]
                node.origin.metadata_props["repcompiler.from"] = json.dumps(went)
    assert diff.after.document is not None
    diff.after.document.save(path)
