"""Shapes that a model computes itself are known element by element, with a free batch."""

import numpy as np
import onnx_ir
import pytest

import repcompiler
from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.ops import Opaque, Reshape

SHUFFLE = """
    s = Shape(x)  b = Gather(s, i0)  c = Gather(s, i1)  h = Gather(s, i2)  w = Gather(s, i3)
    half = Div(c, two)
    b1 = Unsqueeze(b, zero)  g1 = Unsqueeze(half, zero)  h1 = Unsqueeze(h, zero)  w1 = Unsqueeze(w, zero)
    c1 = Unsqueeze(c, zero)
    grid = Concat<axis=0>(b1, pair, g1, h1, w1)  flat = Concat<axis=0>(b1, c1, h1, w1)
    r = Reshape(x, grid)  t = Transpose<perm=[0,2,1,3,4]>(r)  k = Reshape(t, flat)
    y = Conv(k, w_4x6x1x1)
"""
NUMBERS = {f"i{axis}": np.array(axis) for axis in range(4)} | {
    "two": np.array(2),
    "zero": np.array([0]),
    "pair": np.array([2]),
}


def ops(proto):
    return {str(node.output.name): node.op for node in OnnxDocument.open(proto).lift().nodes}


def constant(proto, name):
    graph = OnnxDocument.open(proto).lift()
    (value,) = (node.output for node in graph.nodes if node.output.name == name)
    return None if value.constant is None else value.constant().tolist()


def test_a_free_batch_stays_and_the_rest_is_numbers(model):
    found = ops(model(SHUFFLE, x="N,6,5,7", y="N,4,5,7", **NUMBERS))
    assert found["r"] == Reshape((0, 2, 3, 5, 7))
    assert found["k"] == Reshape((0, 6, 5, 7))


def test_free_extents_that_stay_are_kept_and_one_that_moves_is_inferred(model):
    found = ops(model(SHUFFLE, x="N,6,H,7", y="N,4,H,7", **NUMBERS))
    assert found["r"] == Reshape((0, 2, 3, -1, 7))
    assert found["k"] == Reshape((0, 6, -1, 7))


def test_two_that_move_are_not_known(model):
    assert isinstance(ops(model(SHUFFLE, x="N,6,H,W", y="N,4,H,W", **NUMBERS))["r"], Opaque)


def test_an_extent_that_is_reshaped_to_a_list_of_one_is_followed(model):
    """PyTorch's newer exporter writes so, with a zero that would mean a zero."""
    body = """
        s = Shape<start=0, end=1>(x)  b = Squeeze(s)  b1 = Reshape<allowzero=1>(b, [-1])  to = Concat<axis=0>(b1, pair, rest)
        y = Reshape<allowzero=1>(x, to)
    """
    source = model(body, x="N,6,5,7", y="N,2,105", pair=np.array([2]), rest=np.array([105]))
    assert ops(source)["y"] == Reshape((0, 2, 105))
    assert [node.op_type for node in repcompiler.compile(source).graph.node] == ["Reshape"]


@pytest.mark.parametrize(("to", "lifted"), [([0, 6, -1], False), ([2, 6, -1], True)])
def test_a_zero_that_means_a_zero_is_no_extent_that_stays(model, to, lifted):
    found = ops(model("y = Reshape<allowzero=1>(x, to)", x="2,6,5,7", y="2,6,35", to=np.array(to)))
    assert isinstance(found["y"], Reshape) == lifted


def test_a_shuffle_with_computed_shapes_merges(model, check, operators):
    result, report = check(model(SHUFFLE, x="N,6,5,7", y="N,4,5,7", **NUMBERS))
    assert operators(result) == "Conv"
    assert report.verification.checked


@pytest.mark.parametrize(
    ("arithmetic", "value"),
    [
        ("Add(c, two)", 8),
        ("Sub(c, two)", 4),
        ("Mul(c, two)", 12),
        ("Div(c, two)", 3),
        ("Sub(two, c)", -4),
        ("Div(c, minus)", -1),
        ("Mod(c, two)", 0),
    ],
)
def test_numbers_computed_from_extents_are_constants(model, arithmetic, value):
    body = f"s = Shape(x) c = Gather(s, i1) d = {arithmetic} e = Unsqueeze(d, zero) f = Concat<axis=0>(e, e) y = Cast<to=1>(f)"
    assert constant(model(body, x="N,6,H,W", y="2", minus=np.array(-4), **NUMBERS), "f") == [value, value]


