"""Activations: one function applied to every number, or to all numbers along one axis."""

from __future__ import annotations

from dataclasses import dataclass

from repcompiler.ops.base import Array, Op


@dataclass(frozen=True)
class Relu(Op):
    """max(x, 0)."""


@dataclass(frozen=True)
class Clip(Op):
    """min(max(x, minimum), maximum); an infinite bound bounds nothing.  ReLU6 is Clip(0, 6)."""

    minimum: float
    maximum: float


@dataclass(frozen=True, eq=False)
class ClipChannels(Op):
    """Clip with bounds of its own for each channel of axis 1: both of shape (C,), infinite where they bound nothing."""

    minimum: Array
    maximum: Array


@dataclass(frozen=True)
class Gated(Op):
    """x g(x) with g(x) + g(-x) = 1, so that f(x) - f(-x) = x: "silu" (g the sigmoid), "gelu" (the normal distribution
    function), "gelu_tanh" (its approximation) and "hardswish" (clip(x / 6 + 1/2, 0, 1)).
    """

    gate: str

    @property
    def kind(self) -> str:
        return {"silu": "SiLU", "gelu": "GELU", "gelu_tanh": "GELU", "hardswish": "HardSwish"}[self.gate]


@dataclass(frozen=True, eq=False)
class PRelu(Op):
    """max(x, 0) + slope min(x, 0): a slope each channel of axis 1 (shape (C,)), or one for all (shape (1,)): LeakyReLU."""

    slope: Array


@dataclass(frozen=True)
class Sigmoid(Op):
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True)
class HardSigmoid(Op):
    """min(max(alpha x + beta, 0), 1)."""

    alpha: float
    beta: float


@dataclass(frozen=True)
class Odd(Op):
    """f(-x) = -f(x): "tanh", "erf" (the error function) and "cube" (x x x), of which smooth activations are written."""

    function: str

    @property
    def kind(self) -> str:
        return {"tanh": "Tanh", "erf": "Erf", "cube": "Pow"}[self.function]


@dataclass(frozen=True)
class Softmax(Op):
    """exp(x) over its sum along `axis`."""

    axis: int


ACTIVATIONS = (Clip, ClipChannels, Gated, HardSigmoid, Odd, PRelu, Relu, Sigmoid)
"""Those of one number at a time."""
