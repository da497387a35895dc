"""Show an identity, strided or not, as a convolution with a dirac kernel.

    x[f + s i] = (delta * x)[i],        delta[o, i] = 1 if o = i else 0

Exact always.  Kept depthwise (one group a channel); a sum with a grouped or dense kernel widens it as far as needed.
Source: Ding et al., RepVGG, CVPR 2021, section 3.3.
"""

import numpy as np

from repcompiler.ops import Conv, Identity, Subsample
from repcompiler.rewriter import as_convolution


@as_convolution(Identity, Subsample)
def identity_to_dirac(op: Identity | Subsample, channels: int, spatial: int) -> Conv:
    ones = (1,) * spatial
    stride, padding = (op.stride, op.padding) if isinstance(op, Subsample) else (ones, ((0, 0),) * spatial)
    return Conv(np.ones((channels, 1, *ones)), np.zeros(channels), stride, padding, ones, channels)