@pytest.mark.parametrize("arithmetic", ["Add(b, two)", "Mul(b, c)", "Mod(b, two)"])
def test_what_depends_on_the_batch_is_not(model, arithmetic):
    body = f"s = Shape(x) b = Gather(s, i0) c = Gather(s, i1) d = {arithmetic} y = Cast<to=1>(d)"
    assert constant(model(body, x="N,6,H,W", y="", **NUMBERS), "d") is None


def test_a_constant_that_one_node_reads_twice_keeps_its_places(model):
    body = "s = Shape(x) t = Slice(s, zero, pair, zero) d = Gather(t, i1) y = Cast<to=1>(d)"
    assert constant(model(body, x="N,6,H,W", y="", **NUMBERS), "d") == 6


def test_a_number_without_axes_is_folded_as_one(model, check, operators):
    body = "s = Shape(x) c = Gather(s, i1) d = Div(c, two) e = Unsqueeze(d, zero) t = Expand(k, e) y = Mul(x, t)"
    _, report = check(model(body, x="N,6,3,3", y="N,6,3,3", k=np.ones(1, "f"), **NUMBERS))
    assert not report.reverted
    assert report.verification.checked


def test_what_only_computed_a_known_shape_goes(model, check, operators):
    result, report = check(model(f"{SHUFFLE.replace('y = Conv', 'z = Conv')} y = Relu(z)", x="N,6,H,7", y="N,4,H,7", **NUMBERS))
    assert not {"Shape", "Concat", "Unsqueeze"} & set(operators(result).split())
    assert report.verification.checked


def test_a_shape_that_something_else_reads_stays(model, check, operators):
    body = "s = Shape(x) r = Reshape(x, s) t = Cast<to=1>(s) u = ReduceSum<keepdims=0>(t) v = Relu(r) y = Mul(v, u)"
    result, report = check(model(body, x="N,6,H,7", y="N,6,H,7"))
    assert "Shape" in operators(result)
    assert report.verification.checked


def test_a_norm_of_flattened_tokens_folds_into_the_layer_before(model, check, operators):
    body = """
        l = MatMul(x, w_8x6)  f = Flatten<axis=2>(l)  n = BatchNormalization(f, g_6, b_6, m_6, var_6)
        s = Shape(l)  r = Reshape(n, s)  y = Relu(r)
    """
    result, report = check(model(body, x="N,5,8", y="N,5,6"))
    assert operators(result) == "Add MatMul Relu"
    assert report.verification.checked


GRID = "s = Shape(x) b = Gather(s, i0) b1 = Unsqueeze(b, zero) grid = Concat<axis=0>(b1, rest) r = Reshape(x, grid)"


@pytest.mark.parametrize(
    ("behind", "shape"),
    [
        ("v = HardSwish(r)", ("N", 2, 3, 35)),
        ("v = Softmax(r)", ("N", 2, 3, 35)),
        ("t = Sigmoid(r) v = Mul(r, t)", ("N", 2, 3, 35)),
        ("t = Transpose<perm=[0,1,3,2]>(r) v = MatMul(r, t)", ("N", 2, 3, 3)),
        ("v = ReduceMean<axes=[3]>(r)", ("N", 2, 3, 1)),
        ("v, w = Split<axis=3>(r, [5,30])", ("N", 2, 3, 5)),
        ("t = Softmax(r) v = Add(t, k_2x1x1)", ("N", 2, 3, 35)),
        ("v = their.Softmax(r)", None),
    ],
)
def test_behind_a_followed_shape_each_node_is_asked_for_its_own(model, behind, shape):
    body = f"{GRID} {behind} y = Relu(v)"
    proto = model(body, x="N,6,5,7", y="", imports=', "their" : 1', rest=np.array([2, 3, 35]), **NUMBERS)
    (value,) = (node.output for node in OnnxDocument.open(proto).lift().nodes if node.output.name == "v")
    assert value.shape == shape
    assert value.typical == (None if shape is None else (1, *shape[1:]))


