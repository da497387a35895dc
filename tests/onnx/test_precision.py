"""Types and operator sets: what is written is of the source's own type, and valid in the source's own operator set."""

import re

import numpy as np
import onnx
import pytest

import repcompiler
from repcompiler.frontends.onnx import OnnxDocument

BN = "BatchNormalization({}, g_4, b_4, m_4, var_4)"

BLOCKS = {
    "Conv": f"c = Conv(x, w_4x4x3x3) y = {BN.format('c')}",
    "ConvTranspose": "c = ConvTranspose(x, w_4x4x2x2) y = Mul(c, k_4x1x1)",
    "BatchNormalization": f"c = {BN.format('x')} y = {BN.format('c')}",
    "Mul": "a = Mul(x, k_4x1x1) b = Exp(l_4x1x1) y = Div(a, b)",
    "Add": "a = Add(x, k_4x1x1) y = Sub(a, l_scalar)",
    "Conv Pad": "p = Pad<pads=[0,0,-1,0,0,0,0,0]>(x) q = Pad<pads=[0,0,0,0,0,0,0,-1]>(p) y = Conv(q, w_4x4x1x1)",
}
"""Each operator that is written: a block that becomes it."""

PAD = re.compile(r"Pad<pads=([^>]*)>\((.)\)")
"""An attribute in old opsets, an input from 11 on."""

MATRICES = {
    "Gemm": "a = MatMul(x, w_6x5) b = MatMul(a, w_5x8) y = Add(b, k_8)",
    "MatMul": "a = MatMul(x, w_6x5) y = MatMul(a, w_5x8)",
    "Add MatMul": "a = MatMul(x, w_6x5) b = MatMul(a, w_5x8) y = Add(b, k_8)",
}


@pytest.mark.parametrize("opset", [*range(7, 24)])
@pytest.mark.parametrize("becomes", [*BLOCKS])
def test_what_is_written_is_valid_in_every_operator_set(expect, becomes, opset):
    expect(BLOCKS[becomes] if opset < 11 else PAD.sub(r"Pad(\2, \1)", BLOCKS[becomes]), becomes, {"opset": opset})


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 23])
@pytest.mark.parametrize("becomes", [*MATRICES])
def test_what_is_written_for_matrices_is_valid_in_every_operator_set(expect, becomes, opset):
    expect(MATRICES[becomes], becomes, {"opset": opset, "x": "N,6" if becomes == "Gemm" else "N,T,6"})


@pytest.mark.parametrize("becomes", [*BLOCKS])
def test_half_precision_stays_half(expect, becomes):
    expect(PAD.sub(r"Pad(\2, \1)", BLOCKS[becomes]), becomes, {"dtype": "float16"})


@pytest.mark.parametrize("becomes", ["BatchNormalization", "Mul", "Add"])
def test_double_precision_stays_double(expect, becomes):
    expect(BLOCKS[becomes], becomes, {"dtype": "double"})


@pytest.mark.parametrize("becomes", [*MATRICES])
def test_double_precision_of_matrices_stays_double(expect, becomes):
    expect(MATRICES[becomes], becomes, {"dtype": "double", "x": "N,6" if becomes == "Gemm" else "N,T,6"})


def test_before_opset_7_nothing_is_lifted(model):
    source = model(f"c = Conv(x, w_4x4x3x3) y = {BN.format('c')}", opset=6)
    report = repcompiler.Report()
    repcompiler.compile(source, report=report)
    assert not report.steps


@pytest.mark.parametrize(("dtype", "eps"), [("double", 2.0**-50), ("bfloat16", 2.0**-6)])
def test_a_type_that_the_runtime_lacks_is_rewritten_and_said_to_be_unverified(model, operators, dtype, eps):
    source = model(BLOCKS["Conv"], dtype=dtype, x="N,4,5,7")
    report = repcompiler.Report()
    result = repcompiler.compile(source, report=report)
    assert operators(result) == "Conv"
    assert not report.verification.checked
    assert report.verification.summary().startswith("not verified")
    assert {tensor.data_type for tensor in result.graph.initializer} == {source.graph.input[0].type.tensor_type.elem_type}
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 7))
    (before,), (after,) = (OnnxDocument.open(document).run_reference({"x": x}) for document in (source, result))
    assert np.abs(before - after).max() <= eps * np.abs(before).max()


@pytest.mark.parametrize("dtype", ["float16", "float", "double"])
def test_the_type_of_an_unknown_operators_result_is_that_of_the_weight_it_meets(model, operators, dtype):
    source = model("u = their.Thing(x) c = Conv(u, w_4x4x3x3) y = Mul(c, k_4x1x1)", dtype=dtype, imports=', "their" : 1')
    result = repcompiler.compile(source)
    assert operators(result) == "Conv Thing"
    assert {tensor.data_type for tensor in result.graph.initializer} == {source.graph.input[0].type.tensor_type.elem_type}


@pytest.mark.parametrize(
    "body", ["u = their.Thing(x) y = Add(u, x)", "u = their.Thing(x) a = Add(u, u) b = Add(a, u) y = Sub(b, a)"]
)
def test_arithmetic_on_values_of_unknown_type_stays(model, body):
    source = model(body, imports=', "their" : 1')
    report = repcompiler.Report()
    repcompiler.compile(source, report=report)
    assert not report.steps


def test_large_half_precision_weights_do_not_overflow_when_they_are_looked_at(check, model):
    body = "c = Conv(x, w) y = Relu(c)"
    check(model(body, dtype="float16", w=np.full((4, 4, 9, 9), 300, np.float16), x="N,4,13,18"))


@pytest.mark.parametrize("function", ["Exp", "Transpose", "Shape", "Cast<to=10>", "Cast<to=16>", "Cast<to=17>", "Cast<to=8>"])
def test_a_constant_is_folded_into_the_type_it_had_or_stays(model, function):
    source = model(f"y = {function}(w_4x4)", opset=21)
    source.graph.output[0].type.Clear()
    source = onnx.shape_inference.infer_shapes(source)
    onnx.checker.check_model(repcompiler.compile(source), full_check=True)
