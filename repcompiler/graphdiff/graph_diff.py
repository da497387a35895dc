"""`repcompiler.diff`: two models side by side."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from repcompiler.deviation import Verification
from repcompiler.document import Document, Statistics
from repcompiler.errors import ModelError
from repcompiler.graphdiff import contents, kernels, numbers, page, poster, viewers
from repcompiler.graphdiff.align import align
from repcompiler.graphdiff.kernels import Kernel
from repcompiler.graphdiff.model import Drawing, Links, Region, draw
from repcompiler.graphdiff.trace import trace
from repcompiler.interface import Matched, match
from repcompiler.reference import Reference
from repcompiler.region import Scope
from repcompiler.report import Report

Fingerprints = Mapping[int, numbers.Fingerprint]
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class GraphDiff:
    """What became of a graph.  Made by `repcompiler.diff`, or from the log of a compilation by `of_compilation`."""

    before: Drawing
    after: Drawing
    links: Links
    report: Report | None = None
    verification: Verification | None = None

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
            "verdict": contents.verdict(self)[1],
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
    before, after = _drawn(source, titles[0], report.before), _drawn(result, titles[1], report.after)
    return GraphDiff(before, after, trace(before, after, report), report, report.verification)


def _drawn(document: Document, title: str, statistics: Statistics | None) -> Drawing:
    """A document's graph, lifted from a copy of its own."""
    fork = document.fork()
    return draw(fork.lift(), title, statistics, fork)


def diff(
    before: Any, after: Any, example_inputs: Any = None, *, report: Report | None = None, verify: bool = True
) -> GraphDiff:
    """`repcompiler.diff`."""
    from repcompiler.frontends import open_document

    named = isinstance(example_inputs, Mapping)
    first, second = (
        open_document(model, example_inputs if _is_module(model) is not named else None) for model in (before, after)
    )
    old = _drawn(first, _title(before, "before"), first.statistics())
    new = _drawn(second, _title(after, "after"), second.statistics())
    if report is not None:
        return GraphDiff(old, new, trace(old, new, report), report, report.verification)
    matched = _matched(first, second)
    verification = _compared(first, matched) if verify and matched is not None else None
    return GraphDiff(old, new, align(old, new, _fingerprints(matched, (old, new))), None, verification)


def _matched(first: Document, second: Document) -> Matched | None:
    """The second model behind the interface of the first; None where they cannot be fed the same."""
    try:
        return match(first, second)
    except ModelError:
        return None


def _compared(first: Document, second: Matched) -> Verification:
    """Both run on the same inputs."""
    reference = Reference(first, specs=second.specs)
    second.expected = reference.samples[0].expected if reference.samples else ()
    return reference.compare(cast(Document, second))


def _fingerprints(matched: Matched | None, drawings: Sequence[Drawing]) -> tuple[Fingerprints, Fingerprints]:
    """Of each box, numbers that tell its value on a probe; none where the two cannot be fed alike, or it would take long."""
    feeds = None if matched is None else numbers.probe(matched.specs)
    if matched is None or feeds is None or any(numbers.too_large(drawing) for drawing in drawings):
        return {}, {}
    return numbers.fingerprints(drawings[0], feeds), numbers.fingerprints(drawings[1], matched.feeds(feeds))


def _is_module(model: Any) -> bool:
    return not isinstance(model, (str, os.PathLike)) and type(model).__module__.split(".")[0] not in ("onnx", "onnx_ir")


def _title(model: Any, fallback: str) -> str:
    return Path(model).name if isinstance(model, (str, os.PathLike)) else f"{fallback}: {type(model).__name__}"


def _written(text: str, path: PathLike | None) -> str:
    if path is not None:
        page.write(text, Path(path))
    return text
