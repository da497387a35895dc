"""Merge a convolution into the experts of the dynamic convolution before it.

    V * ((sum_i a_i W_i) * x + b) + c  =  (sum_i a_i (V o W_i)) * x  +  ((sum V) b + c)

Exact for gates a of any sum, sigmoid or softmax, where V * (W_i * x + b) is one convolution (`algebra.compose`): always for a
1x1.  The bias does not depend on the gates, and stays one static bias.
Source: Yang et al., CondConv, NeurIPS 2019, eq. 1; Ding et al., Diverse Branch Block, CVPR 2021, Transform III.
"""

from repcompiler.algebra import compose
from repcompiler.experts import MIXED, apply_experts, map_experts
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, DynamicConv, Linear
from repcompiler.rewriter import rewrite


@rewrite(Conv.of(DynamicConv.of("x", MIXED, name="conv"), name="after"))
def merge_conv_after_experts(x: Value, gates: Value, experts: Linear, conv: DynamicConv, after: Conv) -> Expr:
    size = x.spatial(len(conv.stride))
    return apply_experts(*map_experts(conv, experts, lambda expert, _: compose(expert, after, size)), x, gates)
