"""What single nodes are run in."""

import numpy as np
import onnx_ir

from repcompiler.runtime import NodeRuntime


def test_results_do_not_count_towards_the_memory_of_later_runs(model):
    """What the runtime lends stays in the allocator, whose limit is meant for one run: weights would fill it."""
    source = onnx_ir.from_proto(model("y = Relu(x)", x="2,3"))
    (node,) = source.graph
    (result,) = NodeRuntime(source).evaluate(node, [np.ones((2, 3), np.float32)])
    assert result.flags.owndata
    np.testing.assert_array_equal(result, np.ones((2, 3)))
