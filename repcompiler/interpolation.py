"""Nearest and linear interpolation along one axis, as a matrix: a resize is a linear map of each channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from repcompiler.ops import Resize

NDArray = np.ndarray[Any, Any]


def weights(op: Resize, axis: int, n: int) -> NDArray:
    """What each of `n` pixels contributes to each pixel of the result: (out, n), rows that sum to 1."""
    out = op.extent(axis, n)
    if out is None:
        raise ValueError("it depends on the size of another value")
    up, down = (n, out) if op.sizes else (1, op.scales[axis % len(op.scales)])
    i = np.arange(out)
    half = (i + 0.5) * up / down - 0.5
    at = {
        "asymmetric": i * up / down,
        "half_pixel": half,
        "pytorch_half_pixel": half if out > 1 else 0.0 * i,
        "align_corners": i * (n - 1) / max(out - 1, 1),
    }[op.coordinates]
    if op.mode == "linear":
        at = at.clip(0, n - 1)
        left = np.floor(at).astype(int)
        part = (at - left)[:, None]
        return np.asarray(np.eye(n)[left] * (1 - part) + np.eye(n)[np.minimum(left + 1, n - 1)] * part)
    nearest = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
    }[op.rounding]
    return np.asarray(np.eye(n)[nearest.astype(int).clip(0, n - 1)])
