"""Verification can fail: each small difference is found.  And it does not fail where there is none."""

import numpy as np
import onnx
import pytest

from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.reference import Reference

BLOCK = """
    a = Conv<pads=[1,1,1,1]>(x, w_4x4x3x3, b_4)  n = BatchNormalization<epsilon=0.001>(a, g_4, h_4, m_4, var_4)  r = Relu(n)
    p = Conv(r, p_4x4x1x1, c_4)  q = Conv<pads=[1,0,1,0]>(x, q_4x4x3x1)  y = Sub(p, q)
"""


def verified(source, result, example=None):
    return Reference(OnnxDocument.open(source, example)).compare(OnnxDocument.open(result))


def weight(name, change):
    """The model with one initializer changed in place by a function."""

    def damage(proto):
        (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == name)
        array = onnx.numpy_helper.to_array(tensor).copy()
        change(array)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))

    return damage


def node(output, change):
    """The model with the node that makes `output` changed in place by a function."""
    return lambda proto: change(next(node for node in proto.graph.node if output in node.output))


def attribute(name, *integers):
    def change(node):
        (found,) = (attribute for attribute in node.attribute if attribute.name == name)
        found.CopyFrom(onnx.helper.make_attribute(name, integers if len(integers) > 1 else integers[0]))

    return change


def scale_one_tap(array):
    array[1, 2, 0, 1] *= 1.001


def shift_the_taps(array):
    array[:] = np.roll(array, 1, axis=3)


def swap_two_channels(array):
    array[[0, 1]] = array[[1, 0]]


def scale_all(array):
    array *= 1.00001


def become_relu6(node):
    node.op_type = "Clip"
    node.input.extend(["", "six"])


def swap_the_operands(node):
    node.input[:] = [node.input[1], node.input[0]]


def drop_the_bias(node):
    del node.input[2]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(weight("w_4x4x3x3", scale_one_tap), id="one weight by a thousandth"),
        pytest.param(weight("w_4x4x3x3", scale_all), id="all weights by a hundred-thousandth"),
        pytest.param(weight("w_4x4x3x3", shift_the_taps), id="taps shifted"),
        pytest.param(weight("w_4x4x3x3", swap_two_channels), id="channels swapped"),
        pytest.param(weight("c_4", swap_two_channels), id="biases swapped"),
        pytest.param(node("a", drop_the_bias), id="a bias before a batch norm dropped"),
        pytest.param(node("p", drop_the_bias), id="the last bias dropped"),
        pytest.param(node("a", attribute("pads", 0, 1, 2, 1)), id="padding moved along H"),
        pytest.param(node("q", attribute("pads", 2, 0, 0, 0)), id="padding of a branch moved"),
        pytest.param(node("n", attribute("epsilon", 1e-5)), id="eps left at its default"),
        pytest.param(node("r", become_relu6), id="ReLU6 for ReLU"),
        pytest.param(node("y", swap_the_operands), id="branches swapped"),
    ],
)
def test_a_difference_is_found(model, damage):
    source, result = (model(BLOCK, six=np.float32(6)) for _ in range(2))
    damage(result)
    verification = verified(source, result)
    assert verification.checked
    assert not verification.equal


def test_a_model_equals_itself(model):
    verification = verified(model(BLOCK), model(BLOCK))
    assert verification.checked
    assert verification.equal
    assert verification.probes == ["2x4x45x67", "1x4x5x3"]


def test_a_batch_norm_folded_by_hand_is_equal(model):
    source = model("c = Conv(x, w_4x4x3x3) y = BatchNormalization(c, g_4, b_4, m_4, var_4)")
    w, g, b, m, var = (onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in source.graph.initializer)
    t = g / np.sqrt(var + np.float32(1e-5))
    folded = model("y = Conv(x, w, b)", w=(w * t.reshape(-1, 1, 1, 1)).astype("f"), b=(b - m * t).astype("f"))
    assert verified(source, folded).equal


def test_a_border_that_only_small_images_have_is_seen(model):
    source = model("p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x) y = Relu(p)")
    inexact = model("p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=0>(x) y = Relu(p)")
    assert not verified(source, inexact).equal


@pytest.mark.parametrize(
    ("body", "probes", "options"),
    [
        ("y = Relu(x)", ["2x4x45x67", "1x4x5x3"], {}),
        ("y = Relu(x)", ["3x4x5x6"], {"x": "3,4,5,6"}),
        ("y = Relu(x)", ["2x3x45x67", "1x3x5x3"], {"x": "N,C,H,W"}),
        ("y = Relu(x)", ["2x4x45x5", "1x4x5x5"], {"x": "N,4,H,5"}),
        ("y = Relu(x)", ["2x6"], {"x": "N,6"}),
        ("y = Relu(x)", ["2x5x45", "1x5x5"], {"x": "N,5,T"}),
        ("r = Reshape(x, [0,-1,32]) y = Relu(r)", ["1x4x64x96", "1x4x33x32"], {"y": "a,b,c"}),
        ("c = Conv(x, w_4x4x7x7) y = Relu(c)", ["2x4x45x67", "1x4x9x7"], {}),
        ("y = Mul(x, v)", ["2x4x45x67 67", "1x4x5x3 3"], {"inputs": "float[W] v"}),
    ],
)
def test_the_probes_are_of_sizes_that_the_model_takes(model, body, probes, options):
    source = model(body, **options)
    verification = verified(source, source)
    assert verification.probes == probes
    assert verification.equal


