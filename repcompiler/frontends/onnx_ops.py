"""The ONNX operators that the algebra understands: one function each, in the table `OPERATORS`.

Each returns what `Lift` is to put in the node's place (`Lifted`), or None where this node has a form outside the algebra.
Attribute defaults are those of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir

from repcompiler.errors import ModelError
from repcompiler.frontends.onnx_lift import FLOATS, Lift, Lifted, NDArray, Operator, array_of, describe
from repcompiler.ir import Shape, Value
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Constant,
    Conv,
    ConvTranspose,
    Identity,
    Linear,
    Pad,
    Padding,
    Scale,
    Subsample,
    Sum,
)

END = 2**31 - 1
"""An end this large means 'to the end' in a Slice."""


def _attr(node: onnx_ir.Node, name: str, default: Any) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def _padding(node: onnx_ir.Node, spatial: int, extent: Sequence[int], stride: Sequence[int], x: Value) -> Padding | None:
    """Explicit padding, whatever `auto_pad` says; None where SAME depends on a size that is not known."""
    auto = _attr(node, "auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = _attr(node, "pads", (0,) * (2 * spatial))
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
    stride, dilation = tuple(_attr(node, "strides", ones)), tuple(_attr(node, "dilations", ones))
    extent = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    padding = _padding(node, spatial, extent, stride, x)
    if padding is None:
        return None
    bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    op = Conv(weight, bias, stride, padding, dilation, _attr(node, "group", 1))
    return Lifted(op, (lift.expect(x, (None, op.in_channels) + (None,) * spatial),), lift.parameters(node))


def _conv_transpose(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    x, weight = lift.data(node), lift.weight(node, 1)
    bias = lift.weight(node, 2)
    if weight is None or weight.ndim < 3 or (lift.optional(node, 2) is not None and bias is None):
        return None
    if "output_shape" in node.attributes or _attr(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    spatial = weight.ndim - 2
    ones, zeros = (1,) * spatial, (0,) * spatial
    groups = _attr(node, "group", 1)
    padding = _padding(node, spatial, ones, ones, x)
    assert padding is not None
    op = ConvTranspose(
        weight,
        np.zeros(weight.shape[1] * groups, weight.dtype) if bias is None else bias,
        tuple(_attr(node, "strides", ones)),
        padding,
        tuple(_attr(node, "output_padding", zeros)),
        tuple(_attr(node, "dilations", ones)),
        groups,
    )
    return Lifted(op, (x,), lift.parameters(node))


def _batch_norm(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    if lift.opset < 7 or _attr(node, "training_mode", 0) or len(node.outputs) > 1 or not _attr(node, "spatial", 1):
        return None
    gamma, beta, mean, var = (lift.weight(node, index) for index in range(1, 5))
    if gamma is None or beta is None or mean is None or var is None:
        return None
    eps = float(_attr(node, "epsilon", 1e-5))
    if (var.astype(np.float64) + eps <= 0).any():
        raise ModelError(f"{describe(node)}: var + eps is not positive in {int((var + eps <= 0).sum())} channels: it gives NaN")
    return Lifted(BatchNorm(gamma, beta, mean, var, eps), (lift.data(node),), lift.parameters(node))


def _gemm(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    weight, bias = lift.weight(node, 1), lift.weight(node, 2)
    if weight is None or _attr(node, "transA", 0) or (lift.optional(node, 2) is not None and bias is None):
        return None
    alpha, beta = float(_attr(node, "alpha", 1.0)), float(_attr(node, "beta", 1.0))
    weight = weight if _attr(node, "transB", 0) else weight.T
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
    x, kernel = lift.data(node), tuple(_attr(node, "kernel_shape", ()))
    ones = (1,) * len(kernel)
    stride = tuple(_attr(node, "strides", ones))
    padding = _padding(node, len(kernel), kernel, stride, x)
    if padding is None or _attr(node, "ceil_mode", 0) or any(d != 1 for d in _attr(node, "dilations", ones)):
        return None
    if any(map(any, padding)) and not _attr(node, "count_include_pad", 0):
        return None
    return Lifted(AvgPool(kernel, stride, padding, int(np.prod(kernel))), (x,))


def _max_pool(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A window of one pixel only samples."""
    kernel = tuple(_attr(node, "kernel_shape", ()))
    padded = any(_attr(node, "pads", ())) or _attr(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if any(k != 1 for k in kernel) or padded or _attr(node, "ceil_mode", 0) or len(node.outputs) > 1:
        return None
    return Lifted(Subsample(tuple(_attr(node, "strides", (1,) * len(kernel)))), (lift.data(node),))


def _pad(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    x = lift.data(node)
    pads, fill = lift.integers(node, 1, "pads"), lift.optional(node, 2)
    axes = lift.integers(node, 3, "axes")
    zero = _attr(node, "value", 0.0) == 0 and (fill is None or (fill.constant is not None and not np.any(fill.constant())))
    if _attr(node, "mode", "constant") != "constant" or pads is None or not zero or x.rank is None or x.rank < 3:
        return None
    if x.dtype not in FLOATS or (axes is None and lift.optional(node, 3) is not None):
        return None
    axes = list(range(x.rank)) if axes is None else [axis % x.rank for axis in axes]
    amounts = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    if any(amounts.get(axis, (0, 0)) != (0, 0) for axis in (0, 1)):
        return None
    padding = tuple(amounts.get(axis, (0, 0)) for axis in range(2, x.rank))
    return Lifted(Pad(padding), (x,), lift.parameters(node))


def _slice(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A crop, or every s-th pixel, of the spatial axes."""
    x = lift.data(node)
    starts, ends = lift.integers(node, 1, "starts"), lift.integers(node, 2, "ends")
    if starts is None or ends is None or x.rank is None or x.rank < 3 or x.dtype not in FLOATS:
        return None
    axes = lift.integers(node, 3, "axes") or list(range(len(starts)))
    steps = lift.integers(node, 4, "steps") or [1] * len(starts)
    crop, stride = {}, {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis, size = axis % x.rank, x.shape[axis % x.rank] if x.shape else None
        if end > 0 and isinstance(size, int):
            end = end - size if end < size else END
        if start < 0 and isinstance(size, int):
            start = max(start + size, 0)
        if start == 0 and end >= END and step == 1:
            continue
        if axis < 2 or start < 0 or step < 1 or 0 <= end < END:
            return None
        if step > 1 and (start or end < END):
            return None
        crop[axis], stride[axis] = (-start, end if end < 0 else 0), step
    if any(step > 1 for step in stride.values()):
        whole = not any(map(any, crop.values()))
        return Lifted(Subsample(tuple(stride.get(a, 1) for a in range(2, x.rank))), (x,)) if whole else None
    return Lifted(Pad(tuple(crop.get(axis, (0, 0)) for axis in range(2, x.rank))), (x,), lift.parameters(node))


def _identity(lift: Lift, node: onnx_ir.Node) -> Lifted:
    return Lifted(Identity(), (lift.data(node),), lift.parameters(node))


def _dropout(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Inference only: no mask asked for, and no training_mode input but a constant false."""
    mode = lift.optional(node, 2)
    training = mode is not None and (mode.constant is None or bool(np.any(mode.constant())))
    if lift.opset < 7 or training or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return None
    return None if len(node.outputs) > 1 else _identity(lift, node)


def _cast(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    target = onnx_ir.DataType(_attr(node, "to", 0))
    source = node.inputs[0].dtype if node.inputs[0] is not None else None
    return _identity(lift, node) if source == target else None


def _constant(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    tensor = onnx_ir.convenience.get_const_tensor(node.outputs[0])
    return None if tensor is None else Lifted(Constant(tensor.numpy()), ())


OPERATORS: dict[str, Operator] = {
    "Add": _elementwise,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Constant": _constant,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _elementwise,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _elementwise,
    "Pad": _pad,
    "Slice": _slice,
    "Sub": _elementwise,
    "Sum": _sum,
}
