"""What an ONNX model computes twice is computed once: the later node goes, and what is left stays the same bytes."""

import onnx
import pytest

POOLS = "p = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x) q = MaxPool<pads=[1,1,1,1], kernel_shape=[3,3]>(x)"

LAYERS = "a = Conv(x, u_4x4x3x3) b = Conv(x, u_4x4x3x3)"
RANDOM = "a = RandomNormalLike(x) b = RandomNormalLike(x) c = Shape(a) d = Shape(b) e = Add(c, d)"


def case(name, body, becomes, **options):
    return pytest.param(body, becomes, options, id=name)


@pytest.mark.parametrize(
    ("body", "becomes", "options"),
    [
        case("pools", f"{POOLS} a = Relu(p) b = Sigmoid(q) y = Mul(a, b)", "MaxPool Mul Relu Sigmoid"),
        case("pools under layers", f"{POOLS} a = Conv(p, v_4x4x1x1) b = Conv(q, u_4x4x1x1) y = Add(a, b)", "Conv MaxPool"),
        case("layers of one weight", f"{LAYERS} c = Relu(b) y = Mul(a, c)", "Conv Mul Relu"),
        case("layers that are added", f"{LAYERS} y = Add(a, b)", "Conv"),
        case("other weights", f"{LAYERS.replace('u_', 'v_', 1)} c = Relu(b) y = Mul(a, c)", "Conv Conv Mul Relu"),
        case("a reader between them", POOLS.replace(" q", " a = Relu(p) q") + " y = Mul(a, q)", "MaxPool Mul Relu"),
        case(
            "a default that is written out",
            "a = Softmax<axis=1>(x) b = Softmax<axis=-3>(x) c = Relu(b) y = Mul(a, c)",
            "Mul Relu Softmax",
        ),
        case(
            "random numbers",
            f"{RANDOM} y = Relu(x)",
            "Add RandomNormalLike RandomNormalLike Relu Shape Shape",
            outputs="int64[4] e",
        ),
    ],
)
def test_two_equal_nodes_are_one(expect, body, becomes, options):
    expect(body, becomes, options)


def test_an_output_stays_and_so_does_its_name(check, model, operators):
    source = model("z = Relu(x) b = Relu(x) y = Sigmoid(b)", outputs="float[z0,z1,z2,z3] z")
    result, _ = check(source)
    assert operators(result) == "Relu Sigmoid"
    assert [output.name for output in result.graph.output] == ["y", "z"]
    result, report = check(model("b = Relu(x) c = Sigmoid(b) z = Relu(x) y = Mul(c, z)", outputs="float[z0,z1,z2,z3] z"))
    assert operators(result) == "Mul Relu Relu Sigmoid"
    assert "'z' is an output of the graph and keeps its name" in {refusal.reason for refusal in report.declined}


def test_what_stays_is_the_same_bytes(check, model):
    source = model(f"{POOLS} a = Relu(p) b = Sigmoid(q) y = Mul(a, b)")
    (result, _), (untouched, _) = check(source), check(source, passes=[])
    kept = {node.output[0]: node.SerializeToString(deterministic=True) for node in untouched.graph.node}
    for node in result.graph.node:
        if node.op_type != "Sigmoid":  # it reads another name
            assert node.SerializeToString(deterministic=True) == kept[node.output[0]]
    assert [[*node.input] for node in result.graph.node] == [["x"], ["p"], ["p"], ["a", "b"]]


def test_a_body_reads_the_one_that_stays(check, model):
    body = "g () => (float[N,4,H,W] r) { r = Neg (q) }", "h () => (float[N,4,H,W] s) { s = Abs (p) }"
    branches = f"then_branch = {body[0]}, else_branch = {body[1]}"
    result, _ = check(model(f"{POOLS} c = ReduceMax<keepdims=0>(x) d = Greater(c, zero_scalar) y = If<{branches}>(d)"))
    assert sum(node.op_type == "MaxPool" for node in result.graph.node) == 1
    onnx.checker.check_model(result, full_check=True)


def test_equal_layers_with_norms_of_their_own_take_these_in(check, model, operators):
    """As one layer with two norms they would be three operations: so it waits until nothing else applies."""
    layers = "a = Conv(x, w_6x4x3x3) b = Conv(x, w_6x4x3x3)"
    norms = "y = BatchNormalization(a, g_6, h_6, m_6, var_6) z = BatchNormalization(b, k_6, l_6, n_6, var_6)"
    result, _ = check(model(f"{layers} {norms}", outputs="float[N,6,P,Q] z"), objective="plain")
    assert operators(result) == "Conv Conv"
