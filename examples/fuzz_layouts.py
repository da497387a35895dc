"""Blocks that see an image as a vector, as tokens, or by its last axis."""

from __future__ import annotations

from math import prod

from fuzz_draw import DeadEnd, Draw
from fuzz_parts import fence


def flattened(d: Draw, x: int) -> int:
    """The image as a vector, with fully connected layers behind, or beside a convolution."""
    shape = d.shape(x)
    if len(shape) < 3 or prod(shape[1:]) > 200:
        raise DeadEnd
    y = d.conv(x) if d.chance(0.6) else x
    stated = {"stated": d.chance(0.5)}
    z = d.step("flatten", y, **stated)
    if d.chance(0.4):
        beside = d.linear(d.step("flatten", x, **stated), d.shape(z)[1])
        return d.step("add", *((z, beside) if d.chance(0.5) else (beside, z)), signs=(1, d.pick(1, 1, -1)))
    for _ in range(d.pick(1, 2, 3)):
        z = d.pick(Draw.linear, Draw.linear, Draw.batch_norm, Draw.scale, Draw.activation)(d, z)
    return z


def tokens(d: Draw, x: int) -> int:
    """Pixels as tokens, through layers on the last axis, and back."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    y = x
    if len(shape) > 3:
        y = d.step("reshape", x, shape=(0, shape[1], -1))
    y = d.step("transpose", y, perm=(0, 2, 1))
    for _ in range(d.pick(1, 2, 3)):
        y = d.pick(Draw.linear, Draw.linear, Draw.scale, Draw.batch_norm, Draw.activation, fence)(d, y)
    if d.chance(0.3):
        y = d.step("add", d.linear(y, 4), d.linear(y, 4), signs=(1, 1))
    y = d.step("transpose", y, perm=(0, 2, 1))
    return d.step("reshape", y, shape=(0, d.shape(y)[1], *shape[2:])) if len(shape) > 3 else y


def reshapes(d: Draw, x: int) -> int:
    """Reshapes in a row, or there and back."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    y = d.step(
        "reshape", x, shape=(0, d.pick(shape[1], -1), *(() if d.chance(0.5) else shape[2:])) if d.chance(0.5) else (0, 0, -1)
    )
    return d.step("reshape", y, shape=(0, *shape[1:]) if d.chance(0.7) else (0, prod(shape[1:])))


def last_axis(d: Draw, x: int) -> int:
    """Layers that act on the last axis of an image, where others act on its channels."""
    for _ in range(d.pick(1, 2, 3)):
        x = d.pick(Draw.linear, Draw.linear, Draw.scale, Draw.pointwise, Draw.batch_norm, Draw.prelu_of_last)(d, x)
    return x
