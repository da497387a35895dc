"""How gates are read, and that what is read is what onnxruntime computes.

A case is one operator, and the operation that it is lifted as; `None`: it stays opaque.
"""

import pytest

from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.ops import GlobalAvgPool, Identity, Mul, Opaque, Reshape, Sigmoid, Softmax, Stack, Sum, Take


def case(name, body, *ops, **options):
    return pytest.param(body, ops, options, id=name)


@pytest.mark.parametrize(
    ("body", "ops", "options"),
    [
        case("Sigmoid", "y = Sigmoid(x)", Sigmoid()),
        case("Softmax of the last axis", "y = Softmax(x)", Softmax(3)),
        case("Softmax of channels", "y = Softmax<axis=1>(x)", Softmax(1)),
        case("Softmax of several axes", "y = Softmax<axis=1>(x)", None, opset=11),
        case("Softmax of the last axis, before", "y = Softmax<axis=3>(x)", Softmax(3), opset=11),
        case("GlobalAveragePool", "y = GlobalAveragePool(x)", GlobalAvgPool()),
        case("ReduceMean of pixels", "y = ReduceMean<axes=[-1,2]>(x)", GlobalAvgPool()),
        case(
            "ReduceMean of pixels, without them", "y = ReduceMean<axes=[2,3], keepdims=0>(x)", GlobalAvgPool(dropped=2), y="N,C"
        ),
        case("ReduceMean of channels", "y = ReduceMean<axes=[1]>(x)", None),
        case("ReduceMean of all", "y = ReduceMean(x)", None),
        case("product", "s = Sigmoid(x) y = Mul(x, s)", Sigmoid(), Mul()),
        case(
            "means side by side",
            "m = GlobalAveragePool(x) y = Concat<axis=-1>(m, m)",
            GlobalAvgPool(),
            Stack(3, new=False),
        ),
        case("pixels side by side", "y = Concat<axis=3>(x, x)", None),
        case(
            "one channel",
            "k = Constant<value_int=1>() y = Gather<axis=2>(x, k)",
            Take(2, 1, keep=False),
            x="2,4,3,5",
            y="N,C,W",
        ),
        case("one line", "y = Gather<axis=-2>(x, [-1])", Take(2, 2, keep=True), x="2,4,3,5"),
        case("two lines", "y = Gather<axis=2>(x, [0,1])", None, x="2,4,3,5"),
        case("one line of unknown many", "y = Gather<axis=2>(x, [0])", None),
        case("a new axis", "y = Unsqueeze(x, [1])", Reshape((0, 1, 4, -1, 5)), x="N,4,h,5", y="N,a,C,h,w"),
        case("an axis less", "m = GlobalAveragePool(x) y = Squeeze(m, [-1])", GlobalAvgPool(), Reshape((0, 4, 1)), y="N,C,a"),
        case(
            "a gate as large as what it weighs",
            "m = GlobalAveragePool(x) s = Shape(x) e = Expand(m, s) y = Mul(x, e)",
            GlobalAvgPool(),
            None,
            Identity(),
            Mul(),
        ),
        case(
            "the shape of something else",
            "m = GlobalAveragePool(x) s = Shape(m) e = Expand(x, s) y = Mul(x, e)",
            GlobalAvgPool(),
            None,
            None,
            Mul(),
        ),
        case(
            "a gate that is added too",
            "m = GlobalAveragePool(x) s = Shape(x) e = Expand(m, s) p = Mul(x, e) y = Add(p, e)",
            GlobalAvgPool(),
            None,
            None,
            Mul(),
            Sum((1, 1)),
        ),
        case("whatever is single", "m = GlobalAveragePool(x) y = Squeeze(m)", GlobalAvgPool(), None, y="N,C", x="2,4,5,5"),
    ],
)
def test_it_is_lifted(model, check, body, ops, options):
    proto = model(body, **options)
    nodes = [node for node in OnnxDocument.open(proto).lift().nodes if node.origin.op_type != "Constant"]
    assert [None if isinstance(node.op, Opaque) else node.op for node in nodes] == list(ops)
    check(proto)


def test_split_into_single_lines_is_each_of_them(model, check):
    proto = model("a, b, c = Split<axis=2>(x) y = Concat<axis=2>(c, a, b)", x="2,4,3,5")
    ops = [node.op for node in OnnxDocument.open(proto).lift().nodes]
    assert ops == [*(Take(2, index, keep=True) for index in range(3)), Stack(2, new=False)]
    check(proto)


BRANCHES = """a = Conv<pads=[1,1,1,1]>(x, w_6x4x3x3, b_6) b = Conv(x, v_6x4x1x1, d_6)
    i = GlobalAveragePool(a) j = GlobalAveragePool(b)"""
