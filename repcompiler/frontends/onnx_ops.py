"""The ONNX operators that the algebra understands: one function each, in the table `OPERATORS`.

Each returns what `Lift` is to put in the node's place (`Lifted`); None, or a refusal, where this node has a form outside the
algebra.  Attribute defaults are those of the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import onnx_ir

from repcompiler.errors import ModelError
from repcompiler.frontends import onnx_gates as gates
from repcompiler.frontends import onnx_sums as sums
from repcompiler.frontends.contractions import contraction
from repcompiler.frontends.onnx_activations import (
    bound,
    clip,
    depth_to_space,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    odd,
    power,
    prelu,
    relu,
    resize,
    space_to_depth,
)
from repcompiler.frontends.onnx_channels import (
    concat,
    flatten,
    gather,
    per_channel,
    reshape,
    sequence_at,
    shape,
    split,
    transpose,
)
from repcompiler.frontends.onnx_copies import copied, copies
from repcompiler.frontends.onnx_lift import FLOATS, Lift, Lifted, Operator, array_of, attribute, describe
from repcompiler.frontends.onnx_scatter import scatter_nd
from repcompiler.frontends.onnx_tensors import constant_tensor, dtype_name
from repcompiler.frontends.onnx_windows import average_pool, crop_of, max_pool, pad, padding_of, slice_
from repcompiler.ops import BatchNorm, Constant, Conv, ConvTranspose, DynamicConv, Identity, Linear, Mul, Scale, Sum
from repcompiler.refusal import Refusal, refuse


def _conv(lift: Lift, node: onnx_ir.Node) -> Lifted:
    x, kernel = lift.data(node), lift.data(node, 1)
    weight = None if kernel.constant is None else lift.weight(node, 1)
    shape = [size for size in kernel.shape or () if isinstance(size, int)] if weight is None else weight.shape
    if len(shape) < 3 or (weight is None and len(shape) != kernel.rank):
        refuse(f"its kernel '{kernel.name}' is computed, and of unknown extents")
    bias = lift.bias(node, 2, shape[0])
    spatial, groups = len(shape) - 2, attribute(node, "group", 1)
    ones = (1,) * spatial
    stride, dilation = tuple(attribute(node, "strides", ones)), tuple(attribute(node, "dilations", ones))
    extent = [d * (k - 1) + 1 for k, d in zip(shape[2:], dilation, strict=True)]
    padding = padding_of(node, spatial, extent, stride, x)
    lift.expect(x, (None, shape[1] * groups) + (None,) * spatial)
    if weight is None:
        return Lifted(
            DynamicConv(tuple(shape), bias, stride, padding, dilation, groups), (x, kernel), lift.parameters(node)[1:]
        )
    return Lifted(Conv(weight, bias, stride, padding, dilation, groups), (x,), lift.parameters(node))


def _conv_transpose(lift: Lift, node: onnx_ir.Node) -> Lifted:
    x, weight = lift.data(node), lift.weight(node, 1)
    spatial, groups = weight.ndim - 2, attribute(node, "group", 1)
    bias, ones = lift.bias(node, 2, weight.shape[1] * groups), (1,) * spatial
    stride, dilation = tuple(attribute(node, "strides", ones)), tuple(attribute(node, "dilations", ones))
    extra = tuple(attribute(node, "output_padding", (0,) * spatial))
    extent = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    op = ConvTranspose(weight, bias, stride, crop_of(node, extent, stride, extra, x), extra, dilation, groups)
    return Lifted(op, (lift.expect(x, (None, op.in_channels) + (None,) * spatial),), lift.parameters(node))


def _batch_norm(lift: Lift, node: onnx_ir.Node) -> Lifted:
    if attribute(node, "training_mode", 0) or len(node.outputs) > 1:
        refuse("it is in training mode")
    if not attribute(node, "spatial", 1):
        refuse("it has statistics of each pixel")
    gamma, beta, mean, var = (lift.weight(node, index) for index in range(1, 5))
    eps = float(np.float32(attribute(node, "epsilon", 1e-5)))
    if wrong := int(np.sum(var.astype(np.float64) + eps <= 0)):
        raise ModelError(f"{describe(node)}: var + eps is not positive in {wrong} of its channels: it gives NaN")
    return Lifted(BatchNorm(gamma, beta, mean, var, eps), (lift.data(node),), lift.parameters(node))


def _gemm(lift: Lift, node: onnx_ir.Node) -> Lifted:
    weight = lift.weight(node, 1)
    weight = weight if attribute(node, "transB", 0) else weight.T
    bias = lift.bias(node, 2, weight.shape[0])
    if attribute(node, "transA", 0):
        refuse("it transposes its input")
    if bias.size not in (1, weight.shape[0]) or bias.shape[:-1] not in ((), (1,)):
        refuse("it has a bias for each row of the batch")
    bias = np.broadcast_to(bias.reshape(-1), weight.shape[:1])
    alpha, beta = float(attribute(node, "alpha", 1.0)), float(attribute(node, "beta", 1.0))
    weight = weight if alpha == 1 else alpha * weight.astype(np.float64)
    bias = bias if beta == 1 else beta * bias.astype(np.float64)
    return Lifted(Linear(weight, bias), (lift.expect(lift.data(node), (None, weight.shape[1])),), lift.parameters(node))


def _matmul(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    if lift.data(node, 1).constant is None:
        return None  # a product of data
    weight, rank = lift.weight(node, 1), lift.data(node).rank
    if weight.ndim > 2 and set(weight.shape[:-2]) == {1} and rank is not None and weight.ndim <= rank:
        weight = weight.reshape(weight.shape[-2:])
    if weight.ndim != 2:
        refuse(f"its weight has {weight.ndim} axes")
    return Lifted(Linear(weight.T, np.zeros(weight.shape[1])), (lift.data(node),), lift.parameters(node))


def _einsum(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """A value and a constant, where that is a layer or a scale."""
    operands = [lift.data(node, place) for place in range(len(node.inputs))]
    constant = [place for place, operand in enumerate(operands) if operand.constant is not None]
    if len(operands) != 2 or len(constant) != 1:
        return None
    (place,), x = constant, operands[1 - constant[0]]
    weight = lift.weight(node, place)
    op = contraction(attribute(node, "equation", ""), place, weight, x.shape or ())
    if op is None:
        refuse("it is not a matrix on the channels, or on the last axis, nor a vector along an axis")
    return Lifted(op, (x,), (operands[place],))


def _elementwise(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Add, Sub, Mul, Div: a scale where one side is a constant a channel, a sum or a product where neither is constant."""
    left, right = lift.data(node, 0), lift.data(node, 1)
    kind = node.op_type
    if left.constant is None and right.constant is None:
        join = {"Add": Sum((1, 1)), "Sub": Sum((1, -1)), "Mul": Mul()}.get(kind)
        return Lifted(join, (left, right)) if join else None
    x, constant = (right, left) if left.constant is not None else (left, right)
    if x.constant is not None or (kind == "Div" and constant is left):
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


