"""What became of a graph: two models side by side, and which part of one is which part of the other.

repcompiler.diff(before, after).to_html("diff.html")
$ repc diff before.onnx after.onnx -o diff.html
$ repc model.onnx -o plain.onnx --report report.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff
    from repcompiler.report import Report


def diff(
    before: Any, after: Any, example_inputs: Any = None, *, report: Report | None = None, verify: bool = True
) -> GraphDiff:
    """Which part of one model is which part of another, and whether they compute the same.

    Args:
        before: an `nn.Module` or GraphModule in eval mode, the path of an .onnx file, or an ONNX model.
        after: another one, of any of these kinds.
        example_inputs: as `repcompiler.compile` takes them: a tensor or a tuple for torch modules, a dict for ONNX files.
        report: that of the compilation which made `after` of `before`: then its log tells the correspondence, and the rewrites.
        verify: run both on the same inputs, and compare (without a report, which has compared them).

    Without a report the correspondence is computed from names, structure and values, in this order; what is not certain is
    marked.

    Raises:
        ModelError: a model cannot be read.
    """
    from repcompiler.graphdiff.graph_diff import diff as compute

    return compute(before, after, example_inputs, report=report, verify=verify)