def test_every_input_is_fed_and_every_output_compared(model):
    body = "a = Add(x, v) y = Relu(a) i = ArgMax<axis=1>(a) g = Greater(a, x) s = Shape(a) e = Gather(t_9x4, ids)"
    outputs = "int64[a,b,c,d] i, bool[a,b,c,d] g, int64[f] s, float[m,o] e"
    source = model(body, inputs="float[N,4,H,W] v, int64[K] ids", outputs=outputs)
    verification = verified(source, source)
    assert verification.probes == ["2x4x45x67 2x4x45x67 2", "1x4x5x3 1x4x5x3 1"]
    assert len(verification.outputs) == 5
    assert verification.equal
    for output, inputs, operator in (
        ("y", ["v"], "Relu"),
        ("i", ["x"], "ArgMax"),
        ("g", ["a", "v"], "Greater"),
        ("s", ["t_9x4"], "Shape"),
    ):
        broken = model(body, inputs="float[N,4,H,W] v, int64[K] ids", outputs=outputs)
        (changed,) = (node for node in broken.graph.node if output in node.output)
        assert changed.op_type == operator
        changed.input[:] = inputs
        assert not verified(source, broken).equal, output


def test_a_tie_that_rounding_decides_is_no_difference(model):
    source = model("a = Softmax<axis=1>(x) i = ArgMax<axis=1>(a) y = Relu(a)", outputs="int64[a,b,c,d] i")
    verification = verified(source, source)
    assert verification.equal


def test_numbers_that_are_not_finite_must_be_the_same(model):
    source = model("y = Log(x)")
    assert verified(source, source).equal
    assert verified(source, source).checked
    shifted = model("a = Add(x, k) y = Log(a)", k=np.float32(0.01))
    assert "NaN or infinity" in verified(source, shifted).summary()


def test_another_shape_or_type_or_number_of_outputs_is_a_difference(model):
    source = model("y = Relu(x)")
    for body, options, message in (
        ("y = Transpose<perm=[0,1,3,2]>(x)", {}, "float32[2, 4, 67, 45] instead of float32[2, 4, 45, 67]"),
        ("y = Relu(x) z = Relu(x)", {"outputs": "float[a,b,c,d] z"}, "2 outputs instead of 1"),
        ("s = Relu(x) y = Reshape(s, [7,-1])", {"y": "a,b"}, "the result does not run: "),
    ):
        assert message in verified(source, model(body, **options)).summary()


def test_the_users_own_inputs_come_first(model):
    source = model("s = Reshape(x, [3,5,7]) y = Relu(s)", x="L", y="a,b,c")
    assert not verified(source, source).checked
    example = {"x": np.ones(105, "f")}
    verification = verified(source, source, example)
    assert verification.checked
    assert verification.probes == ["105"]


def test_what_cannot_be_run_is_said_to_be_unverified(model):
    source = model("y = their.Thing(x)", imports=', "their" : 1')
    verification = verified(source, source)
    assert not verification.checked
    assert verification.summary().startswith("not verified as a whole (the source does not run: ")
    assert "their:Thing" in verification.summary()


def test_an_output_that_the_source_itself_does_not_repeat_is_undecided(model):
    source = model("r = RandomNormalLike(x) y = Add(x, r) z = Relu(x)", outputs="float[a,b,c,d] z")
    wrong = model("r = RandomNormalLike(x) y = Add(x, r) z = Neg(x)", outputs="float[a,b,c,d] z")
    verification = verified(source, source)
    assert [bool(output.undecided) for output in verification.outputs] == [True, False]
    assert not verification.checked
    assert verification.equal
    assert not verified(source, wrong).equal


@pytest.mark.parametrize(("second", "equal"), [("Relu(x)", True), ("Neg(x)", False)])
def test_a_result_far_from_the_source_is_wrong_though_the_reference_is_not_the_sources(model, monkeypatch, second, equal):
    """As where an operator does not mean what it was lifted as: source and result agree with the reference or not for that."""
    monkeypatch.setattr(OnnxDocument, "run_reference", lambda document, feeds: [-3 * feeds["x"].astype(np.float64)])
    verification = verified(model("y = Relu(x)"), model(f"y = {second}"))
    assert not verification.checked
    assert verification.equal == equal
    if not equal:
        assert "away from the source, which rounding moves by" in verification.summary()


def test_nor_is_it_let_pass_on_an_input_that_others_leave_out(model, monkeypatch):
    def reference(document, feeds):
        return [np.maximum(feeds["x"], 0.0) * (1.0 if feeds["x"].shape[2] > 9 else -3.0)]  # wrong of the tiny image

    monkeypatch.setattr(OnnxDocument, "run_reference", reference)
    source = model("y = Relu(x)")
    large = "s = Shape(x) h = Gather(s, [2]) b = Greater(h, [9]) k = Cast<to=1>(b) r = Relu(x) y = Mul(r, k)"
    assert verified(source, source).checked
    assert verified(source, source).equal
    assert verified(source, source).probes == ["2x4x45x67"]
    assert not verified(source, model(large)).equal
