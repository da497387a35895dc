"""The ONNX operators that compute: one function each, in the table `ARITHMETIC`.

Each returns what `Lift` is to put in the node's place (`Lifted`), or None where this node has a form outside the algebra.
Attribute defaults are those of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from repcompiler.errors import ModelError
from repcompiler.frontends.onnx_lift import FLOATS, Lift, Lifted, NDArray, Operator, array_of, attribute, describe
from repcompiler.ir import Shape, Value
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Linear,
    Padding,
    Scale,
    Subsample,
    Sum,
)


def _padding(node: onnx_ir.Node, spatial: int, extent: Sequence[int], stride: Sequence[int], x: Value) -> Padding | None:
    """Explicit padding, whatever `auto_pad` says; None where SAME depends on a size that is not known."""
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = attribute(node, "pads", (0,) * (2 * spatial))
        return tuple(zip(pads[:spatial], pads[spatial:], strict=True))
    if auto == "VALID":
        return ((0, 0),) * spatial
    result = []
    for size, reach, step in zip(x.spatial(spatial), extent, stride, strict=True):
        if step != 1 and size is None:
            return None
        covered = 0 if size is None else (-(-size // step) - 1) * step + reach - size
        total = max(reach - 1 if step == 1 else covered, 0)
        result.append((total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2))
    return tuple(result)


def _conv(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    x, weight = lift.data(node), lift.weight(node, 1)
    bias = lift.weight(node, 2)
    if weight is None or weight.ndim < 3 or (lift.optional(node, 2) is not None and bias is None):
        return None
    spatial = weight.ndim - 2
    ones = (1,) * spatial
    stride, dilation = tuple(attribute(node, "strides", ones)), tuple(attribute(node, "dilations", ones))
    extent = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    padding = _padding(node, spatial, extent, stride, x)
    if padding is None:
        return None
    bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    op = Conv(weight, bias, stride, padding, dilation, attribute(node, "group", 1))
    return Lifted(op, (lift.expect(x, (None, op.in_channels) + (None,) * spatial),), lift.parameters(node))


def _conv_transpose(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    x, weight = lift.data(node), lift.weight(node, 1)
    bias = lift.weight(node, 2)
    if weight is None or weight.ndim < 3 or (lift.optional(node, 2) is not None and bias is None):
        return None
    if "output_shape" in node.attributes or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    spatial = weight.ndim - 2
    ones, zeros = (1,) * spatial, (0,) * spatial
    groups = attribute(node, "group", 1)
    padding = _padding(node, spatial, ones, ones, x)
    assert padding is not None
    op = ConvTranspose(
        weight,
        np.zeros(weight.shape[1] * groups, weight.dtype) if bias is None else bias,
        tuple(attribute(node, "strides", ones)),
        padding,
        tuple(attribute(node, "output_padding", zeros)),
        tuple(attribute(node, "dilations", ones)),
        groups,
    )
    return Lifted(op, (x,), lift.parameters(node))


def _batch_norm(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    if lift.opset < 7 or attribute(node, "training_mode", 0) or len(node.outputs) > 1 or not attribute(node, "spatial", 1):
        return None
    gamma, beta, mean, var = (lift.weight(node, index) for index in range(1, 5))
    if gamma is None or beta is None or mean is None or var is None:
        return None
    eps = float(attribute(node, "epsilon", 1e-5))
    if (var.astype(np.float64) + eps <= 0).any():
        raise ModelError(f"{describe(node)}: var + eps is not positive in {int((var + eps <= 0).sum())} channels: it gives NaN")
    return Lifted(BatchNorm(gamma, beta, mean, var, eps), (lift.data(node),), lift.parameters(node))


def _gemm(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    weight, bias = lift.weight(node, 1), lift.weight(node, 2)
    if weight is None or attribute(node, "transA", 0) or (lift.optional(node, 2) is not None and bias is None):
        return None
    alpha, beta = float(attribute(node, "alpha", 1.0)), float(attribute(node, "beta", 1.0))
    weight = weight if attribute(node, "transB", 0) else weight.T
    out = weight.shape[0]
    if bias is None:
        bias = np.zeros(out, weight.dtype)
    elif bias.size not in (1, out) or (bias.ndim == 2 and bias.shape[0] != 1):
        return None  # a bias for each row of the batch
    bias = np.broadcast_to(bias.reshape(-1), (out,))
    weight = weight if alpha == 1 else alpha * weight.astype(np.float64)
    bias = bias if beta == 1 else beta * bias.astype(np.float64)
    return Lifted(Linear(weight, bias), (lift.expect(lift.data(node), (None, weight.shape[1])),), lift.parameters(node))


def _matmul(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    weight = lift.weight(node, 1)
    if weight is None or weight.ndim != 2 or lift.data(node).rank == 1:
        return None
    return Lifted(Linear(weight.T, np.zeros(weight.shape[1], weight.dtype)), (lift.data(node),), (lift.data(node, 1),))


def _elementwise(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Add, Sub, Mul, Div: a scale where one side is a constant a channel, a sum where neither is constant."""
    left, right = lift.data(node, 0), lift.data(node, 1)
    kind = node.op_type
    if lift.opset < 7 or left.dtype not in FLOATS:
        return None
    if left.constant is None and right.constant is None:
        signs = {"Add": (1, 1), "Sub": (1, -1)}.get(kind)
        return Lifted(Sum(signs), (left, right)) if signs else None
    if left.constant is not None and right.constant is not None:
        return None
    x, constant = (right, left) if left.constant is not None else (left, right)
    if kind == "Div" and constant is left:
        return None
    channels = per_channel(array_of(constant), x.shape)
    if channels is None:
        return None
    vector, axis = channels
    one, zero = np.ones(1), np.zeros(1)
    with np.errstate(all="ignore"):
        t, s = {
            "Add": (one, vector),
            "Sub": (one, -vector) if constant is right else (-one, vector),
            "Mul": (vector, zero),
            "Div": (1 / vector, zero),
        }[kind]
    if not (np.isfinite(t).all() and np.isfinite(s).all()):
        return None
    return Lifted(Scale(t, s, axis), (x,), (constant,))


