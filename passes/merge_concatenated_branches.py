"""Merge linear branches on the same input whose results are concatenated.

    [W1 * x + b1; W2 * x + b2]  =  [W1; W2] * x + [b1; b2]

Rows are stacked in the order of the concatenation, kernels laid on one lattice as in a sum.  Exact where the strides agree and
so do the output sizes; a branch that reads a slice of x has zero columns, so slice - convolve - concatenate becomes one
grouped convolution.
Source: Ding et al., Diverse Branch Block, CVPR 2021, Transform IV; Chen et al., FasterNet, CVPR 2023 (partial convolution).
"""

from repcompiler.algebra import stack
from repcompiler.ir import Expr, Value
from repcompiler.ops import Concat, Conv
from repcompiler.pattern import linear
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite
from repcompiler.structure import forms


@rewrite(Concat.of(linear("x", name="branches")))
def merge_concatenated_branches(x: Value, branches: tuple[Conv, ...]) -> tuple[Expr, ...]:
    if not branches[0].stride and x.rank != 2:
        refuse("they are concatenated along another axis than the last")
    return forms(stack(branches, x.spatial(len(branches[0].stride))), x)
