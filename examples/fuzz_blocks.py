"""Blocks of published networks and of strangers', drawn at random: each takes a value and makes one of it."""

from __future__ import annotations

from collections.abc import Callable

import fuzz_weights as weights
from fuzz_branches import branch
from fuzz_draw import CHANNELS, DeadEnd, Draw
from fuzz_gates import experts, gate, mixture
from fuzz_layouts import flattened, last_axis, reshapes, tokens
from fuzz_parts import LINEAR, OTHER, frame, resize

Block = Callable[[Draw, int], int]


def linear_chain(d: Draw, x: int) -> int:
    """Linear operations in sequence."""
    for _ in range(int(d.rng.integers(1, 5))):
        x = d.pick(*LINEAR)(d, x)
    return x


def anything(d: Draw, x: int) -> int:
    return int(d.pick(*LINEAR, *OTHER)(d, x))


def branches(d: Draw, x: int) -> int:
    """Linear branches on one value, added or taken away."""
    if len(d.shape(x)) < 3:
        raise DeadEnd
    axes = len(d.spatial(x))
    out = d.shape(x)[1] if d.chance(0.6) else d.pick(*CHANNELS)
    stride = (1,) * axes if d.chance(0.75) else d.each_axis(x, 1, 2, 3)
    extra = 0 if d.chance(0.8) else d.pick(-1, -2, 1)
    terms = [branch(d, x, out, stride, extra) for _ in range(d.pick(2, 2, 3, 4))]
    shape = d.shape(terms[0])
    terms = [term for term in terms if d.shape(term) == shape]
    return total(d, terms)


def total(d: Draw, terms: list[int]) -> int:
    """An n-ary sum, or a tree."""
    if len(terms) < 2:
        raise DeadEnd
    if d.chance(0.5):
        return d.step("add", *terms, signs=(1, *(1 if d.chance(0.8) else -1 for _ in terms[1:])))
    while len(terms) > 1:
        i = int(d.rng.integers(len(terms) - 1))
        terms[i : i + 2] = [d.step("add", *terms[i : i + 2], signs=(1, 1 if d.chance(0.8) else -1))]
    return terms[0]


def residual(d: Draw, x: int) -> int:
    """A skip connection around layers and activations."""
    if len(d.shape(x)) < 3:
        raise DeadEnd
    axes, channels = len(d.spatial(x)), d.shape(x)[1]
    stride = (1,) * axes if d.chance(0.85) else (2,) * axes
    kind = d.pick(
        "relu", "relu", "relu6", "leaky_relu", "silu", "hard_swish", "gelu", "clip", "sigmoid", "tanh", "negative_leaky_relu"
    )
    y = x
    if d.chance(0.2):
        y = d.batch_norm(y)
    for index in range(d.pick(1, 2, 2, 3)):
        y = d.conv(y, d.pick(channels, 4, 6), stride if index == 0 else (1,) * axes, groups=d.pick(1, 1, 1, 0))
        y = d.batch_norm(y) if d.chance(0.4) else y
        y = d.activation(y) if d.chance(0.1) else d.step("activation", y, name=kind)
        y = d.max_pool(y) if d.chance(0.05) else y
    y = d.conv(y, channels, (1,) * axes)
    y = d.batch_norm(y) if d.chance(0.4) else y
    shortcut = x if set(stride) == {1} and d.chance(0.8) else d.conv(x, channels, stride, (1,) * axes)
    y = total(d, [shortcut, y] if d.chance(0.5) else [y, shortcut])
    return d.step("activation", y, name="relu") if d.chance(0.6) else y


def parts(d: Draw, x: int) -> int:
    """Slices of the channels, or the whole, each through its own branch, side by side again."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    axes, channels = len(shape) - 2, shape[1]
    stride = (1,) * axes if d.chance(0.85) else (2,) * axes
    if channels > 1 and d.chance(0.6):
        first = int(d.rng.integers(1, channels))
        sizes = (first, channels - first)
        pieces = [d.step("split", x, sizes=sizes, axis=1, index=index) for index in range(2)]
        if d.chance(0.1):
            pieces.reverse()
    else:
        pieces = [x] * d.pick(2, 3)
    made = []
    for piece in pieces:
        untouched = set(stride) == {1} and d.chance(0.25)
        made.append(piece if untouched else branch(d, piece, d.pick(*CHANNELS), stride, 0))
        if d.chance(0.1):
            made[-1] = d.activation(made[-1])
    y = d.step("concat", *made, axis=1)
    return d.pointwise(y) if d.chance(0.4) else y


def partly_added(d: Draw, x: int) -> int:
    """RMNet's: y[:, :c] += x[:, :c]."""
    channels = d.shape(x)[1]
    if channels < 2 or len(d.shape(x)) < 3:
        raise DeadEnd
    axes = len(d.spatial(x))
    y = d.conv(x, d.pick(channels, channels + 2), (1,) * axes)
    if d.chance(0.6):
        y = d.conv(d.step("activation", y, name="relu"), None, (1,) * axes)
    width = d.shape(y)[1]
    start = 0 if d.chance(0.7) else int(d.rng.integers(width))
    size = int(d.rng.integers(1, min(channels, width - start) + 1))
    some = (
        d.step("slice", x, axis=1, start=None, stop=size, step=1, rank=len(d.shape(x)))
        if d.chance(0.7)
        else d.pointwise(x, size)
    )
    return d.step("add_to_part", y, some, part=(start, start + size))


