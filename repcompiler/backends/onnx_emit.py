"""Write one operation of the algebra as ONNX nodes and initializers.  Weights are rounded here, once, to the value's type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir

from repcompiler.algebra import affine, known_zero
from repcompiler.backends.onnx_emit_activations import Activations
from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Clip,
    ClipChannels,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    DepthToSpace,
    DynamicConv,
    Frame,
    Gated,
    GlobalAvgPool,
    HardSigmoid,
    Identity,
    Linear,
    MaxPool,
    Mul,
    Odd,
    Op,
    Pad,
    PadChannels,
    Padding,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Scale,
    Select,
    Sigmoid,
    Softmax,
    SpaceToDepth,
    Stack,
    Subsample,
    Sum,
    Take,
    Transpose,
)

NDArray = np.ndarray[Any, Any]
FLOAT = onnx_ir.DataType.FLOAT
INT64 = onnx_ir.DataType.INT64


class Emit(Activations):
    """The nodes and initializers of one operation."""

    def operation(self, op: Op, inputs: Sequence[onnx_ir.Value]) -> onnx_ir.Value:
        """The value of `op` on `inputs`."""
        writers: dict[type[Op], Callable[..., onnx_ir.Value]] = {
            AvgPool: self._average_pool,
            BatchNorm: lambda op, x: self._scale(Scale(*affine(op, op.channels)), x),
            Clip: self._clip,
            ClipChannels: self._clip_channels,
            Concat: self._concat,
            Constant: self._constant,
            Conv: self._conv,
            ConvTranspose: self._conv_transpose,
            DepthToSpace: self._depth_to_space,
            DynamicConv: self._dynamic_conv,
            Frame: self._frame,
            GlobalAvgPool: self._mean,
            HardSigmoid: lambda op, x: self._node("HardSigmoid", x, alpha=op.alpha, beta=op.beta),
            Identity: lambda op, x: self._node("Identity", x),
            Gated: self._gated,
            Linear: self._linear,
            MaxPool: self._max_pool,
            Mul: lambda op, x, y: self._node("Mul", x, y),
            Odd: self._odd,
            Pad: lambda op, x: self._pad(((0, 0), *op.padding), x),
            PadChannels: self._pad_channels,
            PRelu: self._prelu,
            Relu: lambda op, x: self._node("Relu", x),
            Reshape: self._reshape,
            Resize: self._resize,
            Scale: self._scale,
            Select: self._select,
            Sigmoid: lambda op, x: self._node("Sigmoid", x),
            Softmax: lambda op, x: self._node("Softmax", x, axis=op.axis),
            SpaceToDepth: lambda op, x: self._node("SpaceToDepth", x, blocksize=op.block),
            Stack: self._stack,
            Subsample: self._subsample,
            Sum: self._sum,
            Take: self._take,
            Transpose: lambda op, x: self._node("Transpose", x, perm=list(op.perm)),
        }
        return writers[type(op)](op, *inputs)

    def _constant(self, op: Constant) -> onnx_ir.Value:
        return self._node("Constant", value=onnx_ir.Tensor(np.asarray(op.array, order="C")))

    def _weights(self, op: Conv | ConvTranspose | Linear) -> list[onnx_ir.Value]:
        weight = self.initializer(".weight", op.weight)
        required = isinstance(op, Linear) and self.opset < 11  # Gemm's third input
        return [weight, self.initializer(".bias", op.bias)] if required or not known_zero(op.bias) else [weight]

    def _conv(self, op: Conv, x: onnx_ir.Value) -> onnx_ir.Value:
        return self._node(
            "Conv",
            x,
            *self._weights(op),
            dilations=list(op.dilation),
            group=op.groups,
            kernel_shape=list(op.kernel_size),
            pads=_flat(op.padding),
            strides=list(op.stride),
        )

    def _dynamic_conv(self, op: DynamicConv, x: onnx_ir.Value, weight: onnx_ir.Value) -> onnx_ir.Value:
        assert not op.each, "the ONNX frontend lifts one kernel for all samples"
        bias = [] if known_zero(op.bias) else [self.initializer(".bias", op.bias)]
        geometry = {"dilations": list(op.dilation), "pads": _flat(op.padding), "strides": list(op.stride)}
        return self._node("Conv", x, weight, *bias, group=op.groups, **geometry)

    def _conv_transpose(self, op: ConvTranspose, x: onnx_ir.Value) -> onnx_ir.Value:
        return self._node(
            "ConvTranspose",
            x,
            *self._weights(op),
            dilations=list(op.dilation),
            group=op.groups,
            kernel_shape=list(op.kernel_size),
            output_padding=list(op.output_padding),
            pads=_flat(op.padding),
            strides=list(op.stride),
        )

    def _linear(self, op: Linear, x: onnx_ir.Value) -> onnx_ir.Value:
        if self.output.rank == 2:
            return self._node("Gemm", x, *self._weights(op), alpha=1.0, beta=1.0, transA=0, transB=1)
        product = self._node("MatMul", x, self.initializer(".weight", op.weight.T))
        return product if known_zero(op.bias) else self._node("Add", product, self.initializer(".bias", op.bias))

    def _scale(self, op: Scale, x: onnx_ir.Value) -> onnx_ir.Value:
        scaled, shifted = bool(np.any(op.scale != 1)), not known_zero(op.shift)
        if shifted and np.all(op.scale == -1) and (self.output.rank is not None or op.channels == 1):
            return self._node("Sub", self.initializer(".shift", self._per_channel(op, op.shift)), x)
        if op.channels > 1 and op.axis == 1 and ((scaled and shifted) or self.output.rank is None):
            scale, shift = (np.broadcast_to(array, (op.channels,)) for array in (op.scale, op.shift))
            parts = (".scale", scale), (".shift", shift), (".mean", np.zeros(op.channels)), (".var", np.ones(op.channels))
            return self._node("BatchNormalization", x, *(self.initializer(*part) for part in parts), epsilon=0.0)
        if scaled or not shifted:
            x = self._node("Mul", x, self.initializer(".scale", self._per_channel(op, op.scale)))
        if shifted:
            x = self._node("Add", x, self.initializer(".shift", self._per_channel(op, op.shift)))
        return x

    def _per_channel(self, op: Scale, vector: NDArray) -> NDArray:
        """`vector` shaped so that it broadcasts along the axis of `op`, and enlarges nothing."""
        if vector.shape[0] == 1:
            return vector.reshape(())
        assert op.axis < 0 or self.output.rank is not None, "channels of a value of unknown rank are scaled by a batch norm"
        behind = -op.axis - 1 if op.axis < 0 else (self.output.rank or 0) - 1 - op.axis
        return vector.reshape(-1, *(1,) * behind)

    def _pad_channels(self, op: PadChannels, x: onnx_ir.Value) -> onnx_ir.Value:
        assert self.output.rank is not None, "the ONNX frontend lifts channels of zeros of known rank"
        return self._pad(((op.before, op.after), *((0, 0),) * (self.output.rank - 2)), x)

    def _pad(self, amounts: Padding, x: onnx_ir.Value) -> onnx_ir.Value:
        """Zeros around all axes but the batch."""
        padding: Padding = ((0, 0), *amounts)
        if self.opset < 11:
            return self._node("Pad", x, mode="constant", pads=_flat(padding))
        pads = self.initializer(".pads", np.array(_flat(padding), np.int64), INT64)
        return self._node("Pad", x, pads, mode="constant")

    def _frame(self, op: Frame, x: onnx_ir.Value) -> onnx_ir.Value:
        """Zeros around what is as much less."""
        inner = self._scale(Scale(np.ones(1), -op.value), x)
        return self._scale(Scale(np.ones(1), op.value), self._pad(((0, 0), *op.padding), inner))

    def _mean(self, op: GlobalAvgPool, x: onnx_ir.Value) -> onnx_ir.Value:
        if not op.dropped:
            return self._node("GlobalAveragePool", x)
        axes = list(range(2, 2 + op.dropped))
        if self.opset < 18:
            return self._node("ReduceMean", x, axes=axes, keepdims=0)
        return self._node("ReduceMean", x, self.initializer(".axes", np.array(axes), INT64), keepdims=0)

    def _stack(self, op: Stack, *parts: onnx_ir.Value) -> onnx_ir.Value:
        if op.new and self.opset < 13:
            parts = tuple(self._node("Unsqueeze", part, axes=[op.axis]) for part in parts)
        elif op.new:
            axis = self.initializer(".axis", np.array([op.axis]), INT64)
            parts = tuple(self._node("Unsqueeze", part, axis) for part in parts)
        return self._node("Concat", *parts, axis=op.axis)

    def _take(self, op: Take, x: onnx_ir.Value) -> onnx_ir.Value:
        index = np.array([op.index] if op.keep else op.index, np.int64)
        return self._node("Gather", x, self.initializer(".index", index, INT64), axis=op.axis)

    def _concat(self, op: Concat, *parts: onnx_ir.Value) -> onnx_ir.Value:
        return self._node("Concat", *parts, axis=1)

    def _select(self, op: Select, x: onnx_ir.Value) -> onnx_ir.Value:
        start, stop = op.index[0], op.index[-1] + 1
        if op.index != tuple(range(start, stop)) or self.opset < 10:
            return self._node("Gather", x, self.initializer(".index", np.array(op.index, np.int64), INT64), axis=1)
        bounds = {".start": start, ".stop": stop, ".axis": 1}
        return self._node("Slice", x, *(self.initializer(end, np.array([at]), INT64) for end, at in bounds.items()))

    def _max_pool(self, op: MaxPool, x: onnx_ir.Value) -> onnx_ir.Value:
        dilations = {"dilations": list(op.dilation)} if max(op.dilation) > 1 else {}  # an attribute since opset 10
        pads, strides = _flat(op.padding), list(op.stride)
        return self._node("MaxPool", x, kernel_shape=list(op.kernel_size), pads=pads, strides=strides, **dilations)

    def _average_pool(self, op: AvgPool, x: onnx_ir.Value) -> onnx_ir.Value:
        pads, strides = _flat(op.padding), list(op.stride)
        return self._node("AveragePool", x, kernel_shape=list(op.kernel_size), pads=pads, strides=strides, count_include_pad=1)

    def _subsample(self, op: Subsample, x: onnx_ir.Value) -> onnx_ir.Value:
        """The maximum over windows of one pixel: a Slice has no steps before opset 10."""
        x = self._pad(((0, 0), *op.padding), x) if any(op.first) else x
        return self._node("MaxPool", x, kernel_shape=[1] * len(op.stride), strides=list(op.stride))

    def _reshape(self, op: Reshape, x: onnx_ir.Value) -> onnx_ir.Value:
        if len(op.target) == 2 and op.target[0] == 0:
            return self._node("Flatten", x, axis=1)
        return self._node("Reshape", x, self.initializer(".shape", np.array(op.target, np.int64), INT64))

    def _depth_to_space(self, op: DepthToSpace, x: onnx_ir.Value) -> onnx_ir.Value:
        mode = {} if op.mode == "DCR" else {"mode": op.mode}  # which operator sets before 11 have not
        return self._node("DepthToSpace", x, blocksize=op.block, **mode)

    def _resize(self, op: Resize, x: onnx_ir.Value) -> onnx_ir.Value:
        assert op.scales, "the ONNX frontend lifts no sizes"
        factors = np.array([1, 1, *op.scales], np.float32)
        if self.opset < 9:
            return self._node("Upsample", x, mode=op.mode, scales=factors.tolist())
        scales = self.initializer(".scales", factors, FLOAT)
        if self.opset < 11:
            return self._node("Upsample" if self.opset < 10 else "Resize", x, scales, mode=op.mode)
        region = self.initializer(".roi", np.zeros(0, np.float32), FLOAT) if self.opset < 13 else None
        how = {"coordinate_transformation_mode": op.coordinates, "nearest_mode": op.rounding}
        return self._node("Resize", x, region, scales, mode=op.mode, **how)

    def _sum(self, op: Sum, first: onnx_ir.Value, *rest: onnx_ir.Value) -> onnx_ir.Value:
        signed = sorted(zip(op.signs, (first, *rest), strict=True), key=lambda term: -term[0])
        sign, total = signed[0]
        total = total if sign > 0 else self._node("Neg", total)
        for sign, value in signed[1:]:
            total = self._node("Add" if sign > 0 else "Sub", total, value)
        return total


def _flat(padding: Padding) -> list[int]:
    """All the befores, then all the afters."""
    return [before for before, _ in padding] + [after for _, after in padding]
