"""Every operation has a form in both documents, which computes what the interpreter says."""

from dataclasses import replace
from inspect import isclass

import numpy as np
import onnx_ir
import pytest
import torch
from torch import fx, nn

from repcompiler import ops
from repcompiler.backends import fx_emit, onnx_emit
from repcompiler.backends.fx_writer import Place
from repcompiler.interpreter import evaluate
from repcompiler.ir import Value
from repcompiler.runtime import session
from repcompiler.testing import random_batch_norm, random_conv, random_conv_transpose, random_linear, random_scale

rng = np.random.default_rng(0)
IMAGE, TOKENS = (2, 4, 6, 8), (2, 5, 4)
AVERAGE = ops.AvgPool((3, 2), (2, 1), ((1, 0), (0, 1)), 6)
DYNAMIC = ops.DynamicConv((6, 2, 3, 2), rng.normal(size=6), (2, 1), ((1, 1), (0, 2)), (1, 2), 2)
CASES = {
    "AvgPool": (AVERAGE, [IMAGE]),
    "BatchNorm": (random_batch_norm(rng, 4), [IMAGE]),
    "Clip": (ops.Clip(-0.5, np.inf), [IMAGE]),
    "ClipChannels": (ops.ClipChannels(np.array([-np.inf, -0.5, 0, 0]), np.array([np.inf, np.inf, 0.5, 6])), [IMAGE]),
    "Concat": (ops.Concat(), [IMAGE, (2, 3, 6, 8)]),
    "Constant": (ops.Constant(rng.normal(size=(2, 3))), []),
    "Conv": (random_conv(rng, 4, 6, 3, stride=(2, 1), padding=(1, (0, 2)), dilation=(1, 2), groups=2), [IMAGE]),
    "ConvTranspose": (random_conv_transpose(rng, 4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), [IMAGE]),
    "ConvTranspose, uneven": (
        random_conv_transpose(rng, 4, 6, 3, stride=2, padding=((0, 1), (2, 0)), output_padding=(1, 0)),
        [IMAGE],
    ),
    "DepthToSpace": (ops.DepthToSpace(2, "DCR"), [(2, 8, 3, 5)]),
    "DepthToSpace, all pixels of one channel": (ops.DepthToSpace(2, "CRD"), [(2, 8, 3, 5)]),
    "DynamicConv": (DYNAMIC, [IMAGE, (6, 2, 3, 2)]),
    "Frame": (ops.Frame(((1, 0), (2, 1)), rng.normal(size=4)), [IMAGE]),
    "Gated, SiLU": (ops.Gated("silu"), [IMAGE]),
    "Gated, GELU": (ops.Gated("gelu"), [IMAGE]),
    "Gated, GELU by tanh": (ops.Gated("gelu_tanh"), [IMAGE]),
    "Gated, HardSwish": (ops.Gated("hardswish"), [IMAGE]),
    "GlobalAvgPool": (ops.GlobalAvgPool(), [IMAGE]),
    "GlobalAvgPool to numbers": (ops.GlobalAvgPool(dropped=2), [IMAGE]),
    "HardSigmoid": (ops.HardSigmoid(1 / 6, 0.5), [IMAGE]),
    "Identity": (ops.Identity(), [IMAGE]),
    "Linear": (random_linear(rng, 8, 3), [IMAGE]),
    "Linear of vectors": (random_linear(rng, 8, 3), [(2, 8)]),
    "MaxPool": (ops.MaxPool((3, 2), (2, 1), ((1, 1), (0, 0)), (1, 2)), [IMAGE]),
    "Mul": (ops.Mul(), [IMAGE, (2, 4, 1, 1)]),
    "PRelu": (ops.PRelu(rng.normal(size=4)), [IMAGE]),
    "PRelu, one slope": (ops.PRelu(np.array([-0.3])), [IMAGE]),
    **{f"Odd {name}": (ops.Odd(name), [IMAGE]) for name in ("tanh", "erf", "cube")},
    "Pad": (ops.Pad(((1, -2), (-1, 3))), [IMAGE]),
    "PadChannels": (ops.PadChannels(1, 2), [IMAGE]),
    "Relu": (ops.Relu(), [IMAGE]),
    "Reshape": (ops.Reshape((0, 2, -1, 8)), [IMAGE]),
    "Resize": (ops.Resize("linear", "half_pixel", "floor", scales=(2.0, 1.5)), [IMAGE]),
    "Scale": (random_scale(rng, 4), [IMAGE]),
    "Scale of the last axis": (random_scale(rng, 8, axis=3), [IMAGE]),
    "Select": (ops.Select((1, 3)), [IMAGE]),
    "Select, copies": (ops.Select((3, 1, 1)), [IMAGE]),
    "Sigmoid": (ops.Sigmoid(), [IMAGE]),
    "Softmax": (ops.Softmax(1), [IMAGE]),
    "Stack": (ops.Stack(1, new=True), [IMAGE, IMAGE, IMAGE]),
    "Stack of single numbers": (ops.Stack(2, new=False), [(2, 4, 1, 8), (2, 4, 1, 8)]),
    "Subsample": (ops.Subsample((2, 3), (1, 0)), [IMAGE]),
    "Sum": (ops.Sum((1, -1, 1)), [IMAGE, (2, 4, 1, 1), IMAGE]),
    "Sum, all subtracted": (ops.Sum((-1, -1)), [IMAGE, IMAGE]),
    "Take": (ops.Take(1, 2, keep=False), [IMAGE]),
    "Take, the axis stays": (ops.Take(2, 1, keep=True), [IMAGE]),
    "Transpose": (ops.Transpose((0, 2, 3, 1)), [IMAGE]),
}
ONNX = {
    **CASES,
    "SpaceToDepth": (ops.SpaceToDepth(2, "DCR"), [IMAGE]),
}
TORCH = {
    **CASES,
    "DynamicConv, one kernel a sample": (replace(DYNAMIC, each=True), [IMAGE, (2, 72)]),
    "AvgPool of a line, by another divisor": (ops.AvgPool((3,), (2,), ((1, 0),), 2), [(2, 4, 7)]),
    "AvgPool of pixels, by another divisor": (ops.AvgPool((3, 2), (2, 1), ((1, 0), (0, 1)), 5), [IMAGE]),
    "Reshape, the last axes stay": (ops.Reshape((0, 2, 2), tail=2), [IMAGE]),
    "SpaceToDepth": (ops.SpaceToDepth(2, "CRD"), [IMAGE]),
    "SpaceToDepth, all channels of one pixel after the other": (ops.SpaceToDepth(2, "DCR"), [IMAGE]),
}


