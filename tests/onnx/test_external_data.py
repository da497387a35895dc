"""Weights beside the model: found, checked, left where they are, and written beside the result."""

import numpy as np
import onnx
import onnx_ir
import pytest
from click.testing import CliRunner

import repcompiler
from repcompiler import compiler, passes
from repcompiler.cli import main
from repcompiler.frontends.onnx import OnnxDocument


def repc(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def weights(small, tmp_path):
    """The same model in a folder of its own, its weights in external data; and a way to change where they are said to be."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx_ir.save(onnx_ir.load(small), path, external_data="model.data", size_threshold_bytes=0)

    def described(**entries):
        proto = onnx.load(path, load_external_data=False)
        for entry in proto.graph.initializer[0].external_data:
            entry.value = str(entries.get(entry.key, entry.value))
        path.write_bytes(proto.SerializeToString())
        return path

    return described


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "gone.data"}, "external data 'gone.data' of 'w_8x4x3x3' is missing"),
        ({"location": "../secret"}, "external data '../secret' of 'w_8x4x3x3' lies outside the model's folder"),
        ({"location": "/etc/passwd"}, "external data '/etc/passwd' of 'w_8x4x3x3' lies outside the model's folder"),
        ({"location": "link"}, "external data 'link' of 'w_8x4x3x3' lies outside the model's folder"),
        ({"location": "linked/secret"}, "external data 'linked/secret' of 'w_8x4x3x3' lies outside the model's folder"),
        ({"location": ""}, "external data '' of 'w_8x4x3x3' is missing"),
        ({"location": "model\0data"}, "is not described correctly"),
        ({"offset": "1000000"}, "is cut short, or not of the size that its shape says"),
        ({"offset": "-4"}, "is cut short, or not of the size that its shape says"),
        ({"length": "8"}, "is cut short, or not of the size that its shape says"),
        ({"length": "many"}, "is not described correctly"),
    ],
    ids=[
        "missing",
        "a parent",
        "absolute",
        "a link",
        "a linked folder",
        "none",
        "a null",
        "offset",
        "negative",
        "length",
        "no number",
    ],
)
def test_what_is_wrong_with_external_data(rejects, weights, tmp_path, entries, message):
    source = weights(**entries)
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    (source.parent / "link").symlink_to(tmp_path / "secret")
    (source.parent / "linked").symlink_to(tmp_path)
    rejects(message, source, "-o", tmp_path / "plain.onnx")


def test_an_external_file_that_is_cut_short(rejects, weights, tmp_path):
    source = weights()
    data = source.parent / "model.data"
    data.write_bytes(data.read_bytes()[:-1])
    rejects("is cut short", source, "-o", tmp_path / "plain.onnx")


def test_external_data_is_found_beside_a_relative_path_and_beside_a_link(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(weights().parent)
    (tmp_path / "folder" / "alias.onnx").symlink_to("model.onnx")
    for name in ("model.onnx", "alias.onnx", "../folder/model.onnx"):
        repc(name, "-o", tmp_path / "plain.onnx")


def test_the_inputs_weights_are_not_overwritten(rejects, weights):
    source = weights()
    rejects("would overwrite", source, "-o", source.with_name("model"))  # whose weights would go to model.data


@pytest.mark.parametrize("folder", [".", ".."], ids=["the same folder", "another folder"])
def test_external_data_stays_external(weights, folder, run, assert_close):
    source = weights()
    before = {path.name: path.read_bytes() for path in source.parent.iterdir()}
    target = (source.parent / folder / "plain.onnx").resolve()
    repc(source, "-o", target)
    assert {name: (source.parent / name).read_bytes() for name in before} == before
    tensors = onnx.load(target, load_external_data=False).graph.initializer
    (location,) = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    assert location == "plain.onnx.data"
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 4, 5, 7)).astype("f")}
    assert_close(run(onnx.load(target), feeds), run(onnx.load(source), feeds))
    assert [node.op_type for node in repcompiler.compile(source).graph.node] == ["Conv"]


def test_with_force_a_model_and_its_weights_are_overwritten(weights, run, assert_close):
    source = weights()
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 4, 5, 7)).astype("f")}
    expected = run(onnx.load(source), feeds)
    for _ in range(2):  # its weights then lie where they go
        repc(source, "-o", source, "--force")
        assert_close(run(onnx.load(source), feeds), expected)


def test_weights_that_no_rewrite_touches_stay_memory_mapped(model, tmp_path):
    source = tmp_path / "model.onnx"
    proto = model("c = Conv(x, w_4x4x3x3) m = Mul(c, k_4x1x1) r = Relu(m) d = Conv(r, v_8x4x3x3) y = Softplus(d)")
    onnx_ir.save(onnx_ir.from_proto(proto), source, external_data="model.data", size_threshold_bytes=0)
    document = OnnxDocument.open(source)
    result = compiler.compile_document(document, "latency", passes.PASSES, True, repcompiler.Report())
    weights = {name: value.const_value for name, value in result.onnx_ir_model.graph.initializers.items()}
    assert weights.keys() == {"v_8x4x3x3", "m.weight"}
    assert isinstance(weights["v_8x4x3x3"], onnx_ir.ExternalTensor)
    assert weights["v_8x4x3x3"] is document.onnx_ir_model.graph.initializers["v_8x4x3x3"].const_value
    assert not isinstance(weights["m.weight"], onnx_ir.ExternalTensor)
    proto = repcompiler.compile(source)
    onnx.checker.check_model(proto)
    assert not any(tensor.external_data for tensor in proto.graph.initializer)


def test_external_data_inside_branches_and_attributes_moves_along(model, tmp_path, run, assert_close):
    branch = "{0}_branch = {0} () => (float[a,b,c,d] {0}) <float[4,1,1] k{0} = {{1.0, 2.0, 3.0, 5.0}}> {{ {0} = Mul(m, k{0}) }}"
    branches = ", ".join(branch.format(name) for name in ("then", "else"))
    constant = "k = Constant<value = float[4,1,1] {1.0, 2.0, 3.0, 4.0}>()"
    proto = model(f"{constant} c = Conv(x, w_4x4x1x1) m = Mul(c, k) y = If(b) <{branches}>", inputs="bool b")
    feeds = {"x": np.ones((1, 4, 2, 3), "f"), "b": np.array(True)}
    expected = run(proto, feeds)
    folder, target = tmp_path / "from", tmp_path / "plain.onnx"
    folder.mkdir()
    onnx.save(
        proto, folder / "model.onnx", save_as_external_data=True, location="data", size_threshold=0, convert_attribute=True
    )
    assert "deviation" in repc(folder / "model.onnx", "-o", target).stdout
    for path in folder.iterdir():
        path.unlink()
    assert_close(run(onnx.load(target), feeds), expected)


def test_shapes_that_lie_in_external_data_are_known(model, tmp_path, operators):
    proto = model("r = Reshape(x, [0,4,6,-1]) m = Mul(r, k_4x1x1) y = Mul(m, l_4x1x1)", x="N,24,L", y="a,b,c,d")
    onnx_ir.save(onnx_ir.from_proto(proto), tmp_path / "model.onnx", external_data="model.data", size_threshold_bytes=0)
    assert operators(repcompiler.compile(tmp_path / "model.onnx")) == operators(repcompiler.compile(proto)) == "Mul Reshape"
