"""Boxes and edges of a picture as SVG elements, for the page and for the poster; a style sheet says how they look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from repcompiler.graphdiff.layout import LINE, Picture, Shown

Opening = Callable[[Shown], tuple[str, str]]
"""Of a box or port: the attributes of its group, and a title."""


def elements(picture: Picture, opening: Opening) -> Iterator[str]:
    """The edges, then each box in a group of its own."""
    yield f'<path class="edges" d="{"".join(picture.paths)}"/>'
    for box in picture.boxes:
        yield _group(box, *opening(box))


def _group(box: Shown, attributes: str, title: str) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    place = f'x="{x:.0f}" y="{y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="{9 if box.port else 5}"'
    parts = [f"<g {attributes}>", f"<title>{escape(title)}</title>" if title else "", f"<rect {place}/>"]
    top = box.y + 4 - LINE * (len(box.lines) - 1) / 2
    for index, line in enumerate(box.lines):
        name = ' class="name"' if 0 < index == len(box.lines) - 1 else ""
        parts.append(f'<text{name} x="{box.x:.0f}" y="{top + LINE * index:.0f}">{escape(line)}</text>')
    return "".join([*parts, "</g>"])
