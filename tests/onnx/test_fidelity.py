"""What no rewrite touched comes out as it went in, byte for byte.

The fixture holds everything that optimisers lose: a foreign operator, a local function, quantised nodes, branches and a loop
that read values from outside (values that rewrites replace, too), names, documentation, metadata, symbolic shapes.
"""

import numpy as np
import onnx
import onnx_ir
from click.testing import CliRunner

import repcompiler
from repcompiler.cli import main

NASTY = """
<ir_version: 11, opset_import: ["" : 21, "their" : 3, "local" : 1, "unused" : 7],
 producer_name: "a trainer", producer_version: "1.2", domain: "org.example", model_version: 42, doc_string: "the model",
 metadata_props: ["licence" : "MIT", "author" : "somebody"]>
nasty (float[batch,4,height,width] x, bool flag, float[batch,4,height,width] unread, float[4,1,1] gain)
    => (float[batch,4,height,width] y, float[batch,4,height,width] interior, string[2] labels, float[batch,4,h,w] branch,
        float[batch,4,height,width] looped)
<float[4,1,1] gain = {1.0, 2.0, 3.0, 4.0}, float scale = {0.05}, int8 zero = {3}, int64 trips = {3}, bool going = {1},
 string[2] labels = {"cat", "dog"}, float lonely = {7.0}>
{
    [gate] gated = local.Gate<slope: float = 0.5>(x)
    [thing] thing, , extra = their.Thing<tag = "a tag", table = float[2] {1.0, 2.0}>(gated, , gain)
    [quantise] quantised = QuantizeLinear(thing, scale, zero)
    [dequantise] real = DequantizeLinear(quantised, scale, zero)
    weight = DequantizeLinear(kernel, scale, zero)
    [quantised_conv] body = Conv<pads = [1,1,1,1]>(real, weight)
    [first] first = Conv<pads = [1,1,1,1]>(body, w_4x4x3x3)
    [norm] interior = BatchNormalization(first, g_4, b_4, m_4, var_4)
    [second] second = Conv<pads = [1,1,1,1]>(interior, w_4x4x3x3)
    [same] same = Identity(second)
    [scaled] scaled = Mul(same, k_4x1x1)
    [gained] gained = Mul(scaled, gain)
    [choose] branch = If(flag) <
        then_branch = yes () => (float[batch,4,h,w] chosen) {
            inner = Relu(same)  chosen = Add(inner, interior)
        },
        else_branch = no () => (float[batch,4,h,w] other) {
            nested = If(flag) <
                then_branch = a () => (float[batch,4,h,w] p) { p = Neg(scaled) },
                else_branch = b () => (float[batch,4,h,w] q) { q = Abs(scaled) }
            >
            other = Sub(nested, k_4x1x1)
        }
    >
    [again] looped = Loop(trips, going, gained) <
        body = turn (int64 i, bool before, float[batch,4,height,width] state) => (bool after, float[batch,4,height,width] next) {
            after = Identity(before)  sum = Add(state, scaled)  next = Mul(sum, gain)
        }
    >
    [pooled] highest, = MaxPool<kernel_shape = [1,1]>(looped)
    y = Relu(highest)
}
<domain: "local", opset_import: ["" : 21], doc_string: "x where it is large"> Gate <slope: float = 1.0>(v) => (r)
{
    s = Sigmoid(v)  factor = Constant<value_float: float = @slope>()  t = Mul(s, factor)  r = Mul(v, t)
}
"""
THING = """
<domain: "their", opset_import: ["" : 21]> Thing <tag, table>(v, missing, factor) => (r, nothing, extra)
{
    r = Mul(v, factor)  nothing = Identity(v)  extra = Neg(v)
}
"""


def nasty(foreign=True):
    """The fixture; unless `foreign`, the foreign operator comes with a definition, so that onnxruntime runs the model."""
    proto = onnx.parser.parse_model(NASTY if foreign else NASTY + THING)
    rng = np.random.default_rng(0)
    arrays = {f"{name}_4": rng.standard_normal(4).astype("f") for name in "gbm"}
    arrays |= {
        "w_4x4x3x3": rng.standard_normal((4, 4, 3, 3)).astype("f"),
        "k_4x1x1": rng.standard_normal((4, 1, 1)).astype("f"),
    }
    arrays |= {"var_4": rng.uniform(0.5, 2, 4).astype("f"), "kernel": rng.integers(-9, 9, (4, 4, 3, 3)).astype(np.int8)}
    graph = proto.graph
    for name, array in arrays.items():
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    graph.doc_string = "the graph"
    onnx.helper.set_metadata_props(graph, {"stage": "last"})
    for node in graph.node:
        if node.name:
            node.doc_string = f"what {node.name} does"
            onnx.helper.set_metadata_props(node, {"layer": node.name, "a": "b"})
    for tensor in graph.initializer:
        tensor.doc_string = f"weights of {tensor.name}"
        onnx.helper.set_metadata_props(tensor, {"shard": "1"})
    for value in (*graph.input, *graph.output):
        value.doc_string = f"about {value.name}"
        onnx.helper.set_metadata_props(value, {"unit": "none"})
    graph.input[0].type.denotation = "IMAGE"
    for dim, meaning in zip(graph.input[0].type.tensor_type.shape.dim, ("BATCH", "CHANNEL", "HEIGHT", "WIDTH"), strict=True):
        dim.denotation = f"DATA_{meaning}"
    for name in ("thing", "body", "first", "second", "scaled"):
        value = graph.value_info.add()
        value.CopyFrom(graph.input[0])
        value.name, value.doc_string = name, f"the value {name}"
    annotation = graph.quantization_annotation.add(tensor_name="thing")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    graph.quantization_annotation.add(tensor_name="scaled").quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    proto.configuration.add(name="two devices", num_devices=2, device=["left", "right"])
    placed = graph.node[1].device_configurations.add(configuration_id="two devices")
    placed.sharding_spec.add(tensor_name="gated", device=[0, 1])
    return proto


