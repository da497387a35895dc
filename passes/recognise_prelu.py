"""Recognise a PReLU, or a leaky ReLU, that is written as the sum of its two halves.

    max(x, 0) + a max(-c x, 0)  =  max(x, 0) - a c min(x, 0),     c > 0
    max(x, 0) + a min(x, 0)

Exact where neither scale has a shift, and both are of the whole value or of its channels.
Source: He et al., Delving Deep into Rectifiers, ICCV 2015, eq. 1, which is written so.
"""

from math import inf, prod

import numpy as np

from repcompiler.algebra import float64, known_zero
from repcompiler.ir import Expr, Value
from repcompiler.ops import Clip, PRelu, Relu, Scale, Sum
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite

ABOVE = one_of(Relu, Clip)("x", name="above")
TURNED = Relu.of(Scale.of("x", name="turn"))
BELOW = TURNED | Scale.of(TURNED, name="slope") | Scale.of(Clip.of("x", name="below"), name="slope")


@rewrite(one_of(Sum)(ABOVE, BELOW, name="sum"), one_of(Sum)(BELOW, ABOVE, name="reverse"))
def recognise_prelu(
    x: Value,
    above: Relu | Clip,
    slope: Scale | None = None,
    turn: Scale | None = None,
    below: Clip | None = None,
    sum: Sum | None = None,  # noqa: A002
    reverse: Sum | None = None,
) -> Expr | tuple[()]:
    joined = reverse or sum
    assert joined is not None
    first, second = joined.signs[::-1] if reverse else joined.signs
    if first == -1 or above not in (Relu(), Clip(0.0, inf)) or below not in (None, Clip(-inf, 0.0)):
        return ()
    scales = [scale for scale in (slope, turn) if scale]
    if not all(known_zero(scale.shift) and scale.channel_axis(x.rank) in (None, 1) for scale in scales):
        refuse("it is shifted, or scaled along another axis than the channels")
    if turn and not (isinstance(turn.scale, np.ndarray) and (turn.scale < 0).all()):
        refuse("both halves are of the same sign")
    return PRelu(prod((float64(scale.scale) for scale in scales), start=float(second)))(x)
