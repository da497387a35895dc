"""Let a choice of channels, copies among them, pass what lies between, and merge it into the linear operation that reads it.

    W f(x[index]) + b  =  (W S) f(x) + b        (W S)[:, c] = sum of W[:, j] over the j with index_j = c

with f any chain of operations that treat channels alike, each by itself (`repcompiler.selection`).  Exact always; a linear
operation with equal rows is one that has each once, and a choice of them: so what is equal is computed once, also through f.
Source: Chen et al., Net2Net, ICLR 2016, section 2.2 (the inverse of Net2WiderNet); Zhang et al., ShuffleNet, CVPR 2018.
"""

from repcompiler.cost import shape_of
from repcompiler.ir import Expr
from repcompiler.ops import Conv, Linear, Select
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite
from repcompiler.selection import ALIKE, channels_of, chooses, gather_columns, release
from repcompiler.structure import forms
from repcompiler.term import term


@rewrite(one_of(Conv, Linear)(term("y", until=(Select, Conv, Linear), through=ALIKE, where=chooses), name="reader"))
def move_selection_into_reader(y: Expr, reader: Conv | Linear) -> tuple[Expr, ...]:
    rest, index = release(y)
    if isinstance(reader, Linear) and len(shape_of(rest) or ()) != 2:
        refuse("one acts on the channels, the other on the last axis")
    gathered = gather_columns(reader, index, channels_of(rest))
    return forms(gathered, rest) if isinstance(gathered, Conv) else (gathered(rest),)
