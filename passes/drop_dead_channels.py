"""Drop channels between two layers that nothing reads, or that are the same number everywhere.

    W f(V x + b) + c  =  W' f(V' x + b') + c + k sum W[:, dead]        V[dead] = 0 and k = f(b[dead]), or W[:, dead] = 0

with f any chain of operations that treat channels each by itself.  Exact where the second layer pads only what is zero.
So pruned networks, whose masks left rows or columns of zeros, and normalisations with gammas of zero, become small ones.
Source: Ding et al., ResRep, ICCV 2021; Liu et al., Network Slimming, ICCV 2017.
"""

from dataclasses import replace

import numpy as np

from repcompiler.algebra import constant_response, float64
from repcompiler.cost import shape_of
from repcompiler.dead import THROUGH, constants, cut, mixes
from repcompiler.ir import Expr
from repcompiler.ops import Conv, Linear
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite
from repcompiler.term import term


@rewrite(one_of(Conv, Linear)(term("y", until=(Conv, Linear), through=THROUGH, where=mixes), name="reader"))
def drop_dead_channels(y: Expr, reader: Conv | Linear) -> Expr | tuple[()]:
    numbers = constants(y)
    apart = reader.groups > 1 if isinstance(reader, Conv) else len(shape_of(y) or ()) != 2
    if apart or not isinstance(reader.weight, np.ndarray) or len(numbers) != reader.in_channels:
        return ()
    padded = isinstance(reader, Conv) and max(map(max, reader.padding), default=0) > 0
    axes = (0, *range(2, reader.weight.ndim))
    dead = ~reader.weight.any(axis=axes) | (numbers == 0 if padded else np.isfinite(numbers))
    if not dead.any():
        return ()
    if dead.all():
        refuse("every channel is the same everywhere: nothing would be left to compute")
    kept = np.flatnonzero(~dead).tolist()
    bias = float64(reader.bias) + constant_response(reader, np.where(np.isfinite(numbers) & dead, numbers, 0.0))
    return replace(reader, weight=reader.weight[:, kept], bias=bias)(cut(y, kept))
