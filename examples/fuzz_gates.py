"""Blocks in which values weigh values: squeeze and excitation, SPConv, dynamic convolutions."""

from __future__ import annotations

from math import prod

import fuzz_weights as weights
from fuzz_branches import branch
from fuzz_draw import CHANNELS, DeadEnd, Draw


def gate(d: Draw, x: int) -> int:
    """Squeeze and excitation, or one branch times the sigmoid of another."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    if d.chance(0.4):
        left = branch(d, x, shape[1], (1,) * (len(shape) - 2), 0)
        right = d.step(
            "activation", branch(d, x, shape[1], (1,) * (len(shape) - 2), 0), name=d.pick("sigmoid", "hard_sigmoid", "tanh")
        )
        return d.step("mul", left, right)
    y = d.step("global_avg_pool", x, rank=len(shape))
    y = d.step("activation", d.pointwise(y, 4), name="relu") if d.chance(0.7) else y
    y = d.step("activation", d.pointwise(y, shape[1]), name=d.pick("sigmoid", "hard_sigmoid"))
    return d.step("mul", x, y)


def mixture(d: Draw, x: int) -> int:
    """SPConv: two branches weighed by the softmax of their means."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    rank, out = len(shape), d.pick(*CHANNELS)
    ones = (1,) * (rank - 2)
    a, b = branch(d, x, out, ones, 0), branch(d, x, out, ones, 0)
    if d.chance(0.2):
        a = d.activation(a)
    u, v = (d.step("global_avg_pool", y, rank=rank) for y in ((a, b) if d.chance(0.85) else (b, x)))
    both = d.step("softmax", d.step("concat", u, v, axis=2), axis=2)
    s, t = (d.step("split", both, sizes=(1, 1), axis=2, index=index) for index in range(2))
    if d.chance(0.15):
        s, t = t, s
    return d.step("add", d.step("mul", a, s), d.step("mul", b, t), signs=(1, 1))


def experts(d: Draw, x: int) -> int:
    """A kernel mixed from experts by gates, with layers before, behind and beside it."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    axes = len(shape) - 2
    y = d.pointwise(x) if d.chance(0.5) else x
    channels, out = d.shape(y)[1], d.pick(*CHANNELS)
    gates = d.linear(d.step("flatten", d.step("global_avg_pool", x, rank=len(shape)), stated=True), 3)
    gates = d.step("softmax", gates, axis=1) if d.chance(0.5) else d.step("activation", gates, name="sigmoid")
    kernel, groups = d.each_axis(x, 1, 3), d.pick(1, 1, *(g for g in (2, 3) if channels % g == 0 and out % g == 0))
    stride = (1,) * axes if d.chance(0.8) else (2,) * axes
    sizes = (out, channels // groups, *kernel)
    bank = weights.f32(d.rng.standard_normal((3, prod(sizes))) / prod(sizes[1:]) ** 0.5)
    attrs = {
        "shape": sizes,
        "stride": stride,
        "pads": tuple((k // 2, k // 2) for k in kernel),
        "groups": groups,
        "channels": channels,
    }
    z = d.step("dynamic_conv", y, gates, experts=bank, bias=weights.bias(d.rng, out), **attrs)
    if d.chance(0.5):
        z = d.step("add", *d.rng.permutation([z, branch(d, y, out, stride, 0)]).tolist(), signs=(1, 1))
    return d.pick(Draw.batch_norm, Draw.pointwise, Draw.scale)(d, z) if d.chance(0.6) else z
