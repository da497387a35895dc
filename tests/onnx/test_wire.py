"""Reading a file without copying its weights, and writing one without holding them twice, changes no byte."""

import io

import numpy as np
import onnx
import onnx_ir
import pytest

from repcompiler import onnx_wire
from repcompiler.backends.onnx_file import Draft
from repcompiler.errors import ModelError
from repcompiler.frontends.onnx_file import read


@pytest.fixture
def file(tmp_path):
    """A file whose second and third initializers are large, the last one packed four bits a number."""
    rng = np.random.default_rng(0)
    tensors = [
        onnx.numpy_helper.from_array(rng.normal(size=7).astype("f"), "small"),
        onnx.numpy_helper.from_array(rng.normal(size=(5, 300)), "large"),
        onnx.helper.make_tensor("packed", onnx.TensorProto.INT4, [2200], rng.integers(-8, 8, 2200)),
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["large"], ["y"])],
        "graph",
        [],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, [5, 300])],
        tensors,
        doc_string="after the initializers",
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], doc_string="before the graph")
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_large_weights_are_views_of_the_file(file):
    weights = read(file).graph.initializers
    assert not weights["large"].const_value.numpy().flags.owndata
    assert not weights["large"].const_value.numpy().flags.writeable
    expected = {tensor.name: tensor for tensor in onnx.load(file).graph.initializer}
    for name, value in weights.items():
        np.testing.assert_array_equal(value.const_value.numpy(), onnx.numpy_helper.to_array(expected[name]))


def test_a_file_is_written_as_onnx_ir_writes_it(file, tmp_path):
    onnx_ir.save(onnx_ir.load(file), tmp_path / "theirs.onnx")
    Draft(read(file), tmp_path / "ours.onnx", external=False).publish()
    assert (tmp_path / "ours.onnx").read_bytes() == (tmp_path / "theirs.onnx").read_bytes()


def test_a_model_laid_out_in_another_way_is_read_by_protobuf(file):
    whole = onnx.load(file)
    first, second = onnx.ModelProto(), onnx.ModelProto()
    first.CopyFrom(whole)
    del first.graph.initializer[1:]
    second.graph.initializer.extend(whole.graph.initializer[1:])
    file.write_bytes(first.SerializeToString() + second.SerializeToString())  # messages concatenated are messages merged
    assert list(read(file).graph.initializers) == ["small", "large", "packed"]


def test_data_of_another_size_than_the_shape_says_is_refused(file):
    model = onnx.load(file)
    model.graph.initializer[1].raw_data = model.graph.initializer[1].raw_data[:-8]
    onnx.save(model, file)
    with pytest.raises(ModelError, match="'large' is not of the size that its shape says"):
        read(file)


def test_a_message_cut_short_is_no_message():
    buffer = memoryview(onnx_wire.message(7, [b"\x0a\x04name"]))
    assert [field.number for field in onnx_wire.fields(buffer, 0, len(buffer))] == [7]
    with pytest.raises(ValueError, match="longer than the message"):
        list(onnx_wire.fields(buffer[:-1], 0, len(buffer) - 1))


def test_a_model_without_weights_is_written_whole():
    proto = onnx.ModelProto(ir_version=8)
    proto.graph.name = "empty"
    file = io.BytesIO()
    onnx_wire.write(file, proto, [])
    assert file.getvalue() == proto.SerializeToString()
