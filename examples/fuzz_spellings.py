"""Published blocks as their authors spell them: by slices, by rows of channels, by stacks, by transpositions back and forth."""

from __future__ import annotations

from itertools import product

import fuzz_weights as weights
import numpy as np
from fuzz_branches import branch
from fuzz_draw import CHANNELS, DeadEnd, Draw
from fuzz_parts import fence, frame, space_to_depth

IMAGE = 4
"""Axes of a batch of images."""
UPSAMPLING = ((2, 0, 0), (4, 1, 0), (6, 2, 0), (3, 1, 1), (5, 2, 1))
"""(kernel, padding, output padding) of transposed convolutions of stride 2 that double an image."""
WINDOW = {"kernel": (2, 2), "stride": (2, 2), "pads": ((0, 0), (0, 0))}
NEW = 22_000
"""The first seed that draws these: what those before it draw stays what it was."""


def needs_image(d: Draw, x: int) -> tuple[int, ...]:
    shape = d.shape(x)
    if len(shape) != IMAGE:
        raise DeadEnd
    return shape


def focus(d: Draw, x: int) -> int:
    """YOLOv5's: every second pixel, from each place of a block, as channels."""
    needs_image(d, x)
    x = d.step("pad", x, mode="constant", pads=tuple((0, size % 2) for size in d.spatial(x)), value=0.0)
    places = list(product((0, 1), repeat=2))
    if d.chance(0.5):
        places = [places[int(index)] for index in d.rng.permutation(4)]
    parts = []
    for first, second in places:
        rows = d.step("slice", x, axis=2, start=first, stop=None, step=2, rank=IMAGE)
        parts.append(d.step("slice", rows, axis=3, start=second, stop=None, step=2, rank=IMAGE))
    y = d.step("concat", *parts, axis=1)
    return d.pick(Draw.conv, Draw.pointwise, Draw.activation, Draw.batch_norm)(d, y)


def blocks_of_pixels(d: Draw, x: int) -> int:
    """Pixels as channels and back, with layers beside."""
    if d.chance(0.5):
        return d.conv(space_to_depth(d, x))
    needs_image(d, x)
    y = d.conv(x, 4 * d.pick(1, 2, 3), (1, 1), groups=1)
    return d.pointwise(d.step("depth_to_space", y, block=2), d.pick(1, 2, 3))


def channel_attention(d: Draw, x: int) -> int:
    """ECA: a convolution along the means of the channels."""
    shape = needs_image(d, x)
    y, kernel = d.step("global_avg_pool", x, rank=IMAGE), d.pick(1, 3, 5)
    by_rows = d.chance(0.5)
    if by_rows:
        y = d.step("reshape", y, shape=(0, 1, -1))
    else:
        y = d.step("transpose", d.step("reshape", y, shape=(0, shape[1], 1)), perm=(0, 2, 1))
    y = d.conv(y, 1, (1,), (kernel,), groups=1)
    early = d.chance(0.5)
    y = d.step("activation", y, name=d.pick("sigmoid", "hard_sigmoid")) if early else y
    y = y if by_rows else d.step("transpose", y, perm=(0, 2, 1))
    y = d.step("reshape", y, shape=(0, shape[1], 1, 1))
    y = y if early else d.step("activation", y, name="sigmoid")
    return d.step("mul", *((x, y) if d.chance(0.5) else (y, x)))


def row_attention(d: Draw, x: int) -> int:
    """Squeeze and excitation by fully connected layers on the row of the channels."""
    shape = needs_image(d, x)
    y = d.step("flatten", d.step("global_avg_pool", x, rank=IMAGE), stated=True)
    y = d.step("activation", d.linear(y, d.pick(2, 4)), name=d.pick("relu", "relu", "silu"))
    y = d.step("activation", d.linear(y, shape[1]), name=d.pick("sigmoid", "hard_sigmoid", "tanh"))
    return d.step("mul", x, d.step("reshape", y, shape=(0, shape[1], 1, 1)))


