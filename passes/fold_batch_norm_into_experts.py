"""Fold a batch normalisation, or any per-channel scale and shift, into the experts of the dynamic convolution before it.

    t ((sum_i a_i W_i) * x + b) + s  =  (sum_i a_i (t W_i)) * x  +  (t b + s)

Exact for gates a of any sum, sigmoid or softmax: every expert takes the scale, the shift stays one static bias.  (In the bias
of each expert it would be counted sum_i a_i times.)  The mixed experts must be one kernel, or one a sample.
Source: Yang et al., CondConv, NeurIPS 2019, eq. 1; Han et al., ParameterNet, CVPR 2024.
"""

from repcompiler.algebra import affine, scale_outputs
from repcompiler.experts import MIXED, apply_experts, map_experts
from repcompiler.ir import Expr, Value
from repcompiler.ops import Affine, BatchNorm, DynamicConv, Linear, Scale
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(one_of(BatchNorm, Scale)(DynamicConv.of("x", MIXED, name="conv"), name="norm"))
def fold_batch_norm_into_experts(x: Value, gates: Value, experts: Linear, conv: DynamicConv, norm: Affine) -> Expr:
    if norm.channel_axis(x.rank) not in (None, 1):
        refuse("it scales another axis than the one the kernel makes")
    t, s = affine(norm, conv.out_channels)
    return apply_experts(*map_experts(conv, experts, lambda expert, _: scale_outputs(expert, t, s)), x, gates)
