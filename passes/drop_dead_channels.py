"""Drop channels between two layers that nothing reads, or that are the same number everywhere.

    W f(V x + b) + c  =  W' f(V' x + b') + c + k sum W[:, dead]        V[dead] = 0 and k = f(b[dead]), or W[:, dead] = 0

with f any chain of operations that treat channels each by itself.  Exact where the second layer pads only what is zero.
So pruned networks, whose masks left rows or columns of zeros, and normalisations with gammas of zero, become small ones.
Source: Ding et al., ResRep, ICCV 2021; Liu et al., Network Slimming, ICCV 2017.
"""

from dataclasses import replace

import numpy as np

from repcompiler.algebra import constant_response, float64
from repcompiler.dead import AroundDeadChannels, constants, cut, dead
from repcompiler.ir import Expr
from repcompiler.ops import Conv, Linear
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(AroundDeadChannels("y", "reader"))
def drop_dead_channels(y: Expr, reader: Conv | Linear) -> Expr:
    gone, numbers = dead(y, reader), constants(y)
    if gone.all():
        refuse("every channel is the same everywhere: nothing would be left to compute")
    kept = np.flatnonzero(~gone).tolist()
    bias = float64(reader.bias) + constant_response(reader, np.where(gone & np.isfinite(numbers), numbers, 0.0))
    return replace(reader, weight=reader.weight[:, kept], bias=bias)(cut(y, kept))
