"""What single nodes are run in."""

import numpy as np
import onnx_ir

import repcompiler
from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.runtime import NodeRuntime

HALVES = "s = SplitToSequence<axis=-1>(x, [3,3]) p = SequenceAt(s, first) q = SequenceAt(s, last) y = Add(p, q)"


def test_results_do_not_count_towards_the_memory_of_later_runs(model):
    """What the runtime lends stays in the allocator, whose limit is meant for one run: weights would fill it."""
    source = onnx_ir.from_proto(model("y = Relu(x)", x="2,3"))
    (node,) = source.graph
    (result,) = NodeRuntime(source).evaluate(node, [np.ones((2, 3), np.float32)])
    assert result.flags.owndata
    np.testing.assert_array_equal(result, np.ones((2, 3)))


def test_sequences_go_from_node_to_node(model):
    source = onnx_ir.from_proto(model(HALVES, x="1,2,1,6", first=np.array(0), last=np.array(-1)))
    runtime, x = NodeRuntime(source), np.arange(12.0).reshape(1, 2, 1, 6)
    split, first, last, _ = source.graph
    (parts,) = runtime.evaluate(split, [x, np.array([3, 3])])
    for node, index, half in zip((first, last), (0, -1), np.split(x, 2, axis=3), strict=True):
        (result,) = runtime.evaluate(node, [parts, np.array(index)])
        assert result.dtype == np.float64
        np.testing.assert_array_equal(result, half)


def test_a_network_with_sequences_is_compared_as_a_whole(model):
    """Exporters write so what they do not know the extents of."""
    norm = "c = Conv(x, w_4x4x1x1) n = BatchNormalization(c, g_4, h_4, m_4, var_4)"
    arrays = {"first": np.array(0), "last": np.array(-1)}
    source = model(f"{norm} {HALVES.replace('(x', '(n')}", x="N,4,H,6", **arrays)
    report = repcompiler.Report()
    plain = repcompiler.compile(source, report=report)
    assert [node.op_type for node in plain.graph.node] == ["Conv", "SplitToSequence", "SequenceAt", "SequenceAt", "Add"]
    assert report.verification is not None
    assert report.verification.checked
    assert report.verification.equal


def test_values_between_operations_are_arrays_and_no_sequences(model):
    document = OnnxDocument.open(model(HALVES, x="1,2,1,6", first=np.array(0), last=np.array(-1)))
    walk = document.walk({"x": np.arange(12, dtype=np.float32).reshape(1, 2, 1, 6)})
    assert {value.name: array.shape[-1] for value, array in walk} == {"x": 6, "p": 3, "q": 3, "y": 3}