@pytest.mark.parametrize("batch", ["N", "2"])
def test_blocks_with_shortcuts_whose_norms_act_on_flattened_tokens_fold_to_the_last(model, check, operators, batch):
    norm = "{0} = MatMul({1}, w_8x8) {0}f = Flatten<axis=2>({0}) {0}n = BatchNormalization({0}f, g_8, b_8, m_8, var_8)"
    norm += " {0}s = Shape({0}) {0}r = Reshape({0}n, {0}s)"
    block = (
        f"{norm.format('{0}p', '{1}')} {{0}}h = HardSwish({{0}}pr) {norm.format('{0}q', '{0}h')} {{0}} = Add({{1}}, {{0}}qr)"
    )
    body = " ".join(block.format(name, source) for name, source in ("ax", "ba", "cb", "yc"))
    result, report = check(model(body, x=f"{batch},5,8", y=f"{batch},5,8"))
    assert "BatchNormalization" not in operators(result)
    assert "Reshape" not in operators(result)
    assert report.verification.checked


@pytest.mark.parametrize("arithmetic", ["Add(r, t)", "Mul(r, t)"])
def test_a_named_extent_is_worth_more_than_one_that_inference_makes_up(model, arithmetic):
    body = f"s = Shape(x) f = Flatten(x) t = Reshape(f, s) r = Relu(x) y = {arithmetic}"
    graph = OnnxDocument.open(model(body, x="N,6,H,7")).lift()
    assert graph.outputs[0].shape == ("N", 6, "H", 7)


TOKENS = """
    c = Conv(x, w_4x4x1x1) s = Shape(x) b = Gather(s, i0) b1 = Unsqueeze(b, zero) heads = Concat<axis=0>(b1, rest)
    n = BatchNormalization(c, g_4, b_4, m_4, var_4) r = Reshape(n, heads) y = Softmax(r)
"""


@pytest.mark.parametrize(
    ("side", "objective", "left"),
    [
        (160, "latency", "Concat Conv Gather Reshape Shape Softmax Unsqueeze"),
        (160, "plain", "Conv Reshape Softmax"),
        (8, "latency", "Conv Reshape Softmax"),
    ],
)
def test_what_computes_the_shape_of_a_large_map_stays_for_the_sake_of_latency(model, check, operators, side, objective, left):
    proto = model(TOKENS, x=f"N,4,{side},{side}", y="N,2,E,D", rest=np.array([2, side, 2 * side]), **NUMBERS)
    result, report = check(proto, objective=objective)
    assert operators(result) == left
    assert report.verification.checked


def test_what_reads_the_shape_of_a_value_that_goes_knows_it(model, check, operators):
    body = TOKENS.replace("Shape(x)", "Shape(c)")
    result, report = check(
        model(body, x="N,4,160,160", y="N,2,E,D", rest=np.array([2, 160, 320]), **NUMBERS), objective="latency"
    )
    assert operators(result) == "Conv Reshape Softmax"
    assert report.verification.checked


def test_no_pass_leaves_every_byte_of_computed_shapes(model):
    proto = model(f"{SHUFFLE.replace('y = Conv', 'z = Conv')} y = Relu(z)", x="N,6,H,7", y="N,4,H,7", **NUMBERS)
    assert repcompiler.compile(proto, passes=[]) == onnx_ir.to_proto(onnx_ir.from_proto(proto))


def test_what_comes_before_a_flatten_of_computed_extents_folds_into_the_layer_behind(model, check, operators):
    body = """
        c = Conv(x, w_6x4x1x1) n = BatchNormalization(c, g_6, b_6, m_6, var_6) a = Sigmoid(n)
        o = BatchNormalization(a, h_6, d_6, m_6, var_6) s = Shape(o) b = Gather(s, i0) b1 = Unsqueeze(b, zero)
        flat = Concat<axis=0>(b1, rest) f = Reshape(o, flat) y = Gemm<transB=1>(f, w_5x90)
    """
    result, report = check(model(body, x="N,4,3,5", y="N,5", rest=np.array([-1]), **NUMBERS))
    assert operators(result) == "Conv Flatten Gemm Sigmoid"
    assert report.verification.checked
