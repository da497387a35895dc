"""What became of a graph: two models side by side, and which part of one is which part of the other.

repcompiler.diff(before, after).to_html("diff.html")
$ repc diff before.onnx after.onnx -o diff.html
$ repc model.onnx -o plain.onnx --report report.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff


def diff(before: Any, after: Any, example_inputs: Any = None, *, verify: bool = True) -> GraphDiff:
    """Which part of one model is which part of another, and whether they compute the same.

    Args:
        before: an `nn.Module` or GraphModule in eval mode, the path of an .onnx file, or an ONNX model.
        after: another one, of any of these kinds.
        example_inputs: as `repcompiler.compile` takes them, for `before` and, where it is a torch module, `after`.
        verify: run both on the same inputs, and compare.

    The correspondence is computed from names, structure and values, in this order; what is not certain is marked.  Use
    `repcompiler.Report` with `compile`, or `repc --report`, where the rewrites themselves are known.

    Raises:
        ModelError: a model cannot be read.
    """
    from repcompiler.graphdiff.graph_diff import diff as compute

    return compute(before, after, example_inputs, verify=verify)
