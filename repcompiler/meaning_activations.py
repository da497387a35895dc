"""What each activation means, in float64 numpy: the part of `repcompiler.meaning` that is not linear."""

from __future__ import annotations

from collections.abc import Callable
from math import erf

import numpy as np

from repcompiler.meaning import NDArray, by_channel, meaning, wide
from repcompiler.ops import Clip, ClipChannels, Gated, HardSigmoid, Odd, PRelu, Relu, Sigmoid, Softmax


@meaning.register
def _relu(op: Relu, x: NDArray) -> NDArray:
    return np.maximum(x, 0.0)


@meaning.register
def _clip(op: Clip, x: NDArray) -> NDArray:
    return np.minimum(np.maximum(x, op.minimum), op.maximum)


@meaning.register
def _clip_channels(op: ClipChannels, x: NDArray) -> NDArray:
    return np.minimum(np.maximum(x, by_channel(wide(op.minimum), x.ndim)), by_channel(wide(op.maximum), x.ndim))


@meaning.register
def _gated(op: Gated, x: NDArray) -> NDArray:
    return x * GATES[op.gate](x)


@meaning.register
def _odd(op: Odd, x: NDArray) -> NDArray:
    return ODD[op.function](x)


ERF = np.vectorize(erf, otypes=[np.float64])
ODD: dict[str, Callable[[NDArray], NDArray]] = {"tanh": np.tanh, "erf": ERF, "cube": lambda x: x**3}
GATES: dict[str, Callable[[NDArray], NDArray]] = {
    "silu": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    "gelu": lambda x: 0.5 * (1 + ERF(x / np.sqrt(2.0))),
    "gelu_tanh": lambda x: 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "hardswish": lambda x: np.clip(x / 6 + 0.5, 0.0, 1.0),
}


@meaning.register
def _prelu(op: PRelu, x: NDArray) -> NDArray:
    return np.where(x < 0, by_channel(wide(op.slope), x.ndim) * x, x)


@meaning.register
def _sigmoid(op: Sigmoid, x: NDArray) -> NDArray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))  # which overflows nowhere


@meaning.register
def _hard_sigmoid(op: HardSigmoid, x: NDArray) -> NDArray:
    return np.clip(op.alpha * x + op.beta, 0.0, 1.0)


@meaning.register
def _softmax(op: Softmax, x: NDArray) -> NDArray:
    powers = np.exp(x - x.max(axis=op.axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=op.axis, keepdims=True))
