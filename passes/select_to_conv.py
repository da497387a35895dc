"""Show a choice of channels (a slice, a part of a split, a permutation) as a 1x1 convolution.

    x[:, index] = E * x,        E[o, i] = 1 if i = index[o] else 0

Exact always.  So a channel shuffle becomes an order of rows or columns of the convolution beside it.
Source: Zhang et al., ShuffleNet, CVPR 2018; Chen et al., FasterNet, CVPR 2023 (partial convolution).
"""

import numpy as np

from repcompiler.ops import Conv, Select
from repcompiler.rewriter import as_convolution


@as_convolution(Select)
def select_to_conv(op: Select, channels: int, spatial: int) -> Conv:
    ones = (1,) * spatial
    matrix = np.eye(channels)[list(op.index)]
    return Conv(matrix.reshape(*matrix.shape, *ones), np.zeros(len(op.index)), ones, ((0, 0),) * spatial, ones, 1)
