"""Remove a skip connection around branches that are concatenated: what is skipped is one more of them.

    W f(cat(a, b)) + S x  =  [W  S D] f([I  0; 0  E] cat(a, b, x))

The layers behind the concatenation carry x as those of a chain do (`remove_residual`, whose conditions hold here too); those in
the branches need not.  Exact where x has as many pixels as the branches.  One of the branches themselves is not joined twice.
Source: Meng et al., RMNet, 2021, for chains; Szegedy et al., Inception-ResNet, 2017, has such blocks.
"""

from dataclasses import replace
from functools import partial

from repcompiler.algebra import pad_axis, regroup
from repcompiler.branched import AddedToBranches
from repcompiler.carry import carried
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Op
from repcompiler.pattern import Forked
from repcompiler.rewriter import rewrite
from repcompiler.selection import channels_of


def added(branches: Value, body: tuple[Op, ...], x: Value, shortcut: Conv, outlined: bool = False) -> Expr | Forked:
    assert branches.producer is not None
    parts = branches.producer.inputs
    if x not in parts:
        return carried(x, body, shortcut, outlined, among=parts)
    sizes = [channels_of(part) for part in parts]
    before = sum(sizes[: parts.index(x)])
    weight = pad_axis(regroup(shortcut, 1), 1, before, sum(sizes) - before - channels_of(x))
    return carried(branches, body, replace(shortcut, weight=weight, groups=1), outlined)


@rewrite(AddedToBranches("branches", "body", "x", "shortcut"), outline=partial(added, outlined=True))
def add_among_branches(branches: Value, body: tuple[Op, ...], x: Value, shortcut: Conv) -> Expr | Forked:
    return added(branches, body, x, shortcut)
