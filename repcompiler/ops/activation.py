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
class PRelu(Op):
    """max(x, 0) + slope min(x, 0): a slope each channel of axis 1 (shape (C,)), or one for all (shape (1,)): LeakyReLU."""

    slope: Array


@dataclass(frozen=True)
class Sigmoid(Op):
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True)
class Softmax(Op):
    """exp(x) over its sum along `axis`."""

    axis: int
