"""Write one activation as ONNX nodes: as one operator where the operator set has it, else as what that is made of."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import onnx_ir

from repcompiler.backends.onnx_writer import Writer
from repcompiler.ops import Clip, ClipChannels, Gated, Odd, PRelu

HARD_SWISH, GELU = 14, 20
"""Operator sets that have these."""


class Activations(Writer):
    """Those of the algebra."""

    def _clip(self, op: Clip, x: onnx_ir.Value) -> onnx_ir.Value:
        bounds = {name: bound for name, bound in (("min", op.minimum), ("max", op.maximum)) if np.isfinite(bound)}
        if self.opset < 11:
            return self._node("Clip", x, **bounds)
        ends = [self.initializer(f".{name}", np.array(bounds[name])) if name in bounds else None for name in ("min", "max")]
        return self._node("Clip", x, *ends)

    def _clip_channels(self, op: ClipChannels, x: onnx_ir.Value) -> onnx_ir.Value:
        for kind, end in (("Max", op.minimum), ("Min", op.maximum)):
            if np.isfinite(end).any():
                x = self._node(kind, x, self.initializer(f".{kind.lower()}", self._by_channel(end)))
        return x

    def _prelu(self, op: PRelu, x: onnx_ir.Value) -> onnx_ir.Value:
        if op.slope.shape == (1,):
            return self._node("LeakyRelu", x, alpha=float(op.slope[0]))
        return self._node("PRelu", x, self.initializer(".slope", self._by_channel(op.slope)))

    def _odd(self, op: Odd, x: onnx_ir.Value) -> onnx_ir.Value:
        if op.function == "cube":
            return self._node("Mul", x, self._node("Mul", x, x))
        return self._node({"tanh": "Tanh", "erf": "Erf"}[op.function], x)

    def _gated(self, op: Gated, x: onnx_ir.Value) -> onnx_ir.Value:
        if op.gate == "hardswish" and self.opset >= HARD_SWISH:
            return self._node("HardSwish", x)
        if op.gate in ("gelu", "gelu_tanh") and self.opset >= GELU:
            return self._node("Gelu", x, approximate="tanh" if op.gate == "gelu_tanh" else "none")
        return self._node("Mul", x, self._gate(op, x))

    def _gate(self, op: Gated, x: onnx_ir.Value) -> onnx_ir.Value:
        if op.gate == "silu":
            return self._node("Sigmoid", x)
        if op.gate == "hardswish":
            return self._node("HardSigmoid", x, alpha=1 / 6, beta=0.5)
        if op.gate == "gelu":
            inner = self._node("Erf", self._times(x, sqrt(0.5)))
        else:
            cubic = self._times(self._node("Mul", x, self._node("Mul", x, x)), 0.044715)
            inner = self._node("Tanh", self._times(self._node("Add", x, cubic), sqrt(2 / pi)))
        return self._times(self._node("Add", inner, self.initializer(".one", np.ones(()))), 0.5)

    def _times(self, x: onnx_ir.Value, constant: float) -> onnx_ir.Value:
        return self._node("Mul", x, self.initializer(".factor", np.array(constant)))
