"""Fold a batch normalisation, or any per-channel scale and shift, into the experts of the dynamic convolution before it.

    t ((sum_i a_i W_i) * x + b) + s  =  (sum_i a_i (t W_i)) * x  +  (t b + s)

Exact for gates a of any sum, sigmoid or softmax: every expert takes the scale, the shift stays one static bias.  (In the bias
of each expert it would be counted sum_i a_i times.)  The mixed experts must be reshaped into one kernel, row by row.
Source: Yang et al., CondConv, NeurIPS 2019, eq. 1; Han et al., ParameterNet, CVPR 2024.
"""

from dataclasses import replace
from math import prod

from repcompiler.algebra import affine, float64, namespace, scale_outputs
from repcompiler.ir import Expr, Value
from repcompiler.ops import Affine, BatchNorm, DynamicConv, Linear, Reshape, Scale
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite

MIXED = Reshape.of(Linear.of("gates", name="experts"), name="kernel")


@rewrite(one_of(BatchNorm, Scale)(DynamicConv.of("x", MIXED, name="conv"), name="norm"))
def fold_batch_norm_into_experts(
    x: Value, gates: Value, experts: Linear, kernel: Reshape, conv: DynamicConv, norm: Affine
) -> Expr:
    if norm.channel_axis(x.rank) not in (None, 1):
        refuse("it scales another axis than the one the kernel makes")
    if kernel.tail or kernel.target[0] != conv.out_channels or prod(kernel.target) != experts.out_channels:
        refuse("it is not told how the mixed experts are laid out as one kernel")
    t, s = affine(norm, conv.out_channels)
    each = namespace(t).repeat(t, experts.out_channels // conv.out_channels)
    return replace(conv, bias=t * float64(conv.bias) + s)(x, kernel(scale_outputs(experts, each, 0.0)(gates)))