GATE = "h = Mul(a, s) k = Mul(t, b) y = Add(k, h)"
BECOMES = "Add Conv Conv GlobalAveragePool Mul Sigmoid"


@pytest.mark.parametrize(
    "body",
    [
        "c = Concat<axis=2>(i, j) w = Softmax<axis=2>(c) s, t = Split<axis=2>(w)",
        "c = Concat<axis=3>(i, j) w = Softmax(c) s = Gather<axis=3>(w, [0]) t = Gather<axis=3>(w, [1])",
        """e = Unsqueeze(i, [0]) f = Unsqueeze(j, [0]) c = Concat<axis=0>(e, f) w = Softmax<axis=0>(c)
           p = Constant<value_int=0>() q = Constant<value_int=1>() s = Gather<axis=0>(w, p) t = Gather<axis=0>(w, q)""",
        """e = Flatten(i) f = Flatten(j) g = Unsqueeze(e, [2]) l = Unsqueeze(f, [2]) c = Concat<axis=2>(g, l)
           w = Softmax<axis=2>(c) p = Gather<axis=2>(w, [0]) q = Gather<axis=2>(w, [1])
           s = Reshape(p, [0,6,1,1]) t = Reshape(q, [0,6,1,1])""",
    ],
    ids=["split", "lists", "a new axis", "flat"],
)
def test_two_branches_weighed_by_their_means_are_weighed_by_a_sigmoid(expect, body):
    expect(f"{BRANCHES} {body} {GATE}", BECOMES, {})


def test_weights_of_other_logits_are_a_sigmoid_of_their_difference(expect):
    body = f"{BRANCHES} m = Conv(i, m_6x6x1x1) n = Conv(i, n_6x6x1x1) c = Concat<axis=2>(m, n) w = Softmax<axis=2>(c)"
    expect(
        f"{body} s, t = Split<axis=2>(w) {GATE} z = GlobalAveragePool(j)",
        "Add Conv Conv Conv GlobalAveragePool GlobalAveragePool GlobalAveragePool Mul Sigmoid Sub",
        {"outputs": "float[N,C,1,1] z"},
    )


def test_gate_between_images_of_other_size_is_left_alone(check, model, operators):
    body = "c = Concat<axis=2>(i, j) w = Softmax<axis=3>(c) s, t = Split<axis=2>(w)"
    result, _ = check(model(f"{BRANCHES} {body} {GATE}"))
    assert "Softmax" in operators(result)


CHOICES = {
    "true": ("Less(var_scalar, 9.0)", "a, b"),
    "false": ("Less(var_scalar, 0.1)", "b, a"),
    "one number an axis": ("Less(k_1x1x1x1, 9.0)", "a, a"),
    "of numbers": ("Less(var_scalar, 9.0)", "a, 0.5"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_is_made_beforehand_is_none(expect, name):
    condition, values = CHOICES[name]
    expect(f"a = Conv(x, w_4x4x1x1) b = Sigmoid(x) c = {condition} d = Where(c, {values}) y = Relu(d)", "Conv Relu", {})


def test_an_interpolation_as_torch_exports_it_is_one_sum(expect):
    body = """a = Conv<pads=[1,1,1,1]>(x, w_4x4x3x3) b = Conv(x, v_4x4x1x1) d = Sub(b, a) c = Less(var_scalar, 9.0)
        e = Mul(d, 0.3) f = Add(a, e) g = Mul(d, 0.7) h = Sub(b, g) i = Where(c, f, h) y = Relu(i)"""
    expect(body, "Conv Relu", {})


OPEN = {
    "depends on the place": "c = Less(k_4x1x1, 0.0) d = Where(c, a, x)",
    "depends on data": "c = Less(x, 0.0) d = Where(c, a, x)",
    "enlarges what it chooses": "m = GlobalAveragePool(a) c = Less(var_scalar, 9.0) d = Where(c, m, x)",
    "has more axes": "c = Less(k_1x1x1x1x1, 9.0) d = Where(c, a, x) ",
    "chooses a constant": "c = Less(var_scalar, 9.0) d = Where(c, k_4x1x1, x)",
}


@pytest.mark.parametrize("name", OPEN)
def test_a_choice_that_the_data_or_the_extents_make_stays(check, model, operators, name):
    shape = {"y": "A,B,C,D,E"} if name == "has more axes" else {}
    result, _ = check(model(f"a = Conv(x, w_4x4x1x1) {OPEN[name]} y = Relu(d)", **shape))
    assert "Where" in operators(result)
