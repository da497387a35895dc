"""On which small image a rewrite is checked, and on which inputs.

What a linear operation makes of a pixel depends on where the pixel lies to its stride, and on the border as far as its window
reaches.  So an image on which every window, one behind the other, fits between the borders, with every remainder modulo the
strides beside each of them, has all there is: what holds on it holds on every larger one (docs/guarantees.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np

from repcompiler.ir import Value
from repcompiler.ops import (
    ACTIVATIONS,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    DynamicConv,
    Identity,
    Linear,
    MaxPool,
    Op,
    Pad,
    Reshape,
    Scale,
    Select,
    SpaceToDepth,
    Subsample,
    Sum,
    Transpose,
)
from repcompiler.program import Key, Program
from repcompiler.rank_one import RankOne

NDArray = np.ndarray[Any, Any]

WINDOWS = (Conv, ConvTranspose, DynamicConv, AvgPool, MaxPool, Subsample)
CHANNELWISE = (AvgPool, BatchNorm, Identity, MaxPool, Pad, Subsample, Sum, *ACTIVATIONS)


@dataclass(frozen=True)
class Images:
    """Inputs for one source: `channels`, on `axis`, and the extents of all other axes behind the batch.

    `batch`: of a run on random numbers; any other run has as many as there are inputs.
    """

    channels: int
    extents: tuple[int, ...]
    axis: int
    batch: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, without the batch."""
        return (*self.extents[: self.axis - 1], self.channels, *self.extents[self.axis - 1 :])

    def zeros(self, m: int, n: int) -> RankOne:
        """m * n inputs of nothing."""
        return RankOne(np.zeros((m, self.channels)), np.zeros((n, *self.extents)), self.axis)

    def random(self, count: int, rng: np.random.Generator) -> RankOne:
        """`count` times random integers by channel, on one image of them."""
        channels = rng.integers(-(1 << 12), 1 << 12, (count, self.channels))
        return RankOne(channels.astype(float), rng.integers(-(1 << 12), 1 << 12, (1, *self.extents)).astype(float), self.axis)


def images(source: Value, programs: Sequence[Program], margin: bool) -> Images:
    """Inputs that are odd, not square and large enough; without `margin`, just so that one pixel in the middle meets every tap.

    Where the true extent is known, it has the same phase to all strides: output sizes that agree there agree here.
    """
    ops = [op for program in programs for op in program.ops]
    readers = [op for program in programs for op in program.readers(source)]
    windows = [op for op in ops if isinstance(op, WINDOWS)]
    rank = source.rank or (len(windows[0].stride) + 2 if windows else 2)
    axis = _channel_axis(rank, readers)
    true = source.shape or (None,) * rank
    if source.shape is not None and any(isinstance(op, (Reshape, Transpose)) for op in ops):  # said of these very extents
        sizes = [size if isinstance(size, int) else 5 for size in true[1:]]
        return Images(sizes.pop(axis - 1), tuple(sizes), axis, true[0] if isinstance(true[0], int) else 2)
    known = true[axis] if axis < rank else None
    channels = known if isinstance(known, int) else _channels(readers) or _channels(ops) or 3
    extents = []
    for index, size in enumerate(size for place, size in enumerate(true[1:], 1) if place != axis):
        reach, step = spans(programs, index) if axis == 1 else (0, 1)
        reach += 2 * step + (1 + 2 * index if margin else -1)
        whole = prod({op.block for op in ops if isinstance(op, SpaceToDepth)})  # what has no whole blocks is no image
        extents.append(min(size, reach + (size - reach) % step) if isinstance(size, int) else reach + -reach % whole)
    return Images(channels, tuple(extents), axis)


def spans(programs: Sequence[Program], axis: int) -> tuple[int, int]:
    """Pixels beside one that the windows of a program meet, one behind the other along one axis, and their strides' product."""
    reach, period = 0, 1
    for program in programs:
        found: dict[Key, tuple[int, int]] = {}
        for key, op, operands in program.steps:
            wide, step = (max(found.get(x, (0, 1))[part] for x in operands) if operands else part for part in (0, 1))
            if isinstance(op, SpaceToDepth):
                wide, step = wide + step * (op.block - 1), step * op.block
            if isinstance(op, WINDOWS):
                before, after = op.padding[axis]
                dilation = 1 if isinstance(op, (AvgPool, Subsample)) else op.dilation[axis]
                extent = 0 if isinstance(op, Subsample) else dilation * (op.kernel_size[axis] - 1)
                wide += step * (extent + max(extent - before - after, 0) + max(0, -before) + max(0, -after))
                step *= op.stride[axis]
            found[key] = wide, step
        wide, step = found.get(program.result, (0, 1))
        reach, period = max(reach, wide), max(period, step)
    return reach, period


def blocks(ops: Sequence[Op]) -> int:
    """Into how many equal blocks the channels fall that never mix; 0 where each stands for itself."""
    found = 0
    for op in ops:
        if isinstance(op, (Conv, ConvTranspose)):
            found = gcd(found, op.groups)
        elif not isinstance(op, CHANNELWISE) and not (isinstance(op, Scale) and op.axis == 1):
            return 1
    return found


def units(rows: NDArray, size: int, channels: int, rng: np.random.Generator) -> NDArray:
    """Some rows of a basis of the channels: blocks of `size` are probed at once, with signs of their own."""
    parts = channels // size
    result = np.zeros((len(rows), channels))
    factors = rng.choice([-1.0, 1.0], parts)
    result[np.arange(len(rows))[:, None], rows[:, None] + size * np.arange(parts)] = factors
    return result


def impulses(extents: Sequence[int]) -> NDArray:
    """Images with a one in one pixel, one for every pixel."""
    return np.eye(prod(extents)).reshape(-1, *extents)


def middle(extents: Sequence[int], programs: Sequence[Program], channels: int, most: int, rng: np.random.Generator) -> NDArray:
    """Those in the middle, one for each remainder modulo the strides, `most` of them; `channels`: on which axis these are."""
    periods = [spans(programs, axis)[1] if channels == 1 else 1 for axis in range(len(extents))]
    ranges = [range(n // 2, min(n // 2 + p, n)) for n, p in zip(extents, periods, strict=True)]
    pixels = np.stack(np.meshgrid(*ranges, indexing="ij")).reshape(len(extents), -1) if extents else np.zeros((0, 1), int)
    pixels = rng.permutation(pixels, axis=1)[:, :most] if pixels.shape[1] > most else pixels
    found = np.zeros((pixels.shape[1], *extents))
    found[(np.arange(len(found)), *pixels)] = 1
    return found


def _channel_axis(rank: int, readers: Sequence[Op]) -> int:
    """Which axis of a source of `rank` axes holds channels."""
    last = any(isinstance(op, Linear) or (isinstance(op, Scale) and op.channels > 1 and op.axis != 1) for op in readers)
    return rank - 1 if last else 1


def _channels(ops: Sequence[Op]) -> int:
    """Channels that operations read, as far as one tells; else enough for every choice of channels; else 0."""
    for op in ops:
        if isinstance(op, (Conv, ConvTranspose, DynamicConv, Linear)):
            return op.in_channels
        if isinstance(op, (BatchNorm, Scale)) and op.channels > 1:
            return op.channels
    return max((index + 1 for op in ops if isinstance(op, Select) for index in op.index), default=0)
