"""Corners of the ONNX graph: outputs of every origin, optional values, names, effects, chance, and what is not supported."""

import numpy as np
import onnx
import pytest

import repcompiler

THEIRS = ', "their" : 1'


def compiled(source, **options):
    report = repcompiler.Report()
    return repcompiler.compile(source, report=report, objective="plain", **options), report


@pytest.mark.parametrize(
    ("body", "becomes", "options"),
    [
        pytest.param("c = Conv(x, w_4x4x1x1) y = Mul(c, k_4x1x1)", "Conv", {"outputs": "float[N,4,H,W] x"}, id="an input"),
        pytest.param("y = Relu(x)", "Relu", {"outputs": "float[4] k_4", "k_4": np.ones(4, "f")}, id="an initializer"),
        pytest.param("i = Identity(k_4) y = Relu(x)", "Relu", {"outputs": "float[4] i"}, id="a copy of an initializer"),
        pytest.param("i = Exp(k_4) j = Exp(i) y = Relu(x)", "Relu", {"outputs": "float[4] j, float[4] i"}, id="constants"),
        pytest.param("y = Identity(x)", "Identity", {}, id="a copy of an input"),
        pytest.param("c = Relu(x) y = Identity(c)", "Identity Relu", {"outputs": "float[a,b,c,d] c"}, id="a copy of an output"),
        pytest.param(
            "c = Conv(x, w_4x4x1x1) y = Mul(c, k_4x1x1)", "Conv Mul", {"outputs": "float[a,b,c,d] c"}, id="a value between"
        ),
        pytest.param('"", y = LSTM<hidden_size=3>(x, w_1x12x4, r_1x12x3)', "LSTM", {"x": "2,1,4"}, id="a later result"),
        pytest.param("u = Exp(x) y = Relu(x)", "Relu", {}, id="but not what is unread"),
        pytest.param("y, i = MaxPool<kernel_shape=[1,1]>(x)", "MaxPool", {}, id="one result of two"),
    ],
)
def test_an_output_may_be(expect, body, becomes, options):
    expect(body, becomes, options)


def test_an_output_may_be_listed_twice(model, run, assert_close):
    source = model("c = Conv(x, w_4x4x1x1) y = Mul(c, k_4x1x1)")
    source.graph.output.append(source.graph.output[0])
    result, report = compiled(source)
    assert report.verification.checked
    assert [output.name for output in result.graph.output] == ["y", "y"]
    feeds = {"x": np.ones((1, 4, 2, 3), "f")}
    assert_close(run(result, feeds), run(source, feeds))


def test_a_new_name_is_one_that_nothing_has(model, run, assert_close):
    body = "c = Conv(x, w_4x4x1x1) y = Mul(c, k_4x1x1) taken = Relu(x) z = If(b) <{}>"
    branch = "{0}_branch = {0} () => (float[a,b,c,d] {0}) {{ inner_{0} = Exp(x) {0} = Neg(inner_{0}) }}"
    branches = ", ".join(branch.format(name) for name in ("then", "else"))
    source = model(body.format(branches), inputs="bool b", outputs="float[a,b,c,d] taken, float[a,b,c,d] z")
    text = source.SerializeToString().replace(b"inner_then", b"y.weight_1").replace(b"taken", b"y.weight"[:5])
    source = onnx.ModelProto.FromString(text)
    source.graph.node[2].output[0] = source.graph.output[1].name = "y.weight"
    result, report = compiled(source)
    assert report.verification.checked
    assert [tensor.name for tensor in result.graph.initializer] == ["y.weight_2"]
    feeds = {"x": np.ones((1, 4, 2, 3), "f"), "b": np.array(True)}
    assert_close(run(result, feeds), run(source, feeds))


@pytest.mark.parametrize(("stated", "expected"), [(False, [None, 6, None, None]), (True, ["N", 6, 5, 7])])
def test_a_new_value_states_its_shape_where_the_document_states_shapes_and_else_its_channels(model, stated, expected):
    proto = model(
        "c = Conv(x, w_6x4x1x1) b = BatchNormalization(c, g_6, b_6, m_6, var_6) y = Relu(b)", x="N,4,5,7", y="N,6,5,7"
    )
    if stated:
        proto = onnx.shape_inference.infer_shapes(proto)
    (info,) = (info for info in repcompiler.compile(proto).graph.value_info if info.name == "b")
    assert [dim.dim_value or dim.dim_param or None for dim in info.type.tensor_type.shape.dim] == expected


def test_in_ir_version_3_initializers_stay_listed_as_inputs(model):
    result, _ = compiled(model("c = Conv(x, w_4x4x1x1) y = Mul(c, k_4x1x1)", ir=3, opset=8, listed=True))
    assert [value.name for value in result.graph.input] == ["x", "y.weight"]
    assert [tensor.name for tensor in result.graph.initializer] == ["y.weight"]


def test_the_standard_domain_may_be_spelled_out(model, operators):
    source = model("c = Conv(x, w_4x4x1x1) y = Mul(c, k_4x1x1)")
    source.opset_import[0].domain = "ai.onnx"
    result, _ = compiled(source)
    assert operators(result) == "Conv"
    assert result.opset_import == source.opset_import


