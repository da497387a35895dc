"""The sum of two convolutions of one value, as a Sum adds what they make: one channel is added to every channel.

W1 * x + b1  +  1 (w2 * x + b2)  =  (W1 + 1 w2) * x  +  (b1 + 1 b2)        1: a column of ones
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from repcompiler import algebra
from repcompiler.ops import Conv


def add(first: Conv, second: Conv, size: Sequence[int | None]) -> Conv:
    """first(x) + second(x), either of which may make one channel; refuses as `algebra.add` does."""
    channels = max(first.out_channels, second.out_channels)
    return algebra.add(_over(channels, first), _over(channels, second), size)


def _over(channels: int, conv: Conv) -> Conv:
    """What a convolution makes, as many times as there are channels, if it makes one channel."""
    if conv.out_channels != 1 or channels == 1:
        return conv
    weight = algebra.float64(conv.weight)
    copies = algebra.namespace(weight).broadcast_to(weight, (channels, *weight.shape[1:]))
    return replace(conv, weight=copies, bias=algebra.broadcast(conv.bias, channels))
