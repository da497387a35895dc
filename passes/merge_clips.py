"""Merge two clips that follow each other into one: ReLU6 as exporters write it, min(max(x, 0), 6).

    clip(clip(x, c, d), a, b)  =  clip(x, clip(c, a, b), clip(d, a, b))

Exact always: both sides grow with x by as much as x or not at all, and have the same least and largest number.  max(x, 0) is a
clip from below, min(x, 6) one from above.
"""

from math import inf

from repcompiler.ir import Expr, Value
from repcompiler.ops import Clip, Relu
from repcompiler.pattern import one_of
from repcompiler.rewriter import rewrite


@rewrite(one_of(Clip, Relu)(one_of(Clip, Relu)("x", name="first"), name="second"))
def merge_clips(x: Value, first: Clip | Relu, second: Clip | Relu) -> Expr:
    a, b = _bounds(second)
    least, most = (min(max(bound, a), b) for bound in _bounds(first))
    return (Relu() if (least, most) == (0.0, inf) else Clip(least, most))(x)


def _bounds(op: Clip | Relu) -> tuple[float, float]:
    return (op.minimum, op.maximum) if isinstance(op, Clip) else (0.0, inf)