def test_a_foreign_operator_that_nobody_reads_may_have_an_effect_and_stays(model, operators):
    result, _ = compiled(model("u = their.Log(x) y = Relu(x)", imports=THEIRS))
    assert operators(result) == "Log Relu"


def test_a_foreign_operator_may_have_no_result(model, operators):
    source = model("c = Conv(x, w_4x4x1x1) y = Mul(c, k_4x1x1) u = their.Log(y)", imports=THEIRS)
    del source.graph.node[2].output[:]
    result, _ = compiled(source)
    assert operators(result) == "Conv Log"


BRANCHES = "then_branch = t () => (float[3] p) {{ p = {0} }}, else_branch = e () => (float[3] q) {{ q = {0} }}"


@pytest.mark.parametrize(
    ("inner", "becomes"),
    [("Constant<value_floats=[1.0,2.0,3.0]>()", "Mul"), ("RandomNormal<shape=[3], seed=1.0>()", "If Mul")],
    ids=["arithmetic folds", "chance does not"],
)
def test_a_branch_chosen_by_constants(model, operators, inner, becomes):
    source = model(f"b = Less(k_scalar, l_scalar) r = If(b) <{BRANCHES.format(inner)}> y = Mul(x, r)", x="N,4,H,3")
    result, _ = compiled(source)
    assert operators(result) == becomes


@pytest.mark.parametrize(
    "body", ["k = RandomNormal<shape=[4,1,1]>() y = Mul(x, k)", "k = RandomNormalLike(k_4x1x1) y = Mul(x, k)"]
)
def test_chance_is_not_folded_into_a_constant(model, body):
    _, report = compiled(model(body))
    assert not report.steps


def test_beside_chance_each_rewrite_is_checked_by_itself(model, operators):
    source = model("r = RandomNormalLike(x) c = Conv(r, w_4x4x3x3) y = Mul(c, k_4x1x1)")
    result, report = compiled(source)
    assert operators(result) == "Conv RandomNormalLike"
    assert not report.reverted
    assert report.verification.summary().startswith("not verified as a whole (output '0': the source is off by ")


def test_a_sequence_stays(model, operators):
    result, _ = compiled(model("s = SequenceConstruct(k_3, l_3) r = ConcatFromSequence<axis=0>(s) y = Mul(x, r)", x="N,4,H,6"))
    assert operators(result) == "ConcatFromSequence Mul SequenceConstruct"


def test_text_passes_through(model, operators):
    source = model("c = Conv(x, w_4x4x3x3) y = Mul(c, k_4x1x1) z = Identity(v)", inputs="string[3] v", outputs="string[3] z")
    result, report = compiled(source)
    assert operators(result) == "Conv Identity"
    assert "input 'v' is no array of numbers" in report.verification.summary()
    text = {"x": np.ones((1, 4, 5, 5), "f"), "v": np.array(["a", "b", "c"], object)}
    assert compiled(source, example_inputs=text)[1].verification.checked


def test_a_constant_of_text_stays(model):
    source = model(
        's = Constant<value_strings=["a", "b"]>() t = Constant<value = string {"a"}>() y = Relu(x)', outputs="string[2] s"
    )
    assert len(compiled(source)[0].graph.node) == 2


def sparse(proto):
    values = onnx.helper.make_tensor("w_4x4x1x1", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0])
    del proto.graph.initializer[:]
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [4, 4, 1, 1]))


def training(proto):
    proto.training_info.add().algorithm.name = "adam"


def function(proto):
    text = '<domain: "", opset_import: ["" : 17]> Conv (x, w) => (y) { y = Relu(x) }'
    proto.functions.append(onnx.parser.parse_function(text))


def external(proto):
    tensor = proto.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="weights.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sparse, "sparse initializers are not supported"),
        (training, "it carries training_info, which would be lost"),
        (function, "a local function takes the place of a standard operator"),
        (external, "the weights are external data, and a ModelProto has no folder"),
    ],
)
def test_what_onnx_ir_would_lose_is_refused(model, change, message):
    source = model("y = Conv(x, w_4x4x1x1)")
    change(source)
    with pytest.raises(repcompiler.ModelError, match=message):
        repcompiler.compile(source)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({}, "example_inputs lacks x"),
        ({"y": np.ones(3)}, "example_inputs lacks x"),
        (np.ones(3), "is a dict of arrays by input name"),
    ],
)
def test_example_inputs_that_are_none_are_refused(model, example, message):
    with pytest.raises(repcompiler.ModelError, match=message):
        repcompiler.compile(model("y = Relu(x)"), example)


def test_a_scale_of_a_value_of_unknown_rank_is_one_of_its_channels(model, check):
    """Here there are as many columns as channels, along which a vector would be broadcast."""
    body = """
        r = Reshape(x, t)  a = BatchNormalization(r, g_4, z, z, var_4)
        p = AveragePool<kernel_shape=[2,1], pads=[1,0,1,0], count_include_pad=1>(a)  y = BatchNormalization(p, g_4, z, z, var_4)
    """
    proto = model(body, x="24,4", inputs="int64[n] t", z=np.zeros(4, np.float32), y="")
    for objective in ("latency", "plain"):
        _, report = check(proto, {"t": np.array([1, 4, 6, 4])}, objective=objective)
        assert not report.reverted
        assert {"fold_batch_norm_through"} == {step.rule for step in report.steps}