def transposed(d: Draw, x: int) -> int:
    """Channels last and back, with layers between; more than one order in a row."""
    rank = len(d.shape(x))
    if not 3 <= rank <= IMAGE:
        raise DeadEnd
    orders = [(0, 2, 1)] if rank == 3 else [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 3, 2, 1)]
    current = np.arange(rank)
    for _ in range(d.pick(1, 2, 3)):
        perm = d.pick(*orders)
        x, current = d.step("transpose", x, perm=perm), current[list(perm)]
        if d.chance(0.4):
            x = d.pick(Draw.linear, Draw.activation, fence)(d, x) if int(current[-1]) == 1 else d.activation(x)
    back = tuple(int(axis) for axis in np.argsort(current))
    return x if back == tuple(range(rank)) else d.step("transpose", x, perm=back)


def stacked(d: Draw, x: int) -> int:
    """Branches side by side along an axis of their own, over which they are added up, or averaged."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    ones = (1,) * (len(shape) - 2)
    terms = [branch(d, x, shape[1], ones, 0) for _ in range(d.pick(2, 3))]
    if len({d.shape(term) for term in terms}) > 1:
        raise DeadEnd
    return d.step("stacked", *terms, axis=d.pick(0, 1, len(shape)), mean=d.chance(0.4))


def mixed(d: Draw, x: int) -> int:
    """Two branches weighed by constants: torch.lerp, torch.addcmul."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    ones = (1,) * (len(shape) - 2)
    a, b = branch(d, x, shape[1], ones, 0), branch(d, x, shape[1], ones, 0)
    if d.shape(a) != d.shape(b):
        raise DeadEnd
    constant = weights.constant(d.rng, (shape[1], *ones))
    if d.chance(0.5):
        return d.step("lerp", a, b, constant=constant if d.chance(0.5) else weights.f32(d.rng.uniform(-0.5, 1.5, ())))
    return d.step("addcmul", a, b, constant=constant, value=d.pick(1.0, 0.5, -2.0))


def upsampling(d: Draw, x: int) -> int:
    """Transposed convolutions of several kernels, added up."""
    shape = d.shape(x)
    axes, out = len(shape) - 2, d.pick(*CHANNELS)
    if axes not in (1, 2):
        raise DeadEnd
    terms = []
    for _ in range(d.pick(2, 2, 3)):
        kernel, pad, extra = d.pick(*UPSAMPLING)
        weight = weights.kernel(d.rng, shape[1], out, (kernel,) * axes)
        geometry = {"stride": (2,) * axes, "pads": ((pad, pad),) * axes, "dilation": (1,) * axes}
        bias, more = weights.bias(d.rng, out), {"output_padding": (extra,) * axes, "groups": 1}
        y = d.step("conv_transpose", x, weight=weight, bias=bias, **geometry, **more)
        terms.append(d.pick(Draw.batch_norm, Draw.pointwise)(d, y) if d.chance(0.2) else y)
    if len({d.shape(term) for term in terms}) > 1:
        raise DeadEnd
    return d.step("add", *terms, signs=(1, *(d.pick(1, 1, -1) for _ in terms[1:])))


def written(d: Draw, x: int) -> int:
    """ECBSR, DBB: what a pointwise layer makes of zero, written around its result."""
    if not d.spatial(x):
        raise DeadEnd
    y = d.batch_norm(d.pointwise(x)) if d.chance(0.3) else d.pointwise(x)
    y = frame(d, y)
    return d.pick(Draw.unpadded, Draw.avg_pool, Draw.depthwise)(d, y)


def wider(d: Draw, x: int) -> int:
    """ResNet's option A: a skip connection with channels of zeros."""
    shape = d.shape(x)
    axes = len(shape) - 2
    if not axes:
        raise DeadEnd
    before, after = d.pick((0, 2), (1, 1), (2, 0))
    stride = d.pick(1, 1, 2)
    y = d.conv(x, shape[1] + before + after, (stride,) * axes, groups=1)
    if d.chance(0.5):
        y = d.conv(d.step("activation", y, name="relu"), shape[1] + before + after, (1,) * axes)
    for axis in range(2, len(shape)) if stride > 1 else ():
        x = d.step("slice", x, axis=axis, start=None, stop=None, step=stride, rank=len(shape))
    return d.step("add", y, d.step("pad_channels", x, amounts=(before, after), axes=axes), signs=(1, 1))


