"""Merge two linear branches on the same input whose results are added or subtracted.

    (W1 * x + b1) + (W2 * x + b2)  =  (W1 + W2) * x + (b1 + b2)

Kernels of any size, padding, dilation and groups are laid on one lattice at their true offsets (`algebra.add`); one channel is
added to all (`addition`).  Exact where the strides agree and so do the output sizes; each branch may itself be a chain, an
identity, a batch norm or a pooling.
Source: Ding et al., Diverse Branch Block, CVPR 2021, Transforms II and VI; ACNet, ICCV 2019; RepVGG, CVPR 2021.
"""

from repcompiler.addition import add
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Sum
from repcompiler.pattern import linear
from repcompiler.rewriter import rewrite
from repcompiler.structure import forms


@rewrite(Sum.of(linear("x", name="first"), linear("x", name="second")))
def merge_parallel_branches(x: Value, first: Conv, second: Conv) -> tuple[Expr, ...]:
    return forms(add(first, second, x.spatial(len(first.stride))), x)
