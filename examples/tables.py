"""What the benchmark scripts share in what they print."""

from __future__ import annotations

import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import onnx


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table; all columns but the first hold numbers."""
    for cells in chain((header, ["---", *["---:"] * (len(header) - 1)]), rows):
        yield f"| {' | '.join(cells)} |"


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A Markdown table, each row as soon as it is known."""
    for line in table(header, rows):
        print(line, flush=True)


def operators(model: Path | onnx.ModelProto) -> Counter[str]:
    """How many nodes of each kind the main graph has; Constant nodes hold weights and are not counted."""
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)
    return Counter(node.op_type for node in proto.graph.node if node.op_type != "Constant")


def nodes(model: Path | onnx.ModelProto) -> int:
    return operators(model).total()


def shown_deviation(verification: Mapping[str, Any]) -> str:
    """The largest error of the result and of its source against the source in float64, relative to the largest output.

    A source that disagrees with its own float64 reference is not compared as a whole.
    """
    worst = max(verification["outputs"], key=lambda output: output["result"] / (output["allowed"] or 1.0), default=None)
    if worst is None or not verification["checked"]:
        return "each rewrite by itself"
    return f"{worst['result'] / worst['scale']:.1e} ({worst['source'] / worst['scale']:.1e})"


def script(name: str) -> str:
    """A command installed beside this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)