def round_trip(proto):
    """What onnx-ir alone makes of a model."""
    return onnx_ir.to_proto(onnx_ir.from_proto(proto))


def by_name(messages):
    return {message.name: message.SerializeToString(deterministic=True) for message in messages}


def by_output(graph):
    return {node.output[0]: node for node in graph.node}


def test_forking_a_model_loses_nothing():
    model = onnx_ir.from_proto(nasty())
    assert onnx_ir.to_proto(model.clone()) == onnx_ir.to_proto(model)


def test_an_empty_pass_list_returns_what_onnx_ir_loads_and_saves(tmp_path):
    source, expected, written = tmp_path / "source.onnx", tmp_path / "expected.onnx", tmp_path / "written.onnx"
    onnx.save(nasty(), source)
    onnx_ir.save(onnx_ir.load(source), expected)
    result = CliRunner().invoke(main, [str(source), "-o", str(written), "--passes", "", "--no-verify"])
    assert result.exit_code == 0
    assert written.read_bytes() == expected.read_bytes()
    assert repcompiler.compile(source, passes=[]).SerializeToString() == expected.read_bytes()
    assert repcompiler.compile(nasty(), passes=[]).SerializeToString() == expected.read_bytes()
    assert onnx_ir.to_proto(repcompiler.compile(onnx_ir.load(source), passes=[])).SerializeToString() == expected.read_bytes()


def test_what_no_rewrite_touched_is_byte_identical():
    source, result = round_trip(nasty()), repcompiler.compile(nasty())
    onnx.checker.check_model(result, full_check=True)
    old, new = source.graph, result.graph
    assert old.input == new.input
    assert old.output == new.output
    assert old.quantization_annotation == new.quantization_annotation
    replaced, gone, forwarded = {"interior"}, {"first", "same"}, {"scaled", "branch"}
    nodes, kept = by_output(old), by_output(new)
    assert list(kept) == [name for name in nodes if name not in gone]
    for name in kept.keys() - replaced - forwarded:
        assert kept[name] == nodes[name]
    for name in forwarded:  # they read the input of the identity that went
        assert str(kept[name]) == str(nodes[name]).replace('"same"', '"second"')
    assert kept["interior"].op_type == "Conv"
    assert kept["interior"].name == nodes["interior"].name
    tensors, kept_tensors = by_name(old.initializer), by_name(new.initializer)
    assert tensors.keys() - kept_tensors.keys() == {"g_4", "b_4", "m_4", "var_4"}
    assert kept_tensors.keys() - tensors.keys() == {"interior.weight", "interior.bias"}
    assert all(kept_tensors[name] == tensors[name] for name in tensors.keys() & kept_tensors.keys())
    infos, kept_infos = by_name(old.value_info), by_name(new.value_info)
    assert infos.keys() - kept_infos.keys() == {"g_4", "b_4", "m_4", "var_4", "first"}
    assert all(kept_infos[name] == infos[name] for name in infos.keys() & kept_infos.keys())
    for model in (source, result):
        for field in ("node", "initializer", "value_info", "input", "output", "quantization_annotation"):
            model.graph.ClearField(field)
    assert source == result


def test_a_model_with_branches_loops_and_functions_computes_what_it_did(run, assert_close):
    source = nasty(foreign=False)
    report = repcompiler.Report()
    result = repcompiler.compile(source, report=report)
    assert report.verification.checked
    assert not report.reverted
    assert [(step.rule, step.root) for step in report.steps] == [
        ("fold_batch_norm", "interior"),
        ("eliminate_identity", "same"),
    ]
    rng = np.random.default_rng(0)
    for flag in (True, False):
        for size in ((2, 4, 5, 7), (1, 4, 1, 1)):
            x = rng.standard_normal(size).astype("f")
            for defaults in ({}, {"gain": rng.standard_normal((4, 1, 1)).astype("f")}):
                feeds = {"x": x, "unread": x, "flag": np.array(flag), **defaults}
                assert_close(run(result, feeds), run(source, feeds))


def test_where_the_runtime_lacks_an_operator_the_result_is_the_same_and_said_to_be_unverified(tmp_path):
    onnx.save(nasty(), tmp_path / "source.onnx")
    result = CliRunner().invoke(main, [str(tmp_path / "source.onnx"), "-o", str(tmp_path / "plain.onnx")])
    assert result.exit_code == 0
    assert "not verified" in result.stdout
    assert "their:Thing" in result.stdout
    assert onnx.load(tmp_path / "plain.onnx").graph == repcompiler.compile(nasty(foreign=False)).graph


def test_the_source_is_never_changed():
    proto, model = nasty(), onnx_ir.from_proto(nasty())
    before = proto.SerializeToString(deterministic=True), onnx_ir.to_proto(model)
    repcompiler.compile(proto)
    repcompiler.compile(model)
    assert (proto.SerializeToString(deterministic=True), onnx_ir.to_proto(model)) == before


def test_compiling_twice_gives_the_same_bytes():
    first, second = (repcompiler.compile(nasty()).SerializeToString() for _ in range(2))
    assert first == second


def test_compiling_the_result_again_changes_nothing():
    once = repcompiler.compile(nasty(foreign=False))
    assert repcompiler.compile(once) == round_trip(once)
