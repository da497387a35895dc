"""Inputs that are outer products of numbers by channel and an image, and what a convolution makes of them.

Every affine map is determined by what it makes of a basis, and impulses are one: a number in one channel, at one pixel.  For a
convolution the channels of such an input are summed first, once for all images, so that a basis costs no more than reading the
kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from repcompiler.meaning import by_channel, wide
from repcompiler.ops import Conv, Linear

NDArray = np.ndarray[Any, Any]
CHUNK = 1 << 20
"""Numbers of a weight that are held in float64 at a time."""
Geometry = tuple[Any, ...]
Windows = tuple[NDArray, tuple[int, ...]]


@dataclass(frozen=True)
class RankOne:
    """x[(i, j)] = channels[i] (outer) images[j]: a batch of m * n inputs.

    `channels` is (m, C), `images` (n, *extents behind the batch, without the channels), `axis` that of the channels in x.
    """

    channels: NDArray
    images: NDArray
    axis: int = 1
    windows: dict[Geometry, Windows] = field(default_factory=dict, compare=False)
    """What kernels of some geometry meet of the images: both blocks have kernels of one."""

    def __len__(self) -> int:
        return len(self.channels) * len(self.images)

    def dense(self) -> NDArray:
        """All inputs, as one array."""
        return self.spread(self.channels)

    def spread(self, channels: NDArray) -> NDArray:
        """What comes out where each pixel's channels, (m, C), become others, (m, D)."""
        rank = self.images.ndim + 1
        images = np.expand_dims(self.images, self.axis)[None]
        shape = [len(channels), 1, *(1,) * (rank - 1)]
        shape[self.axis + 1] = channels.shape[1]
        result = channels.reshape(shape) * images
        return np.asarray(result.reshape(-1, *result.shape[2:]))

    def absolute(self) -> RankOne:
        """The magnitudes."""
        if (self.images >= 0).all():
            return RankOne(np.abs(self.channels), self.images, self.axis, self.windows)
        return RankOne(np.abs(self.channels), np.abs(self.images), self.axis)

    def met_by(self, op: Conv) -> Windows:
        """The pixels that each tap meets, (taps, n * positions), and the extents of the positions."""
        geometry = op.kernel_size, op.stride, op.padding, op.dilation
        if geometry not in self.windows:
            self.windows[geometry] = _windows(op, self.images)
        return self.windows[geometry]


def respond(op: Conv | Linear, probe: RankOne, size: bool = False) -> NDArray:
    """What a convolution or a fully connected layer makes of it, as of `probe.dense()`; `size`: with its magnitudes."""
    bias = np.abs(wide(op.bias)) if size else wide(op.bias)
    if isinstance(op, Linear) and probe.axis == probe.images.ndim:
        return np.asarray(probe.spread(_mixed(probe.channels, op.weight[..., None], size)[..., 0]) + bias)
    if isinstance(op, Linear) or probe.axis != 1:
        raise ValueError(f"{op} does not read the channels of axis {probe.axis}")
    m, n, taps = len(probe.channels), len(probe.images), prod(op.kernel_size)
    weight = op.weight.reshape(op.groups, -1, op.weight.shape[1], taps)
    if op.groups == 1:
        kernels = _mixed(probe.channels, weight[0], size)
    else:
        grouped = probe.channels.reshape(m, op.groups, -1).swapaxes(0, 1)  # (G, m, I/g)
        rows = _numbers(weight, size).swapaxes(1, 2).reshape(op.groups, weight.shape[2], -1)  # (G, I/g, O/g * taps)
        mixed = grouped * rows if weight.shape[2] == 1 else np.matmul(grouped, rows)
        kernels = mixed.reshape(op.groups, m, -1, taps).swapaxes(0, 1)
    windows, extents = probe.met_by(op)
    result = (kernels.reshape(-1, taps) @ windows).reshape(m, op.out_channels, n, -1).swapaxes(1, 2)
    return np.asarray(result.reshape(m * n, op.out_channels, *extents) + by_channel(bias, 2 + len(extents)))


def _mixed(channels: NDArray, weight: NDArray, size: bool) -> NDArray:
    """Kernels (O, I, taps) summed over I in these proportions, (m, I): (m, O, taps), some rows at a time."""
    used = np.flatnonzero(channels.any(axis=0))
    result = np.zeros((len(channels), weight.shape[0], weight.shape[2]))
    if len(used) < channels.shape[1]:
        channels, weight = channels[:, used], weight[:, used]
    step = max(CHUNK // max(channels.shape[1] * weight.shape[2], 1), 1)
    for start in range(0, len(weight), step):
        rows = _numbers(weight[start : start + step], size)
        result[:, start : start + step] = np.tensordot(channels, rows, (1, 1))
    return result


def _numbers(weight: NDArray, size: bool) -> NDArray:
    return np.abs(wide(weight)) if size else wide(weight)


def _windows(op: Conv, images: NDArray) -> Windows:
    sizes = [n + before + after for n, (before, after) in zip(images.shape[1:], op.padding, strict=True)]
    if any(size < reach for size, reach in zip(sizes, op.extent, strict=True)):
        raise ValueError(f"a kernel of {op.kernel_size} is larger than the image {images.shape[1:]} with its padding")
    source = [slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(images.shape[1:], op.padding, strict=True)]
    target = [slice(max(a, 0), size - max(b, 0)) for size, (a, b) in zip(sizes, op.padding, strict=True)]
    padded = np.zeros((len(images), *sizes))
    padded[(slice(None), *target)] = images[(slice(None), *source)]
    axes = len(sizes)
    windows = sliding_window_view(padded, op.extent, tuple(range(1, axes + 1)))
    steps = [slice(None, None, step) for step in (*op.stride, *op.dilation)]
    windows = windows[(slice(None), *steps)]
    windows = windows.transpose(*range(axes + 1, 2 * axes + 1), *range(axes + 1))
    return windows.reshape(prod(op.kernel_size), -1), windows.shape[axes + 1 :]
