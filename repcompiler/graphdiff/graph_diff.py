"""`repcompiler.diff`: two models side by side."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from repcompiler.alignment import Alignment, align
from repcompiler.deviation import Verification
from repcompiler.document import Document
from repcompiler.equivalence import VerifyResult, compare, open_pair
from repcompiler.errors import ModelError
from repcompiler.fingerprints import of_pair
from repcompiler.graphdiff import contents, kernels, page, poster, summary, viewers
from repcompiler.graphdiff.kernels import Kernel
from repcompiler.graphdiff.model import Drawing, Links, Region, draw
from repcompiler.graphdiff.regions import links
from repcompiler.graphdiff.trace import trace
from repcompiler.interface import Matched, match
from repcompiler.region import Scope
from repcompiler.report import Report

PathLike = str | os.PathLike[str]
LARGE = 2e10
"""Multiply-accumulates of both models from which on they are not run in float64 to be aligned."""


@dataclass(frozen=True)
class GraphDiff:
    """What became of a graph.  Made by `repcompiler.diff`, or from the log of a compilation by `of_compilation`."""

    before: Drawing
    after: Drawing
    links: Links
    report: Report | None = None
    verification: Verification | VerifyResult | None = None
    unverified: str = ""
    """Why the two were not compared, though that was asked for."""

    def to_html(self, path: PathLike | None = None) -> str:
        """One page that needs no network; also written to `path`, if given."""
        return _written(page.html(self), path)

    def to_svg(self, path: PathLike | None = None) -> str:
        """One picture of both graphs; also written to `path`, if given."""
        return _written(poster.svg(self), path)

    def to_text(self, path: PathLike | None = None) -> str:
        """One paragraph a region; also written to `path`, if given."""
        return _written("\n".join(contents.lines(self)), path)

    def to_json(self, path: PathLike | None = None) -> str:
        """Boxes, pairs and regions, for machines; also written to `path`, if given."""
        return _written(json.dumps(self.to_dict(), indent=1), path)

    def to_dot(self, path: PathLike | None = None) -> str:
        """Both graphs for Graphviz; also written to `path`, if given."""
        return _written(viewers.dot(self), path)

    def to_model_explorer(self, path: PathLike | None = None) -> str:
        """Node data for model-explorer: what happened to each node of the result; also written to `path`, if given."""
        return _written(json.dumps(viewers.node_data(self), indent=1), path)

    def to_onnx(self, path: PathLike) -> None:
        """Write the result, an ONNX model, with what happened to each node in its metadata, where Netron shows it."""
        viewers.write_annotated(self, Path(path))

    def save(self, path: PathLike) -> None:
        """Write the form that the ending of `path` names: .html, .svg, .txt, .json, .dot or .onnx."""
        forms: dict[str, Callable[[PathLike], object]] = {
            ".html": self.to_html,
            ".svg": self.to_svg,
            ".txt": self.to_text,
            ".json": self.to_json,
            ".dot": self.to_dot,
            ".onnx": self.to_onnx,
        }
        form = forms.get(Path(path).suffix)
        if form is None:
            raise ModelError(f"{path}: a diff is written as {', '.join(forms)}")
        form(path)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which is how notebooks show it."""
        return f'<iframe srcdoc="{html.escape(self.to_html())}" style="width:100%;height:40em;border:0"></iframe>'

    def to_dict(self) -> dict[str, Any]:
        """The same in plain types; places are indices into the lists of boxes."""
        return {
            "before": _plain(self.before),
            "after": _plain(self.after),
            "pairs": [asdict(pair) for pair in self.links.pairs],
            "regions": [
                {
                    "before": list(region.before),
                    "after": list(region.after),
                    "how": region.how,
                    "certain": region.certain,
                    "rules": region.rules,
                }
                for region in self.links.regions
            ],
            "verdict": summary.verdict(self).state,
            "verification": summary.verdict(self).to_dict(),
        }

    def kernels(self, region: Region) -> list[Kernel]:
        """Small pictures of the kernels that were added up, and of their sum."""
        return kernels.of_region(self._scope, self.before, self.after, region)

    @cached_property
    def _scope(self) -> Scope:
        return kernels.scope(self.before)


def _plain(drawing: Drawing) -> dict[str, Any]:
    wanted = ("name", "kind", "text", "shape", "parameters", "macs", "reads", "output")
    return {"title": drawing.title, "boxes": [{name: getattr(box, name) for name in wanted} for box in drawing.boxes]}


def of_compilation(source: Document, result: Document, report: Report, titles: tuple[str, str]) -> GraphDiff:
    """The diff of a model and what it was compiled to, as the log tells it."""
    before = draw(source.graph(), titles[0], report.before, source)
    after = draw(result.graph(), titles[1], report.after, result)
    return GraphDiff(before, after, trace(before, after, report), report, report.verification)


def diff(
    before: Any, after: Any, example_inputs: Any = None, *, report: Report | None = None, verify: bool = True
) -> GraphDiff:
    """`repcompiler.diff`."""
    first, second = open_pair(before, after, example_inputs)
    verification: Verification | VerifyResult | None = None if report is None else report.verification
    unverified = ""
    matched: Matched | None = None
    if report is None:
        try:
            matched = match(first, second)
            verification = compare(first, matched, example_inputs is not None) if verify else None
        except ModelError as error:
            unverified = str(error)
    statistics = first.statistics(), second.statistics()
    titles = _titles(before, after, report is not None)
    old, new = draw(first.graph(), titles[0], statistics[0], first), draw(second.graph(), titles[1], statistics[1], second)
    found = links(old, new, _aligned(first, second, matched, (old, new))) if report is None else trace(old, new, report)
    return GraphDiff(old, new, found, report, verification, unverified)


def _aligned(first: Document, second: Document, matched: Matched | None, drawings: tuple[Drawing, Drawing]) -> Alignment:
    """By names and structure; by values, too, where the two can be fed alike, and it would not take long."""
    graphs = drawings[0].graph, drawings[1].graph
    if matched is None:
        return align(*graphs, {})
    quick = sum(box.macs for drawing in drawings for box in drawing.boxes) < LARGE
    return align(*graphs, matched.pairs(*graphs), of_pair(first, matched) if quick else ({}, {}))


def _titles(before: Any, after: Any, compiled: bool) -> tuple[str, str]:
    """The names of files, or of the classes of modules."""
    first, second = (Path(m).name if isinstance(m, (str, os.PathLike)) else type(m).__name__ for m in (before, after))
    if compiled and not isinstance(after, (str, os.PathLike)):
        second = f"{first}, compiled"
    return (first, second) if first != second else (f"{first}, before", f"{second}, after")


def _written(text: str, path: PathLike | None) -> str:
    if path is not None:
        page.write(text, Path(path))
    return text