def expected(op, shapes):
    arrays = [rng.normal(size=shape) for shape in shapes]
    [result] = evaluate(op, arrays)
    return arrays, result


@pytest.mark.parametrize(("op", "shapes"), ONNX.values(), ids=ONNX)
def test_onnx(op, shapes):
    arrays, result = expected(op, shapes)
    names = iter(range(100))
    types = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    inputs = [onnx_ir.Value(name=f"x{i}", type=types, shape=onnx_ir.Shape(shape)) for i, shape in enumerate(shapes)]
    model = onnx_ir.Model(onnx_ir.Graph(inputs, [], nodes=[], opset_imports={"": 17}, name="g"), ir_version=8)
    anchor = onnx_ir.Node("", "Identity", inputs[:1], name="anchor")
    emit = onnx_emit.Emit(model, Value("y", result.shape), result.shape, anchor, lambda wish: f"{wish}{next(names)}", {})
    output = emit.operation(op, inputs)
    for initializer in emit.initializers:
        model.graph.register_initializer(initializer)
    model.graph.extend(emit.nodes)
    model.graph.outputs.append(output)
    output.shape = onnx_ir.Shape(result.shape)
    output.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT if shapes else onnx_ir.DataType.DOUBLE)
    feeds = {f"x{i}": array.astype(np.float32) for i, array in enumerate(arrays)}
    [actual] = session(onnx_ir.to_proto(model).SerializeToString(), threads=1).run(None, feeds)
    assert actual.shape == result.shape
    assert np.allclose(actual, result, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("op", "shapes"), TORCH.values(), ids=TORCH)
def test_torch(op, shapes):
    arrays, result = expected(op, shapes)
    region = fx.GraphModule(nn.Module(), fx.Graph())
    inputs = [region.graph.placeholder(f"x{index}") for index, _ in enumerate(shapes)]
    place = Place("new", torch.float64, torch.device("cpu"), False, result.ndim)
    region.graph.output(fx_emit.Emit(region, place, {}).operation(op, inputs))
    region.recompile()
    actual = region(*map(torch.as_tensor, arrays)).numpy()
    assert actual.shape == result.shape
    assert np.allclose(actual, result, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cases", [ONNX, TORCH], ids=["ONNX", "torch"])
def test_no_operation_is_left_out(cases):
    named = {getattr(ops, name) for name in ops.__all__}
    classes = {item for item in named if isclass(item) and issubclass(item, ops.Op)} - {ops.Op, ops.Opaque}
    assert classes == {type(op) for op, _ in cases.values()}


def test_what_is_no_operation_of_the_algebra_has_no_form():
    region = fx.GraphModule(nn.Module(), fx.Graph())
    place = Place("new", torch.float64, torch.device("cpu"), False, 4)
    with pytest.raises(TypeError, match="Mine is no operation of the algebra"):
        fx_emit.Emit(region, place, {}).operation(ops.Opaque("Mine"), [])
