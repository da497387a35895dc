"""Fold a batch normalisation, or any per-channel scale and shift, through what lies between into the linear operation after it.

    W f(t x + s) + b  =  W (t f(x) + s) + b  =  (W t) f(x) + (W s + b)

with f any chain of operations that a scale passes (`repcompiler.scaling`), also as a part of a concatenation.  Exact where f
passes it; the shift is refused where it would reach a padded border, as in fold_batch_norm_before_conv.
Source: Ding et al., Diverse Branch Block, CVPR 2021, section 3 (padding a biased map), and the homogeneity of f.
"""

from dataclasses import replace

from repcompiler.algebra import affine, constant_response, known_zero, scale_inputs
from repcompiler.cost import shape_of
from repcompiler.ir import Expr
from repcompiler.ops import BatchNorm, Concat, Conv, ConvTranspose, Linear, LinearOp, Scale
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite
from repcompiler.scaling import ONE_TO_ONE
from repcompiler.scaling_release import release
from repcompiler.term import term


@rewrite(one_of(Conv, ConvTranspose, Linear)(term("y", until=(BatchNorm, Scale), through=(*ONE_TO_ONE, Concat)), name="linear"))
def fold_batch_norm_before_conv_through(y: Expr, linear: LinearOp) -> Expr:
    rest, scale = release(y)
    shape = shape_of(rest)
    rank = None if shape is None else len(shape)
    if scale.channel_axis(rank) not in (None, linear.channel_axis(rank)):
        refuse("it scales another axis than the one the weight reads")
    t, s = affine(scale, linear.in_channels)
    scaled = scale_inputs(linear, t)
    if known_zero(s):
        return scaled(rest)
    if isinstance(linear, ConvTranspose) or (isinstance(linear, Conv) and max(map(max, linear.padding)) > 0):
        refuse("its shift would reach the padded border, which holds zeros: exact only inside the image")
    return replace(scaled, bias=linear.bias + constant_response(linear, s))(rest)
