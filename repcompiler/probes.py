"""Inputs that are made up to tell two models apart: of odd, even and tiny sizes, random and structured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from repcompiler.document import Feeds, InputSpec, NDArray
from repcompiler.ir import Shape

NUMBERS = {"bool", "float16", "float32", "float64", "bfloat16"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
"""Types that inputs can be made up of."""

LARGE = 30.0
"""A factor with which most activations that clip do so: ReLU6, hard sigmoid, hard swish."""

Size = tuple[int, int, int, int, int, int]
"""Extents to try for a free batch, for the axes of an image (or the first, of a signal) and for those of a volume."""

Sizes = tuple[Size, ...]
ODD: Sizes = ((2, 45, 67, 13, 15, 19), (1, 97, 131, 33, 37, 35), (1, 64, 96, 16, 48, 32), (1, 224, 224, 32, 112, 112))
TINY: Sizes = ((1, 5, 3, 5, 3, 3), (1, 9, 7, 9, 7, 5), (1, 17, 11, 17, 11, 9), (1, 33, 32, 33, 32, 16))
EVEN: Sizes = ((3, 46, 68, 14, 16, 20), (3, 98, 132, 34, 38, 36), (3, 128, 64, 32, 32, 64), (3, 256, 192, 64, 128, 64))
"""With the odd ones every phase modulo 4: 45, 67, 46 and 68 leave 1, 3, 2 and 0."""

Shapes = tuple[tuple[int, ...], ...]
"""Of all inputs."""


def unfit(specs: Sequence[InputSpec]) -> str:
    """Why nothing can be made up, if so."""
    bad = (spec.name for spec in specs if spec.shape is None or spec.dtype not in NUMBERS)
    name = next(bad, None)
    return "" if name is None else f"input '{name}' is no array of numbers of known rank: give example inputs"


def fixed(specs: Sequence[InputSpec]) -> bool:
    """Whether there is one size, if of any number of images."""
    return all(isinstance(dim, int) for spec in specs for dim in (spec.shape or ())[1:])


def alternatives(specs: Sequence[InputSpec], sizes: Sequence[Size]) -> list[Shapes]:
    """What the inputs may be of, each once; a model may take but some of these."""
    found: dict[Shapes, None] = {}
    for size in sizes:
        symbols: dict[str, int] = {}
        found[tuple(_fit(spec.shape or (), size, symbols) for spec in specs)] = None
    return list(found)


def _fit(shape: Shape, size: Size, symbols: dict[str, int]) -> tuple[int, ...]:
    """The shape with each free axis given an extent, a symbol the same wherever it stands."""
    rank = len(shape)
    axes = size[3:] if rank > 4 else size[1:3]
    free = [size[0], 3, *axes, *(4,) * rank] if rank > 2 else [size[0], *(7,) * rank]
    if rank == 3 and isinstance(shape[2], int):
        free[1] = size[1]  # a sequence of features
    named = (symbols.setdefault(dim, free[axis]) if isinstance(dim, str) else dim for axis, dim in enumerate(shape))
    return tuple(free[axis] if dim is None else dim for axis, dim in enumerate(named))


def random_feeds(specs: Sequence[InputSpec], shapes: Shapes, seed: int) -> Feeds:
    """Random arrays of these shapes; no two are alike."""
    rng = np.random.default_rng(seed)
    return {spec.name: random_array(spec, shape, rng) for spec, shape in zip(specs, shapes, strict=True)}


def random_array(spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    """Normally distributed numbers; indices that are valid anywhere (0 and 1); random truth values."""
    dtype: np.dtype[Any] = np.dtype(spec.dtype)
    if dtype.kind in "iub":
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def structured(feeds: Feeds) -> Iterator[tuple[str, Feeds]]:
    """The same inputs with other floating-point numbers, each with a name for it."""
    floating = {name: array for name, array in feeds.items() if array.dtype.kind in "fV"}
    if not floating:
        return
    yield "large", {**feeds, **{name: (array * LARGE).astype(array.dtype) for name, array in floating.items()}}
    yield "impulses", {**feeds, **{name: impulses(array) for name, array in floating.items()}}
    yield "ones", {**feeds, **{name: np.ones_like(array) for name, array in floating.items()}}
    yield "zeros", {**feeds, **{name: np.zeros_like(array) for name, array in floating.items()}}


def impulses(array: NDArray) -> NDArray:
    """The numbers at the corners, the middles of the edges and the centre of an image; all others are 0.

    Without spatial axes: one feature a sample.
    """
    result = np.zeros_like(array)
    if array.ndim < 3:
        each = np.arange(array.size) if array.ndim < 2 else np.arange(len(array)) * (array.shape[1] + 1)
        result.flat[each[each < array.size]] = array.flat[each[each < array.size]]
        return result
    for place in product(*({0, size // 2, size - 1} if size else () for size in array.shape[2:])):
        result[(..., *place)] = array[(..., *place)]
    return result


def nudged(feeds: Feeds, seed: int = 0) -> Feeds:
    """Inputs that differ in their last bit."""
    rng = np.random.default_rng(seed)
    floating = {name: array for name, array in feeds.items() if array.dtype.kind in "fV"}
    signs = {name: rng.choice((-1, 1), array.shape) for name, array in floating.items()}
    changed = {name: (array * (1 + epsilon(array.dtype) * signs[name])).astype(array.dtype) for name, array in floating.items()}
    return {**feeds, **changed}


def epsilon(dtype: np.dtype[Any]) -> float:
    """Distance from 1 to the next number: bfloat16 keeps 8 bits."""
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)
