"""Merge two reshapes that follow each other into one.

    reshape(reshape(x, s), t)  =  reshape(x, t)

Exact always: the numbers stay in row-major order.  An extent that t keeps must be one that s keeps from x, or a number.  (Norms
of tokens, flattened and back, leave such pairs behind once they are folded into the layer before.)
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Reshape
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Reshape.of(Reshape.of("x", name="first"), name="second"))
def merge_reshapes(x: Value, first: Reshape, second: Reshape) -> Expr:
    if second.tail > first.tail:
        refuse("it keeps extents that are not known")
    between = first.infer_shape([x.shape]) or ()
    target = list(second.target)
    for axis, size in enumerate(between[: len(target)]):
        if target[axis] != 0 or first.target[axis : axis + 1] == (0,):
            continue
        if not isinstance(size, int):
            refuse("it keeps an extent that is not known")
        target[axis] = size
    return Reshape(tuple(target), second.tail)(x)
