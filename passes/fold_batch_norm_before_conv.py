"""Fold a batch normalisation, or any per-channel scale and shift, into the linear operation after it.

    W (t x + s) + b  =  (W t) x + (W s + b)

Exact always for the scale t; for the shift s only where W sees it everywhere: a padded border holds zeros, not s, so with
padding (or in a transposed convolution, whose border sums fewer taps) the rewrite is refused unless s is zero.
Source: Ding et al., Diverse Branch Block, CVPR 2021, section 3 (padding a biased map).
"""

from dataclasses import replace

from repcompiler.algebra import affine, constant_response, known_zero, scale_inputs
from repcompiler.ir import Expr, Value
from repcompiler.ops import Affine, BatchNorm, Conv, ConvTranspose, Linear, LinearOp, Scale
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(one_of(Conv, ConvTranspose, Linear)(one_of(BatchNorm, Scale)("x", name="norm"), name="linear"))
def fold_batch_norm_before_conv(x: Value, norm: Affine, linear: LinearOp) -> Expr:
    if norm.channel_axis(x.rank) not in (None, linear.channel_axis(x.rank)):
        refuse("it scales another axis than the one the weight reads")
    t, s = affine(norm, linear.in_channels)
    scaled = scale_inputs(linear, t)
    if known_zero(s):
        return scaled(x)
    if isinstance(linear, ConvTranspose) or (isinstance(linear, Conv) and max(map(max, linear.padding)) > 0):
        refuse("its shift would reach the padded border, which holds zeros: exact only inside the image")
    return replace(scaled, bias=linear.bias + constant_response(linear, s))(x)
