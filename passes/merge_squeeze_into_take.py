"""Drop the axis of which one number was taken when it is taken, not by a reshape behind it.

    squeeze(take(x, axis, i, keep), axis)  =  take(x, axis, i)

Exact always: no number changes.  (A tensor of queries, keys and values is unbound so: a split, and a squeeze of each part.  As
long as a reshape lies between, a runtime does not merge the transposition before the split into the product behind it.)
"""

from dataclasses import replace

from repcompiler.ir import Expr, Value
from repcompiler.ops import Reshape, Take
from repcompiler.rewriter import rewrite


@rewrite(Reshape.of(Take.of("x", name="take"), name="squeeze"))
def merge_squeeze_into_take(x: Value, take: Take, squeeze: Reshape) -> Expr | tuple[()]:
    shape = take.infer_shape([x.shape])
    if shape is None or not take.keep or len(squeeze.target) + squeeze.tail != len(shape) - 1:
        return ()
    if take.axis > len(squeeze.target):  # one of the last axes, which the reshape keeps
        return ()
    left = shape[: take.axis] + shape[take.axis + 1 :]
    sizes = zip(squeeze.target, left, strict=False)
    same = all(size in (-1, extent) if size else axis < take.axis for axis, (size, extent) in enumerate(sizes))
    return replace(take, keep=False)(x) if same else ()
