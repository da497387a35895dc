"""More operations to draw: parts and other orders of a value, other resolutions, fences; and what is drawn how often."""

from __future__ import annotations

from collections.abc import Callable

import fuzz_weights as weights
import numpy as np
from fuzz_draw import DeadEnd, Draw


def slice_(d: Draw, x: int) -> int:
    rank = len(d.shape(x))
    axis = int(d.rng.integers(1, rank))
    start, stop, step = d.pick(None, 0, 1, 2), d.pick(None, None, -1, -2, 3), d.pick(1, 1, 1, 2)
    return d.step("slice", x, axis=axis, start=start, stop=stop, step=step, rank=rank)


def gather(d: Draw, x: int) -> int:
    channels = d.shape(x)[1]
    index = d.rng.permutation(channels) if d.chance(0.6) else d.rng.integers(channels, size=d.pick(1, 2, 4, 6))
    return d.step("gather", x, axis=1, index=tuple(int(number) for number in index))


def shuffle(d: Draw, x: int) -> int:
    groups = [g for g in range(2, d.shape(x)[1]) if d.shape(x)[1] % g == 0]
    if not groups or len(d.shape(x)) < 3:
        raise DeadEnd
    return d.step("shuffle", x, groups=d.pick(*groups), rank=len(d.shape(x)))


def resize(d: Draw, x: int) -> int:
    rank = len(d.shape(x))
    if not 3 <= rank <= 5:
        raise DeadEnd
    mode, factor = d.pick("nearest", "linear"), d.pick(2.0, 2.0, 1.5, 3.0, 0.5, 1.0)
    stated = all((factor * size).is_integer() for size in d.spatial(x))
    return d.step("resize", x, mode=mode, scales=(factor,) * (rank - 2), rank=rank, stated=stated)


def space_to_depth(d: Draw, x: int) -> int:
    if len(d.shape(x)) != 4:
        raise DeadEnd
    x = d.step("pad", x, mode="constant", pads=tuple((0, size % 2) for size in d.spatial(x)), value=0.0)
    return d.step("space_to_depth", x, block=2, mode=d.pick("DCR", "CRD"))


def depth_to_space(d: Draw, x: int) -> int:
    if len(d.shape(x)) != 4:
        raise DeadEnd
    return d.step("depth_to_space", x, block=2)


def identity(d: Draw, x: int) -> int:
    return d.step("identity", x)


def frame(d: Draw, x: int) -> int:
    axes, channels = len(d.spatial(x)), d.shape(x)[1]
    if not axes:
        raise DeadEnd
    last = d.steps[-1] if d.steps and len(d.values) - 1 == x else None
    value = weights.f32(d.rng.standard_normal(channels))
    if last is not None and last.kind == "conv":
        value = np.zeros(channels) if last.attrs["bias"] is None else last.attrs["bias"]
    width = d.pick(1, 1, 2)
    return d.step("frame", x, value=value.copy(), pads=((width, width),) * axes)


def fence(d: Draw, x: int) -> int:
    """What no rewrite looks into."""
    kind = d.pick("softmax", "layer_norm", "tanh")
    if kind == "softmax":
        return d.step("softmax", x, axis=d.pick(1, len(d.shape(x)) - 1))
    if kind == "tanh":
        return d.step("activation", x, name="tanh")
    size = d.shape(x)[-1]
    return d.step("layer_norm", x, gamma=weights.constant(d.rng, (size,)), beta=weights.constant(d.rng, (size,)))


Unary = Callable[[Draw, int], int]
LINEAR: tuple[Unary, ...] = (
    *(Draw.conv,) * 6,
    *(Draw.batch_norm,) * 4,
    *(Draw.pointwise,) * 2,
    *(Draw.scale,) * 3,
    Draw.depthwise,
    Draw.unpadded,
    Draw.avg_pool,
    Draw.pad,
    slice_,
    gather,
    shuffle,
    space_to_depth,
    resize,
    Draw.conv_transpose,
    identity,
    frame,
)
OTHER: tuple[Unary, ...] = (*(Draw.activation,) * 6, Draw.max_pool, fence, depth_to_space)
