"""Show zero padding, or a crop, as a padded convolution with a dirac kernel, so that the next convolution takes it in.

    pad_p(x) = delta *_p x

Exact always for zeros; any other constant or mode is not lifted as Pad.  A crop is negative padding.
Source: Ding et al., ACNet, ICCV 2019 (the cropped 1xk and kx1 branches).
"""

import numpy as np

from repcompiler.ops import Conv, Pad
from repcompiler.rewriter import as_convolution


@as_convolution(Pad)
def pad_to_conv(op: Pad, channels: int, spatial: int) -> Conv:
    ones = (1,) * spatial
    return Conv(np.ones((channels, 1, *ones)), np.zeros(channels), ones, op.padding, ones, channels)
