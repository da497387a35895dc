"""Show space-to-depth (PixelUnshuffle) as a strided convolution with one tap an output channel.

    y[o, i] = x[c, b i + phase] = (delta * x)[o, i]      o numbers the pairs of channel c and phase in the block

Exact always; its stride is its kernel.  So space-to-depth before a 1x1 convolution is one b x b convolution of stride b.
Source: Sunkara and Luo, SPD-Conv, ECML PKDD 2022, read from right to left.
"""

import numpy as np

from repcompiler.ops import Conv, SpaceToDepth
from repcompiler.rewriter import as_convolution


@as_convolution(SpaceToDepth)
def space_to_depth_to_conv(op: SpaceToDepth, channels: int, spatial: int) -> Conv:
    block, ones = (op.block,) * spatial, (1,) * spatial
    area = op.block**spatial
    taps = np.eye(area).reshape(area, *block)
    if op.mode == "CRD":
        kernel, groups = np.tile(taps, (channels, *ones)).reshape(channels * area, 1, *block), channels
    else:
        rows = np.multiply.outer(taps, np.eye(channels))  # (phase, *block, O, I)
        kernel, groups = np.moveaxis(rows, (-2, -1), (1, 2)).reshape(channels * area, channels, *block), 1
    return Conv(kernel, np.zeros(channels * area), block, ((0, 0),) * spatial, ones, groups)
