"""Fold a batch normalisation, or any per-channel scale and shift, through what lies between into the linear operations before.

    t f(W x + b) + s  =  f((t W) x + (t b + s))        t = gamma / sqrt(var + eps),  s = beta - t mean

with f any tree of operations that a scale passes (`repcompiler.scaling`).  Exact through a ReLU or PReLU where t >= 0, s = 0, a
maximum where t >= 0, a mean of pixels whose weights sum to 1 always; a sum takes t on each term and s on one, a concatenation
gives each part its own.  Refused unless every branch ends in an operation that takes its scale in.
Source: Ding et al., RepVGG, CVPR 2021, eq. 3, and the homogeneity of f.
"""

from repcompiler.ir import Expr
from repcompiler.ops import Affine, BatchNorm, Concat, Conv, ConvTranspose, Linear, Scale, Sum
from repcompiler.pattern import one_of
from repcompiler.rewriter import rewrite
from repcompiler.scaling import ONE_TO_ONE, as_scale
from repcompiler.scaling_absorb import absorb
from repcompiler.term import term

TAKES = (Conv, ConvTranspose, Linear, BatchNorm, Scale)


@rewrite(one_of(BatchNorm, Scale)(term("y", until=TAKES, through=(*ONE_TO_ONE, Sum, Concat)), name="norm"))
def fold_batch_norm_through(y: Expr, norm: Affine) -> Expr:
    return absorb(y, as_scale(norm))
