"""How a plan is compiled, and on what numbers it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from fuzz_plans import Plan
from fuzz_weights import pick

from repcompiler.passes import PASSES

NDArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Settings:
    """How a plan is compiled."""

    form: str
    objective: str
    verify: bool
    passes: tuple[str, ...] | None = None
    opset: int = 17
    given: bool = True
    """Whether torch is told an example."""
    twice: bool = False
    """Whether it is compiled again, to the same bytes."""
    seed: int = 0
    shared: bool = False
    """Whether layers share weights, which the objectives count for each."""


def settings(seed: int) -> Settings:
    rng = np.random.default_rng([seed, 1])
    names = [rule.name for rule in PASSES]
    some = tuple(name for name in names if rng.random() < 0.7) if rng.random() < 0.15 else None
    return Settings(
        form=pick(rng, "onnx", "torch"),
        objective=pick(rng, "latency", "macs", "params", "plain", "plain"),
        verify=bool(rng.random() < 0.6),
        passes=some,
        opset=pick(rng, 17, 17, 18, 20, 13),
        given=bool(rng.random() < 0.8),
        twice=bool(rng.random() < 0.1),
        seed=seed,
    )


def feeds(plan: Plan, seed: int) -> list[list[NDArray]]:
    """The nominal size first; then, as far as extents are free, a tiny and a larger one."""
    changes: list[Callable[[int, int], int]] = [lambda axis, size: size]
    if plan.free != "none":
        batch = plan.inputs[0][0]
        sizes = (lambda size: max(1, size - 4), lambda size: size + 3) if plan.free == "all" else (lambda size: size,) * 2
        for one, resized in zip((1, 3), sizes, strict=True):
            changes.append(
                lambda axis, size, one=one, resized=resized: (
                    one if axis == 0 and size == batch else resized(size) if axis > 1 else size
                )
            )
    rng = np.random.default_rng([seed, 2])
    shapes = [[tuple(change(axis, size) for axis, size in enumerate(shape)) for shape in plan.inputs] for change in changes]
    return [[rng.standard_normal(shape).astype(np.float32) for shape in sizes] for sizes in shapes]
