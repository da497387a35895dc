"""From a seed to a plan: a few random blocks, values read twice, layers called twice, some values handed out."""

from __future__ import annotations

from math import prod

import numpy as np
from fuzz_blocks import BLOCKS, again, total
from fuzz_draw import CHANNELS, DeadEnd, Draw
from fuzz_parts import OTHER
from fuzz_plans import Plan, Shape
from fuzz_spellings import NEW, SPELLINGS
from fuzz_weights import pick

STEPS = 14
SIZES = {
    1: ((9,), (16,), (3,)),
    2: ((7, 9), (5, 8), (6, 6), (4, 3), (8, 8), (11, 6), (4, 4), (1, 1), (1, 6)),
    3: ((4, 5, 3), (3, 3, 4), (1, 2, 5)),
}


def plan(seed: int) -> Plan:
    """The network of this number."""
    rng = np.random.default_rng(seed)
    blocks = BLOCKS if seed < NEW else (*BLOCKS, *SPELLINGS, *(again,) * 4)
    while True:
        d = Draw(rng, *_inputs(rng))
        x = 0
        last = int(rng.integers(1, STEPS))
        for _ in range(12):
            with d.attempt():
                y = d.pick(*blocks)(d, x)
                x = d.pick(*OTHER)(d, y) if d.chance(0.35) else y
            if x and d.chance(0.25):
                x = _joined(d, x)
            if len(d.steps) >= last:
                break
        if x:
            return _finished(d, x).live()


def _inputs(rng: np.random.Generator) -> list[Shape]:
    axes = pick(rng, 1, 2, 2, 2, 2, 2, 2, 3)
    batch = pick(rng, 1, 2, 2)
    shape = (batch, pick(rng, *CHANNELS), *pick(rng, *SIZES[axes]))
    if rng.random() < 0.05:
        shape = (*shape[:2], shape[1] if shape[1] > 2 else shape[2], *shape[3:])  # channels that look like pixels
    if rng.random() < 0.07:
        shape = (batch, prod(shape[1:3]) % 13 + 1)
    return [shape] * (2 if rng.random() < 0.1 else 1)


def _joined(d: Draw, x: int) -> int:
    """With an earlier value, or with another reader of one; a layer called again."""
    with d.attempt():
        alike = [value for value in range(len(d.values)) if d.shape(value) == d.shape(x) and value != x]
        if alike and d.chance(0.6):
            return total(d, [x, d.pick(*alike)])
        if d.steps and d.chance(0.4):
            return d.again(int(d.rng.integers(len(d.steps))), x)
        earlier = int(d.rng.integers(len(d.values)))
        d.pick(*BLOCKS)(d, earlier)
    return x if x < len(d.values) else len(d.values) - 1


def _finished(d: Draw, x: int) -> Plan:
    first = len(d.inputs)
    outputs = [x]
    read = {value for step in d.steps for value in step.inputs}
    unread = [value for value in range(first, len(d.values)) if value not in read and value != x]
    if unread and d.chance(0.5):
        outputs.append(unread[-1])
    if d.chance(0.2):
        outputs.append(int(d.rng.integers(first, len(d.values))))
    free = d.pick("none", "batch", "all")
    return Plan(d.inputs, tuple(d.steps), tuple(dict.fromkeys(outputs)), free)


__all__ = ["DeadEnd", "plan"]
