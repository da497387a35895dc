"""Show channels of zeros beside those of a value as a 1x1 convolution.

    [0; x; 0] = [0; I; 0] * x

Exact always.  So shortcuts without weights, of ResNets for small images, merge and are carried like any other.
Source: He et al., Deep Residual Learning, CVPR 2016, section 3.3, option A.
"""

import numpy as np

from repcompiler.ops import Conv, PadChannels
from repcompiler.rewriter import as_convolution


@as_convolution(PadChannels)
def pad_channels_to_conv(op: PadChannels, channels: int, spatial: int) -> Conv:
    ones, matrix = (1,) * spatial, np.pad(np.eye(channels), [(op.before, op.after), (0, 0)])
    return Conv(matrix.reshape(*matrix.shape, *ones), np.zeros(len(matrix)), ones, ((0, 0),) * spatial, ones, 1)
