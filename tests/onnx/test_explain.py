"""Linear operators of an ONNX model that are not lifted say why, in the names of its values."""

import numpy as np
import onnx.parser
import pytest

import repcompiler

LEFT_ALONE = {
    "y = ConvTranspose<output_shape=[15,20]>(x, w_4x4x3x3)": (
        "'y' (ConvTranspose): its padding depends on the size of the image (output_shape)"
    ),
    'y = ConvTranspose<auto_pad="SAME_UPPER", strides=[3,3]>(x, w_4x4x2x2)': (
        "'y' (ConvTranspose): it makes more pixels than its kernel reaches"
    ),
    'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w_4x4x3x3)': (
        "'y' (Conv): its padding depends on the size of the image (auto_pad)"
    ),
    "y, a, b = BatchNormalization<training_mode=1>(x, g_4, b_4, m_4, var_4)": (
        "'y' (BatchNormalization): it is in training mode"
    ),
    "c = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)  y = Conv(c, w_4x4x1x1)": (
        "'y' (Conv 4->4 1x1) after 'c' (AveragePool): 'c' is left alone: its windows may be partial (ceil_mode)"
    ),
    "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)": (
        "'y' (AveragePool): it does not count padded zeros (count_include_pad)"
    ),
    'y = Pad<mode="reflect">(x, [0,0,1,1,0,0,1,1])': "'y' (Pad): it pads with something else than zeros",
    "y = Pad(x, [0,1,0,0,0,0,1,0])": "'y' (Pad): it pads the batch, or the channels and more",
    "y = MatMul(x, w_1x4x5x3)": "'y' (MatMul): its weight has 4 axes",
}


def remaining(proto):
    report = repcompiler.Report()
    repcompiler.compile(proto, report=report, verify=False)
    return [str(line) for line in report.remaining]


@pytest.mark.parametrize("body", LEFT_ALONE)
def test_operator_that_is_not_lifted_says_why(model, body):
    assert remaining(model(body)) == [LEFT_ALONE[body]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Gemm(x, k_4x4, b_4x4)", "it has a bias for each row of the batch"),
        ("y = Gemm<transA=1>(x, k_4x4)", "it transposes its input"),
        ("k = Relu(x)  y = Gemm(x, k)", "'k' depends on data"),
    ],
)
def test_fully_connected_layer_that_is_not_lifted_says_why(model, body, reason):
    assert remaining(model(body, x="4,4")) == [f"'y' (Gemm): {reason}"]


def test_product_of_data_is_no_linear_operator(model):
    assert remaining(model("a = Relu(x)  y = MatMul(x, a)", x="N,4,8,8")) == []


def test_quantised_kernel_is_named(model):
    body = "w = DequantizeLinear(q, s_scalar)  c = Conv(x, w)  y = BatchNormalization(c, g_4, b_4, m_4, var_4)"
    assert remaining(model(body, q=np.ones((4, 4, 3, 3), np.int8))) == [
        "'y' (BatchNorm) after 'c' (DynamicConv 4->4): the kernel of 'c' is computed, by 'w' (DequantizeLinear)"
    ]
    body = "w = DequantizeLinear(q, s_scalar)  y = Gemm(x, w)"
    assert remaining(model(body, x="N,4", q=np.ones((4, 4), np.int8))) == ["'y' (Gemm): 'w' is quantised"]


def test_quantised_operator_is_called_so(model):
    proto = model("c = Cast<to=2>(x)  i = ConvInteger(c, q)  y = Cast<to=1>(i)", q=np.ones((4, 4, 3, 3), np.uint8))
    assert remaining(proto) == ["'i' (ConvInteger): it is quantised"]


def test_old_operator_set_is_named(model):
    assert remaining(model("y = Conv(x, w_4x4x3x3)", opset=6, ir=3, listed=True)) == [
        "'y' (Conv): operator set 6 is older than 7"
    ]


def test_integers_are_no_numbers_of_the_algebra(model):
    assert remaining(model("i = Cast<to=6>(x)  p = MatMul(i, q)  y = Cast<to=1>(p)", q=np.ones((4, 4), np.int32), x="N,4")) == [
        "'p' (MatMul): 'q' is not in floating point"
    ]


def test_bodies_that_are_not_looked_into_say_what_they_hold(model):
    body = (
        "b = Less(k_scalar, x0)  y = If(b)<then_branch = t () => (float u) { u = Conv(x, w_4x4x1x1) }, "
        "else_branch = e () => (float v) { v = Relu(x) }>"
    )
    proto = model(f"x0 = ReduceMax<keepdims=0>(x)  {body}")
    assert remaining(proto) == ["'y' (If): its bodies are not looked into: Conv"]


def test_reader_without_a_result_is_named_by_its_kind(model):
    proto = model("c = Conv(x, w_4x4x1x1)  y = BatchNormalization(c, g_4, b_4, m_4, var_4)", imports=', "their" : 1')
    node = proto.graph.node.add()
    node.op_type, node.domain = "Sink", "their"
    node.input.append("c")
    assert remaining(proto) == ["'y' (BatchNorm) after 'c' (Conv 4->4 1x1): 'c' is read by 2 operations: 'y', their.Sink"]


def test_linear_operations_of_a_local_function_are_accounted_for(model):
    proto = model("y = local.Block(x, w_4x4x3x3)", imports=', "local" : 1')
    body = onnx.parser.parse_function(
        '<opset_import: ["" : 17], domain: "local"> Block (x, w) => (y) { c = Conv(x, w) y = Relu(c) }'
    )
    proto.functions.append(body)
    why = "the function is not looked into: Conv; onnx.inliner puts its nodes into the graph"
    assert remaining(proto) == [f"'y' (local.Block): {why}"]