def upsampled(d: Draw, x: int) -> int:
    """Transposed convolutions side by side, or resizes, with pointwise layers before and behind."""
    y = d.pointwise(x) if d.chance(0.5) else x
    z = d.conv_transpose(y)
    if d.chance(0.4):
        z = total(d, [z, d.conv_transpose(y, like=d.steps[-1])])
    if d.chance(0.3):
        z = resize(d, z)
    return d.pointwise(z) if d.chance(0.5) else z


def control_flow(d: Draw, x: int) -> int:
    """A value read by an If or a Loop, and by what is rewritten around it."""
    y = d.batch_norm(d.conv(x, d.shape(x)[1], (1,) * len(d.spatial(x))))
    factor = weights.f32(d.rng.uniform(-0.9, 0.9, ()))
    first = d.batch_norm(y) if d.chance(0.5) else y
    if d.chance(0.5):
        return d.step("if", first, y, factor=factor)
    return d.step("loop", first, y, factor=factor, trips=2)


def transition(d: Draw, x: int) -> int:
    """DenseNet's: a pointwise layer, and what makes the image smaller."""
    y, axes = d.pointwise(x), len(d.spatial(x))
    if d.chance(0.5):
        windows = {"kernel": (2,) * axes, "stride": (2,) * axes, "pads": ((0, 0),) * axes}
        return d.step("avg_pool", y, count_include_pad=True, ceil_mode=False, **windows)
    return d.step("resize", y, mode=d.pick("nearest", "linear"), scales=(0.5,) * axes, rank=axes + 2, stated=False)


def framed(d: Draw, x: int) -> int:
    """ECBSR, DBB: a pointwise layer in a frame of what it makes of zero, then a convolution or a pooling without padding."""
    y = d.pointwise(x)
    y = d.batch_norm(y) if d.chance(0.2) else y
    y = frame(d, y)
    return d.pick(Draw.unpadded, Draw.avg_pool, Draw.conv)(d, y)


def broadcast(d: Draw, x: int) -> int:
    """Values of one channel, or of one pixel, with whole ones."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    flat = d.step("global_avg_pool", x, rank=len(shape))
    thin = d.pick(
        lambda: d.conv(x, 1, (1,) * (len(shape) - 2)), lambda: d.pointwise(flat, shape[1]), lambda: d.pointwise(flat, 1)
    )()
    whole = x if d.chance(0.4) else branch(d, x, shape[1], (1,) * (len(shape) - 2), 0)
    pair = (thin, whole) if d.chance(0.5) else (whole, thin)
    y = d.step("mul", *pair) if d.chance(0.3) else d.step("add", *pair, signs=(1, d.pick(1, 1, -1)), style=0)
    return d.pick(Draw.batch_norm, Draw.pointwise, Draw.scale)(d, y) if d.chance(0.5) else y


def twice(d: Draw, x: int) -> int:
    """One value as both operands."""
    y = d.pick(*LINEAR)(d, x) if d.chance(0.7) else x
    kind = d.pick("add", "sub", "mul", "concat")
    if kind == "mul":
        return d.step("mul", y, y)
    if kind == "concat":
        y = d.step("concat", y, y, axis=1)
        return d.pick(*LINEAR)(d, y) if d.chance(0.6) else y
    return d.step("add", y, y, signs=(1, 1 if kind == "add" else -1))


def again(d: Draw, x: int) -> int:
    """One block drawn twice, alike to the last number, on one value; not their difference, of which rounding alone is left."""
    state, made = d.rng.bit_generator.state, []
    block = d.pick(branches, residual, parts, gate, upsampled, anything, transition)
    for _ in range(2):
        d.rng.bit_generator.state = state
        made.append(block(d, x))
    kind = d.pick("add", "mul", "concat")
    if kind == "add":
        return d.step("add", *made, signs=(1, 1))
    return d.step("mul", *made) if kind == "mul" else d.step("concat", *made, axis=1)


def around(d: Draw, x: int) -> int:
    """A skip connection around another block."""
    y = d.pick(*BLOCKS)(d, x)
    if d.shape(y) != d.shape(x) or y == x:
        raise DeadEnd
    return d.step("add", *((x, y) if d.chance(0.5) else (y, x)), signs=(1, d.pick(1, 1, 1, -1)))


BLOCKS: tuple[Block, ...] = (
    *(linear_chain,) * 6,
    *(branches,) * 6,
    *(anything,) * 3,
    *(residual,) * 3,
    *(parts,) * 3,
    *(partly_added, gate, mixture, experts, upsampled, framed, transition) * 2,
    *(around,) * 3,
    *(flattened, tokens, reshapes, control_flow, broadcast, twice, last_axis),
)
