"""Merge the linear operations before a dynamic convolution into its experts.

    (sum_i a_i W_i) * (V * x) + b  =  (sum_i a_i (W_i o V)) * x  +  b

Exact for gates a of any sum where W_i * (V * x) is one convolution (`algebra.compose`): always for a 1x1 V.  Refused where V
has a bias c: what W_i makes of it, sum_i a_i (sum W_i) c, depends on the gates and is no static bias.
Source: Yang et al., CondConv, NeurIPS 2019, eq. 1; Ding et al., Diverse Branch Block, CVPR 2021, Transform III.
"""

from repcompiler.algebra import compose, known_zero
from repcompiler.experts import MIXED, apply_experts, map_experts
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, DynamicConv, Linear
from repcompiler.pattern import linear
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(DynamicConv.of(linear("x", name="before", least=1), MIXED, name="conv"))
def merge_conv_before_experts(x: Value, before: Conv, gates: Value, experts: Linear, conv: DynamicConv) -> Expr:
    if not known_zero(before.bias):
        refuse("its bias would depend on the gates")
    size = x.spatial(len(conv.stride))
    return apply_experts(*map_experts(conv, experts, lambda expert, _: compose(before, expert, size)), x, gates)
