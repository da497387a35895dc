"""Show a batch normalisation, or any per-channel scale and shift, as a depthwise 1x1 convolution.

    t_c x_c + s_c = (t * x + s)_c,        t = gamma / sqrt(var + eps),  s = beta - t mean

Exact always.  The channel axis must be axis 1.
Source: Ding et al., RepVGG, CVPR 2021, section 3.3 (the BN-identity branch).
"""

from repcompiler.algebra import affine
from repcompiler.ops import Affine, BatchNorm, Conv, Scale
from repcompiler.refusal import refuse
from repcompiler.rewriter import as_convolution


@as_convolution(BatchNorm, Scale)
def batch_norm_to_conv(op: Affine, channels: int, spatial: int) -> Conv:
    if op.channel_axis(spatial + 2) not in (None, 1):
        refuse("it scales another axis than the channels")
    t, s = affine(op, channels)
    ones = (1,) * spatial
    return Conv(t.reshape(-1, 1, *ones), s, ones, ((0, 0),) * spatial, ones, channels)