def per_channel(array: NDArray, shape: Shape | None) -> tuple[NDArray, int] | None:
    """A broadcast constant as (vector, axis), where it varies along one axis of `shape` at most and does not enlarge it."""
    vector = array.astype(np.float64)
    if array.size == 1:
        return (vector.reshape(1), 1) if array.ndim <= (0 if shape is None else len(shape)) else None
    if shape is None or array.ndim > len(shape):
        return None
    axis = next(index for index, size in enumerate(array.shape) if size > 1) + len(shape) - array.ndim
    if shape[axis] != array.size or axis == 0:
        return None  # it varies along several axes, or would enlarge one whose extent is 1 or unknown
    return vector.reshape(-1), axis


def _sum(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    values = [lift.data(node, index) for index in range(len(node.inputs))]
    if lift.opset < 8 or any(value.constant is not None or value.dtype not in FLOATS for value in values):
        return None
    return Lifted(Sum((1,) * len(values)), tuple(values))


def _average_pool(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    x, kernel = lift.data(node), tuple(attribute(node, "kernel_shape", ()))
    ones = (1,) * len(kernel)
    stride = tuple(attribute(node, "strides", ones))
    padding = _padding(node, len(kernel), kernel, stride, x)
    if padding is None or attribute(node, "ceil_mode", 0) or any(d != 1 for d in attribute(node, "dilations", ones)):
        return None
    if any(map(any, padding)) and not attribute(node, "count_include_pad", 0):
        return None
    return Lifted(AvgPool(kernel, stride, padding, int(np.prod(kernel))), (x,))


def _max_pool(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A window of one pixel only samples."""
    kernel = tuple(attribute(node, "kernel_shape", ()))
    padded = any(attribute(node, "pads", ())) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if any(k != 1 for k in kernel) or padded or attribute(node, "ceil_mode", 0) or len(node.outputs) > 1:
        return None
    return Lifted(Subsample(tuple(attribute(node, "strides", (1,) * len(kernel)))), (lift.data(node),))


ARITHMETIC: dict[str, Operator] = {
    "Add": _elementwise,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _elementwise,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _elementwise,
    "Sub": _elementwise,
    "Sum": _sum,
}
