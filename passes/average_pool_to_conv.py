"""Show an average pooling as a depthwise convolution.

    avg_k(x) = (1 / k^2) * x        one constant kernel a channel

Exact where padded zeros count (count_include_pad, or no padding) and no window is partial (ceil_mode): the frontends lift
nothing else as AvgPool.
Source: Ding et al., Diverse Branch Block, CVPR 2021, Transform V.
"""

import numpy as np

from repcompiler.ops import AvgPool, Conv
from repcompiler.rewriter import as_convolution


@as_convolution(AvgPool)
def average_pool_to_conv(op: AvgPool, channels: int, spatial: int) -> Conv:
    kernel = np.full((channels, 1, *op.kernel_size), 1.0 / op.divisor)
    return Conv(kernel, np.zeros(channels), op.stride, op.padding, (1,) * spatial, channels)