def _neg(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    x = lift.data(node)
    return Lifted(Scale(-np.ones(1), np.zeros(1)), (x,)) if x.dtype in FLOATS and x.constant is None else None


def _identity(lift: Lift, node: onnx_ir.Node) -> Lifted:
    return Lifted(Identity(), (lift.data(node),), lift.parameters(node))


def _dropout(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Inference only: no mask asked for, and no training_mode input but a constant false."""
    mode = lift.optional(node, 2)
    training = mode is not None and (mode.constant is None or bool(np.any(mode.constant())))
    return None if training or len(node.outputs) > 1 else _identity(lift, node)


def _cast(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    target = dtype_name(onnx_ir.DataType(attribute(node, "to", 0)))
    return _identity(lift, node) if lift.data(node).dtype == target else None


def _cast_like(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """The type of the second input is known without its numbers."""
    x, like = lift.data(node), lift.data(node, 1)
    if x.constant is not None and like.dtype in FLOATS:
        return Lifted(Constant(array_of(x).astype(like.dtype)), ())
    return _identity(lift, node) if x.dtype == like.dtype else None


def _constant(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    tensor = constant_tensor(node)
    return None if tensor is None else Lifted(Constant(tensor.numpy()), ())


def _either(first: Operator, second: Operator) -> Operator:
    """The second where the first has no form, or refuses."""

    def lifted(lift: Lift, node: onnx_ir.Node) -> Lifted | Sequence[Lifted] | None:
        with suppress(Refusal):
            if found := first(lift, node):
                return found
        return second(lift, node)

    return lifted


OPERATORS: dict[str, Operator] = {
    "Add": _elementwise,
    "AveragePool": average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Clip": clip,
    "Concat": _either(concat, gates.stack),
    "Constant": _constant,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _elementwise,
    "Dropout": _dropout,
    "Einsum": _einsum,
    "Erf": odd("erf"),
    "Expand": _either(copies, gates.expand),
    "Flatten": flatten,
    "Gather": _either(gather, gates.take),
    "Gelu": gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": gates.global_average_pool,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Identity": _identity,
    "LeakyRelu": leaky_relu,
    "MatMul": _matmul,
    "Max": bound,
    "MaxPool": max_pool,
    "Mean": sums.mean,
    "Min": bound,
    "Mul": _elementwise,
    "Neg": _neg,
    "PRelu": prelu,
    "Pad": pad,
    "Pow": power,
    "ReduceMean": _either(sums.reduce_mean, gates.reduce_mean),
    "ReduceSum": sums.reduce_sum,
    "Relu": relu,
    "Reshape": _either(copied, reshape),
    "Resize": resize,
    "ScatterND": scatter_nd,
    "SequenceAt": sequence_at,
    "Shape": shape,
    "Sigmoid": gates.sigmoid,
    "Slice": slice_,
    "Softmax": gates.softmax,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Split": _either(split, gates.take_each),
    "Squeeze": gates.squeeze,
    "Sub": _elementwise,
    "Sum": sums.add,
    "Tanh": odd("tanh"),
    "Tile": copies,
    "Transpose": transpose,
    "Unsqueeze": gates.unsqueeze,
    "Upsample": resize,
    "Where": gates.where,
}
