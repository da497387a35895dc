"""What a file computes twice is computed once, so that branches that begin with an operation of their own merge."""

import onnx
import pytest

from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.printer import render

BRANCHES = "c = Conv<pads=[1,1,1,1]>(u, w_4x4x3x3) a = BatchNormalization(c, g_4, b_4, m_4, var_4) d = Conv(v, v_4x4x1x1)"


@pytest.mark.parametrize(
    ("operation", "becomes"),
    [
        ("Relu(x)", "Conv Relu"),
        ("Clip(x, -0.5, 0.75)", "Clip Conv"),
        ("MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", "Conv MaxPool"),
        ("Transpose<perm=[0,1,3,2]>(x)", "Conv Transpose"),
        ("Mul(x, x)", "Conv Mul"),
    ],
)
def test_branches_that_begin_with_the_same_operation_merge(expect, operation, becomes):
    expect(f"u = {operation} v = {operation} {BRANCHES} y = Add(a, d)", becomes, {})


def test_branches_that_begin_with_the_same_operations_in_a_row_merge(expect):
    twice = "r = Relu(x) u = Sigmoid(r) s = Relu(x) v = Sigmoid(s)"
    expect(f"{twice} {BRANCHES} y = Add(a, d)", "Conv Relu Sigmoid", {})


@pytest.mark.parametrize(
    ("first", "second", "becomes"),
    [
        ("Relu(x)", "Sigmoid(x)", "Add Conv Conv Relu Sigmoid"),
        ("LeakyRelu<alpha=0.1>(x)", "LeakyRelu<alpha=0.2>(x)", "Add Conv Conv LeakyRelu LeakyRelu"),
        ("Transpose<perm=[0,1,3,2]>(x)", "Transpose<perm=[0,1,2,3]>(x)", "Add Conv Conv Transpose"),
    ],
)
def test_operations_that_differ_stay(expect, first, second, becomes):
    expect(f"u = {first} v = {second} {BRANCHES} y = Add(a, d)", becomes, {"x": "N,4,5,5"})


@pytest.mark.parametrize(("output", "becomes"), [("u", "Conv Relu"), ("v", "Add Conv Conv Relu Relu")])
def test_a_repeated_operation_that_makes_an_output_keeps_its_name(check, model, operators, output, becomes):
    proto = model(f"u = Relu(x) v = Relu(x) {BRANCHES} y = Add(a, d)", outputs=f"float[N,4,H,W] {output}")
    result, _ = check(proto)
    assert [value.name for value in result.graph.output] == ["y", output]
    assert operators(result) == becomes


def test_a_repeated_operation_that_stays_is_written_anew_where_what_it_read_goes(check, model, operators):
    """v is an output and repeats u, whose scale goes into the convolution before: what v read is there no more."""
    source = "c = Conv(x, w_4x4x1x1) s = Mul(c, var_4x1x1) u = Relu(s) v = Relu(s) y = Conv(u, v_4x4x1x1)"
    result, _ = check(model(source, outputs="float[N,4,H,W] v"))
    assert operators(result) in ("Conv Conv Identity Relu", "Conv Conv Relu Relu")


def test_copies_that_a_rewrite_makes_for_each_reader_are_one(expect):
    """A norm goes through the flattening into both layers behind it."""
    norm = "r = Relu(x) n = BatchNormalization(r, g_4, b_4, m_4, var_4) f = Flatten(n)"
    layers = "a = Gemm(f, w_140x6, s_6) b = Gemm(f, v_140x6) y = Add(a, b)"
    expect(f"{norm} {layers}", "Flatten Gemm Relu", {"x": "N,4,7,5", "y": "N,6"})


def test_an_operation_that_may_answer_differently_each_time_is_not_shared(model):
    body = "u = RandomNormalLike<seed=1.0>(x) v = RandomNormalLike<seed=1.0>(x) y = Add(u, v)"
    graph = OnnxDocument.open(model(body)).lift()
    assert render(graph).count("RandomNormalLike") == 2
    onnx.checker.check_model(model(body))
