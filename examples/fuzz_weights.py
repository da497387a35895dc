"""Weights that guards hang on: besides random ones exact zeros, ones, repetitions and products."""

from __future__ import annotations

from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]
Rng = np.random.Generator


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def pick(rng: Rng, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def f32(array: Any) -> NDArray:
    """Numbers that single precision holds, so that every form of a network has the same."""
    return np.asarray(array, np.float64).astype(np.float32).astype(np.float64)


def kernel(rng: Rng, rows: int, columns: int, sizes: tuple[int, ...]) -> NDArray:
    """(rows, columns, *sizes), about as large as keeps the size of what it is applied to."""
    weight = rng.standard_normal((rows, columns, *sizes)) / np.sqrt(columns * max(np.prod(sizes), 1))
    if chance(rng, 0.35):
        weight = pick(rng, *STRUCTURES)(rng, weight)
    return f32(weight)


def _block_diagonal(rng: Rng, weight: NDArray) -> NDArray:
    rows, columns, *_ = weight.shape
    blocks = [g for g in (2, 3, 4, columns) if rows % g == 0 and columns % g == 0]
    if not blocks:
        return weight
    g = pick(rng, *blocks)
    mask = np.kron(np.eye(g), np.ones((rows // g, columns // g)))
    return weight * mask.reshape(rows, columns, *(1,) * (weight.ndim - 2))


def _one_hot(rng: Rng, weight: NDArray) -> NDArray:
    """A choice of channels, perhaps twice the same, perhaps all in order."""
    rows, columns, *sizes = weight.shape
    index = np.arange(rows) % columns if chance(rng, 0.4) else rng.integers(columns, size=rows)
    result = np.zeros_like(weight)
    centre = tuple(size // 2 if chance(rng, 0.8) else int(rng.integers(size)) for size in sizes)
    for row, column in enumerate(index):
        result[(row, column, *centre)] = 1.0
    return result


def _rank_one(rng: Rng, weight: NDArray) -> NDArray:
    """One outer product a pair of channels, or one over all."""
    rows, columns, *sizes = weight.shape
    result = rng.integers(1, 5, (rows, columns, *(1,) * len(sizes))).astype(float)
    if chance(rng, 0.5):
        result = rng.integers(1, 4, (rows, 1, *(1,) * len(sizes))) * rng.integers(1, 4, (1, columns, *(1,) * len(sizes)))
    for axis, size in enumerate(sizes):
        own = chance(rng, 0.5)
        shape = [rows if own else 1, columns if own else 1, *(size if other == axis else 1 for other in range(len(sizes)))]
        result = result * rng.integers(-3, 4, shape)
    return result / (8.0 * max(columns, 1))


def _framed(rng: Rng, weight: NDArray) -> NDArray:
    """Zeros on some sides."""
    result = weight.copy()
    for axis in range(2, weight.ndim):
        for side in (0, -1):
            if weight.shape[axis] > 1 and chance(rng, 0.6):
                result[(slice(None),) * axis + (side,)] = 0.0
    return result


def _lattice(rng: Rng, weight: NDArray) -> NDArray:
    result = np.zeros_like(weight)
    taps = (slice(None), slice(None), *(slice(None, None, 2) for _ in weight.shape[2:]))
    result[taps] = weight[taps]
    return result


def _repeated(rng: Rng, weight: NDArray) -> NDArray:
    index = rng.integers(max(1, len(weight) // 2), size=len(weight))
    return weight[index]


def _without(rng: Rng, weight: NDArray) -> NDArray:
    """Some channels read nothing, or are not read."""
    axis = int(rng.integers(2))
    index = (slice(None),) * axis + (rng.random(weight.shape[axis]) < 0.5,)
    result = weight.copy()
    result[index] = 0.0
    return result


def _zero(rng: Rng, weight: NDArray) -> NDArray:
    return np.zeros_like(weight)


def _ones(rng: Rng, weight: NDArray) -> NDArray:
    return np.full_like(weight, pick(rng, 1.0, -1.0, 0.5))


STRUCTURES = (
    _block_diagonal,
    _block_diagonal,
    _one_hot,
    _one_hot,
    _rank_one,
    _framed,
    _lattice,
    _repeated,
    _without,
    _zero,
    _ones,
)


def bias(rng: Rng, channels: int) -> NDArray | None:
    """None, zeros, or numbers of which some are zero or alike."""
    kind = rng.random()
    if kind < 0.3:
        return None
    if kind < 0.4:
        return np.zeros(channels)
    numbers = rng.standard_normal(channels)
    if kind < 0.5:
        numbers[rng.random(channels) < 0.5] = 0.0
    return f32(numbers[np.zeros(channels, int)] if kind > 0.95 else numbers)


def batch_norm(rng: Rng, channels: int) -> dict[str, Any]:
    """Statistics as after training: gamma of both signs, mean and beta far from zero; some exactly nothing."""
    gamma = f32(rng.standard_normal(channels) + np.where(np.arange(channels) % 2, -0.5, 0.5))
    beta, mean = f32(rng.standard_normal(channels)), f32(rng.standard_normal(channels) / 2 + 0.5)
    if chance(rng, 0.2):
        gamma = np.abs(gamma)
    if chance(rng, 0.15):
        gamma[rng.random(channels) < 0.4] = 0.0
    if chance(rng, 0.25):
        beta, mean = np.zeros(channels), np.zeros(channels)
    var = f32(rng.uniform(0.3, 3.0, channels))
    return {"gamma": gamma, "beta": beta, "mean": mean, "var": var, "eps": pick(rng, 1e-5, 1e-3, 0.0)}


def constant(rng: Rng, shape: tuple[int, ...]) -> NDArray:
    """To add or multiply by: of both signs, positive, ones, zeros among them, or one number."""
    numbers = rng.standard_normal(shape)
    kind = rng.random()
    if kind < 0.3:
        numbers = np.abs(numbers) + 0.1
    elif kind < 0.4:
        numbers = np.full(shape, pick(rng, 1.0, 0.0, -1.0, 0.5, 2.0))
    elif kind < 0.5:
        numbers = numbers * (rng.random(shape) < 0.6)
    return f32(numbers)
