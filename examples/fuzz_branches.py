"""One linear branch of stated extents, as blocks have several of."""

from __future__ import annotations

from fuzz_draw import Draw
from fuzz_parts import identity


def branch(d: Draw, x: int, out: int, stride: tuple[int, ...], extra: int) -> int:
    """One linear branch of stated extents: a convolution, a short chain, a norm, a pooling, the identity."""
    axes = len(stride)
    plain = d.shape(x)[1] == out and set(stride) == {1} and extra == 0
    kind = d.pick("conv", "conv", "norm", "chain", "identity", "pool", "point_first", "one_axis", "dilated")
    if kind == "identity" and plain:
        return x if d.chance(0.6) else d.pick(Draw.batch_norm, Draw.scale, identity)(d, x)
    if kind == "pool" and plain:
        return d.avg_pool(d.pointwise(x, out) if d.chance(0.5) else x, keep=True)
    if kind == "point_first":
        x = d.pointwise(x)
        x = d.batch_norm(x) if d.chance(0.3) else x
        return d.conv(x, out, stride, extra=extra)
    if kind == "one_axis":
        return d.conv(x, out, stride, tuple(d.pick(1, 3) for _ in range(axes)), extra)
    y = d.conv(x, out, stride, extra=extra)
    if kind == "norm":
        return d.batch_norm(y)
    return int(d.pick(Draw.pointwise, Draw.scale, Draw.batch_norm)(d, y)) if kind == "chain" else y
