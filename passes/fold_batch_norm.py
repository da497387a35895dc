"""Fold a batch normalisation, or any per-channel scale and shift, into the linear operation before it.

    t (W x + b) + s  =  (t W) x + (t b + s),        t = gamma / sqrt(var + eps),  s = beta - t mean

Exact always, whatever the padding: the scale acts on the output.  The channel axis must be the one that W makes.
Source: Ding et al., RepVGG, CVPR 2021, eq. 3; Diverse Branch Block, CVPR 2021, Transform I.
"""

from repcompiler.algebra import affine, scale_outputs
from repcompiler.ir import Expr, Value
from repcompiler.ops import Affine, BatchNorm, Conv, ConvTranspose, Linear, LinearOp, Scale
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(one_of(BatchNorm, Scale)(one_of(Conv, ConvTranspose, Linear)("x", name="linear"), name="norm"))
def fold_batch_norm(x: Value, linear: LinearOp, norm: Affine) -> Expr:
    if norm.channel_axis(x.rank) not in (None, linear.channel_axis(x.rank)):
        refuse("it scales another axis than the one the weight makes")
    t, s = affine(norm, linear.out_channels)
    return scale_outputs(linear, t, s)(x)
