import numpy as np
import onnxruntime
import pytest
from onnx import parser

import repcompiler
from repcompiler.ops import Reshape, Take, Transpose
from repcompiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from repcompiler.passes.merge_squeeze_into_take import merge_squeeze_into_take
from repcompiler.testing import build, check_pass, relu


def left_of(shape, axis, squeeze, keep=True):
    graph = build(lambda x: relu(squeeze(Take(axis, 1, keep)(x))), x=shape)
    check_pass(merge_squeeze_into_take, graph)
    return [node.op for node in graph.topological()][:-1]


@pytest.mark.parametrize(
    ("shape", "axis", "squeeze"),
    [
        ((3, "n", 4, 5), 0, Reshape((-1, 4, 5))),
        ((3, 2, 4, 5), 0, Reshape((2, -1, 5))),
        (("n", 3, 4, 5), 1, Reshape((0, 4, 5))),
        (("n", 4, 5, 3), 3, Reshape((0, 0, -1))),
        (("n", 3, None, None), 1, Reshape((0,), tail=2)),
    ],
)
def test_an_axis_that_is_squeezed_goes_at_once(shape, axis, squeeze):
    assert left_of(shape, axis, squeeze) == [Take(axis, 1, keep=False)]


@pytest.mark.parametrize(
    ("shape", "axis", "squeeze"),
    [
        ((3, "n", 4, 5), 0, Reshape((-1, 5, 4))),
        ((3, 2, 4, 5), 0, Reshape((0, 8, 5))),
        (("n", 3, 4, 5), 1, Reshape((-1, 5))),
        (("n", 3, 4, 5), 1, Reshape((0, 1, 4, 5))),
        (("n", 4, 4, 3), 2, Reshape((0, 4, 1), tail=1)),
        (("n", 4, 5, 3), 3, Reshape((-1,), tail=2)),
        (("n", 3, 4, 5), 1, Reshape((0, 0, -1))),
    ],
)
def test_what_is_reshaped_otherwise_stays(shape, axis, squeeze):
    assert left_of(shape, axis, squeeze) == [Take(axis, 1, keep=True), squeeze]


def test_an_axis_that_has_gone_is_not_taken_for_the_next():
    assert left_of((3, 1, 4), 0, Reshape((1, 4)), keep=False) == [Take(0, 1, keep=False), Reshape((1, 4))]
    assert left_of((3, 1, 4), 0, Reshape((4,)), keep=False) == [Take(0, 1, keep=False), Reshape((4,))]


def test_a_part_that_something_else_reads_stays_beside():
    graph = build(
        lambda x: {"y": relu(Reshape((-1, 4))(part := Take(0, 1, keep=True)(x))), "z": relu(Transpose((0, 2, 1))(part))},
        x=(3, "n", 4),
    )
    check_pass([eliminate_dead_nodes, merge_squeeze_into_take], graph)
    assert sorted(node.op.kind for node in graph.topological()) == ["Relu", "Relu", "Reshape", "Take", "Transpose"]


def test_queries_keys_and_values_of_a_file_are_unbound_by_three_operations():
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[n, 5, 24] x) => (float[n, 3, 5, 8] y) {
            into = Constant <value_ints = [0, 5, 3, 2, 4]> ()
            one = Constant <value_ints = [0]> ()
            apart = Reshape(x, into)
            first = Transpose <perm = [2, 0, 3, 1, 4]> (apart)
            q4, k4, v4 = Split <axis = 0> (first)
            q = Squeeze(q4, one)
            k = Squeeze(k4, one)
            v = Squeeze(v4, one)
            back = Transpose <perm = [0, 1, 3, 2]> (k)
            scores = MatMul(q, back)
            weights = Softmax <axis = -1> (scores)
            y4 = MatMul(weights, v)
            y = Identity(y4)
        }
    """)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 4
    plain = repcompiler.compile(model)
    kinds = [node.op_type for node in plain.graph.node]
    assert kinds.count("Gather") == 3
    assert not {"Split", "Squeeze"}.intersection(kinds)
    x = np.random.default_rng(0).standard_normal((3, 5, 24), np.float32)
    before, after = (onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, plain))
    np.testing.assert_array_equal(before, after)
