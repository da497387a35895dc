"""Which exact re-parameterisations are taken, by repc and by other optimisers: `make coverage` writes docs/coverage.md.

Each of the graphs of tiny_graphs.py has one.  It counts as taken where the result has no more nodes (and, where fewer weights
are the point, stores no more numbers) than the exact form, and computes the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx
import onnxscript.optimizer
import onnxsim
import onnxslim
from tables import nodes
from tiny_graphs import CASES, Case, model

import repcompiler
from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.reference import Reference

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
Tool = Callable[[onnx.ModelProto, Case], onnx.ModelProto]

TOOLS: dict[str, Tool] = {
    "repc": lambda source, case: repcompiler.compile(source, objective=case.objective),
    "onnxsim": lambda source, _: onnxsim.simplify(source)[0],
    "onnxslim": lambda source, _: onnxslim.slim(source),
    "onnxscript": lambda source, _: onnxscript.optimizer.optimize(source),
}

HEAD = """# Coverage

Tiny graphs with one exact re-parameterisation each ([tiny_graphs.py](../examples/tiny_graphs.py)): random weights, batch
norms with gamma of both signs, odd and non-square images. **Taken**: the result has no more nodes than the exact form (and
stores no more numbers, where that is the point), and computes the same; in brackets the deviation from the source in
float64, relative to the largest output. Otherwise the nodes that were left (and the numbers). repc runs with
`--objective plain`, or `params` where fewer weights are the point; the others have no such choice.
"""


@dataclass(frozen=True)
class Outcome:
    """What one tool made of one graph."""

    nodes: int
    numbers: int
    deviation: float
    equal: bool

    def taken(self, case: Case) -> bool:
        return self.equal and self.nodes <= case.nodes and (case.numbers is None or self.numbers <= case.numbers)

    def cell(self, case: Case) -> str:
        if not self.equal:
            return f"**wrong** ({self.deviation:.0e})"
        if self.taken(case):
            return f"taken ({self.deviation:.0e})"
        return str(self.nodes) if case.numbers is None else f"{self.nodes}, {self.numbers} numbers"


def numbers(proto: onnx.ModelProto) -> int:
    """Floating-point weights that a model stores."""
    stored = [*proto.graph.initializer]
    stored += [item.t for node in proto.graph.node if node.op_type == "Constant" for item in node.attribute]
    arrays = map(onnx.numpy_helper.to_array, stored)
    return sum(array.size for array in arrays if array.dtype.kind == "f")


def outcome(tool: Tool, case: Case) -> Outcome | None:
    """None where the tool fails, or writes what does not load."""
    source, given = model(case), model(case)
    try:
        result = tool(given, case)
        onnx.checker.check_model(result, full_check=True)
        verification = Reference(OnnxDocument.open(source)).compare(OnnxDocument.open(result))
    except Exception:  # another program's: it may raise anything
        return None
    assert verification.checked
    worst = max(output.result / (output.scale or 1.0) for output in verification.outputs)
    return Outcome(nodes(result), numbers(result), worst, verification.equal)


def page() -> str:
    """The table, and above it how many each tool takes."""
    taken = dict.fromkeys(TOOLS, 0)
    wrong = dict.fromkeys(TOOLS, 0)
    rows = []
    for law, case in CASES.items():
        cells = []
        for name, tool in TOOLS.items():
            result = outcome(tool, case)
            cells.append("fails" if result is None else result.cell(case))
            if result is not None:
                taken[name] += result.taken(case)
                wrong[name] += not result.equal
        rows.append([law, str(nodes(model(case))), case.form, *cells])
    header = ["law", "nodes", "exact form", *TOOLS]
    total = [["taken", "", f"of {len(CASES)}", *map(str, taken.values())], ["wrong", "", "", *map(str, wrong.values())]]
    lines = [header, ["---"] * len(header), *total, *rows]
    versions = ", ".join(f"{name} {version(name)}" for name in ("repcompiler", "onnxsim", "onnxslim", "onnxscript"))
    return "\n".join([HEAD, f"Written by `make coverage`: {versions}.\n", *(f"| {' | '.join(line)} |" for line in lines), ""])


def main() -> None:
    PAGE.write_text(page())
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