def concatenated(d: Draw, x: int) -> int:
    """Inception-ResNet: a skip connection around branches side by side."""
    shape = d.shape(x)
    if len(shape) < 3:
        raise DeadEnd
    ones = (1,) * (len(shape) - 2)
    parts = [d.step("activation", d.conv(x, d.pick(2, 3, 4), ones), name="relu") for _ in range(2)]
    y = d.conv(d.step("concat", *parts, axis=1), shape[1], ones)
    return d.step("add", *((x, y) if d.chance(0.5) else (y, x)), signs=(1, 1))


def beside_a_layer(d: Draw, x: int) -> int:
    """RepMLP: a fully connected layer on the image beside a convolution of it; or one behind."""
    shape = d.shape(x)
    if len(shape) < 3 or np.prod(shape[1:]) > 150:
        raise DeadEnd
    y = d.step("flatten", d.conv(x), stated=True)
    if d.chance(0.5):
        return d.linear(y, d.pick(2, 5))
    z = d.linear(d.step("flatten", x, stated=True), d.shape(y)[1])
    return d.step("add", *((y, z) if d.chance(0.5) else (z, y)), signs=(1, d.pick(1, 1, -1)))


def in_rows(d: Draw, x: int) -> int:
    """Pixels in a row, through pointwise layers, and an image again."""
    shape = needs_image(d, x)
    y = d.step("reshape", x, shape=(0, shape[1], -1))
    for _ in range(d.pick(0, 1, 1, 2)):
        y = d.pick(Draw.pointwise, Draw.batch_norm)(d, y)
    return d.step("reshape", y, shape=(0, d.shape(y)[1], *shape[2:]))


def channels_last(d: Draw, x: int) -> int:
    """A fully connected layer on the channels of an image."""
    needs_image(d, x)
    y = d.linear(d.step("transpose", x, perm=(0, 2, 3, 1)))
    return d.step("transpose", y, perm=(0, 3, 1, 2))


def pyramid(d: Draw, x: int) -> int:
    """SegFormer's decoder: levels of one size side by side, mixed; YOLO's: to half the size."""
    shape = needs_image(d, x)
    if d.chance(0.4):
        y = d.step("resize", d.pointwise(x), mode="nearest", scales=(0.5, 0.5), rank=IMAGE, stated=False)
        return d.conv(d.step("activation", y, name="relu"))
    parts = [d.pointwise(x, d.pick(4, 6))]
    for _ in range(d.pick(1, 2)):
        small = d.pointwise(d.step("avg_pool", x, count_include_pad=True, ceil_mode=False, **WINDOW), d.pick(4, 6))
        parts.append(d.step("resize", small, mode=d.pick("nearest", "linear"), scales=(2.0, 2.0), rank=IMAGE, stated=False))
    if len({d.shape(part)[2:] for part in parts}) > 1 or d.shape(parts[0])[2:] != shape[2:]:
        raise DeadEnd
    return d.pointwise(d.step("concat", *parts, axis=1), d.pick(1, 2, 4))


def shuffled(d: Draw, x: int) -> int:
    """ShuffleNet's: grouped layers, with a shuffle between; activations that clip, one behind the other."""
    channels = d.shape(x)[1]
    groups = [g for g in range(2, channels) if channels % g == 0]
    if not groups or len(d.shape(x)) < 3:
        raise DeadEnd
    y = d.pointwise(x, channels, d.pick(*groups))
    y = d.step("shuffle", y, groups=d.pick(*groups), rank=len(d.shape(x)))
    for _ in range(d.pick(0, 0, 1, 2)):
        y = d.step("activation", y, name=d.pick("relu", "relu6", "clip", "clip_min", "clip_max"))
    return d.pick(Draw.depthwise, Draw.pointwise)(d, y)


SPELLINGS = (
    *(focus, blocks_of_pixels, channel_attention, row_attention, transposed, stacked, mixed, upsampling) * 4,
    *(written, wider, concatenated, beside_a_layer, in_rows, channels_last, pyramid, shuffled) * 4,
)
