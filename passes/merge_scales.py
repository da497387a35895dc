"""Merge two per-channel scales that follow each other: batch norms, multiplications and additions by constants.

    t2 (t1 x + s1) + s2  =  (t2 t1) x + (t2 s1 + s2)

Exact always.  Both must scale the same axis, or one of them the whole tensor alike.
"""

from repcompiler.algebra import affine
from repcompiler.ir import Expr, Value
from repcompiler.ops import Affine, BatchNorm, Scale
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(one_of(BatchNorm, Scale)(one_of(BatchNorm, Scale)("x", name="first"), name="second"))
def merge_scales(x: Value, first: Affine, second: Affine) -> Expr:
    axes = {axis for op in (first, second) if (axis := op.channel_axis(x.rank)) is not None}
    if len(axes) > 1:
        refuse("the two scale different axes")
    channels = max(op.channels for op in (first, second))
    (t1, s1), (t2, s2) = affine(first, channels), affine(second, channels)
    return Scale(t2 * t1, t2 * s1 + s2, *axes)(x)
