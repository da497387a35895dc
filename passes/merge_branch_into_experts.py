"""Merge a linear branch beside a dynamic convolution into its experts: as one whose gate is always 1.

    (sum_i a_i W_i) * x + b  +-  (S * x + c)  =  (sum_i a_i W_i +- S) * x  +  (b +- c)

Exact for gates a of any sum, where W_i * x + S * x is one convolution (`algebra.add`).  (In every expert S would be counted
sum_i a_i times: exact for a softmax alone.)
Source: Yang et al., CondConv, NeurIPS 2019, eq. 1; Ding et al., Diverse Branch Block, CVPR 2021, Transform II.
"""

from dataclasses import replace

from repcompiler.algebra import add, negate
from repcompiler.experts import MIXED, apply_experts, map_experts
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, DynamicConv, Linear, Sum
from repcompiler.pattern import linear, one_of
from repcompiler.rewriter import rewrite

EXPERTS, BRANCH = DynamicConv.of("x", MIXED, name="conv"), linear("x", name="branch")


@rewrite(one_of(Sum)(EXPERTS, BRANCH, name="sum"), one_of(Sum)(BRANCH, EXPERTS, name="reverse"))
def merge_branch_into_experts(
    x: Value,
    gates: Value,
    experts: Linear,
    conv: DynamicConv,
    branch: Conv,
    sum: Sum | None = None,  # noqa: A002
    reverse: Sum | None = None,
) -> Expr | tuple[()]:
    first, second = reverse.signs[::-1] if reverse else sum.signs if sum else (1, 1)
    if first < 0:
        return ()
    signed = branch if second > 0 else negate(branch)
    nothing, size = replace(signed, weight=0 * signed.weight), x.spatial(len(conv.stride))
    changed = map_experts(conv, experts, lambda expert, always: add(expert, signed if always else nothing, size))
    return apply_experts(*changed, x, gates)
