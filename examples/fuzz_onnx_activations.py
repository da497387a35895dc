"""The activations of plans in ONNX's operators: one node, or the few that exporters write."""

from __future__ import annotations

from typing import Any


def activation(e: Any, name: str, x: str) -> str:
    """The result's name; `e` is a `fuzz_onnx.Emitter`."""
    if name in SINGLE:
        kind, attributes = SINGLE[name]
        return e.node(kind, [x], **attributes)
    if name in CLIPS:
        lower, upper = CLIPS[name]
        return e.node("Clip", [x, *("" if bound is None else e.number(bound) for bound in (lower, upper))])
    if name == "silu":
        return e.node("Mul", [x, e.node("Sigmoid", [x])])
    if name == "mish":
        return e.node("Mul", [x, e.node("Tanh", [e.node("Softplus", [x])])])
    if name == "exp":
        return e.node("Exp", [e.node("Clip", [x, "", e.number(2.0)])])
    if name == "gelu" and e.opset < 20:
        erf = e.node("Erf", [e.node("Div", [x, e.number(2**0.5)])])
        return e.node("Mul", [e.node("Mul", [x, e.node("Add", [erf, e.number(1.0)])]), e.number(0.5)])
    if name == "gelu_tanh" and e.opset < 20:
        cube = e.node("Mul", [e.node("Mul", [e.node("Mul", [x, x]), x]), e.number(0.044715)])
        tanh = e.node("Tanh", [e.node("Mul", [e.node("Add", [x, cube]), e.number((2 / 3.141592653589793) ** 0.5)])])
        return e.node("Mul", [e.node("Mul", [x, e.node("Add", [tanh, e.number(1.0)])]), e.number(0.5)])
    return e.node("Gelu", [x], approximate="tanh" if name == "gelu_tanh" else "none")


SINGLE: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.125}),
    "negative_leaky_relu": ("LeakyRelu", {"alpha": -0.5}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_swish": ("HardSwish", {}),
    "elu": ("Elu", {}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
    "abs": ("Abs", {}),
}
CLIPS: dict[str, tuple[float | None, float | None]] = {
    "relu6": (0.0, 6.0),
    "clip": (-0.5, 1.5),
    "clip_min": (0.25, None),
    "clip_max": (None, 1.0),
}
