"""Add to some channels of a value as to all of them: a sum whose other term has rows of zeros.

    cat(y[:, :c] + S x, y[:, c:])  =  y + [S; 0] x

Exact for the channels of an image; worth it where the sum closes a skip connection, which can then be removed
(`remove_residual`), or where both terms are one convolution.
Source: Meng et al., RMNet, 2021 (its mobile blocks add to their first channels: out[:, :c] += x[:, :c]).
"""

from dataclasses import replace

from repcompiler.algebra import namespace, regroup, stack
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Select, Sum
from repcompiler.parts import PartlyAdded
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(PartlyAdded("y", "x", "branches"))
def add_to_all_channels(y: Value, x: Value, branches: tuple[Conv | Select, ...]) -> Expr:
    some = next(branch for branch in branches if isinstance(branch, Conv))
    if not some.stride:
        refuse("a fully connected layer acts on the last axis, and has no channels of an image")
    weight = regroup(some, 1)
    xp = namespace(weight)

    def zeros(rows: int) -> Conv:
        return replace(some, weight=xp.zeros((rows, *weight.shape[1:])), bias=xp.zeros(rows), groups=1)

    convs = [branch if isinstance(branch, Conv) else zeros(len(branch.index)) for branch in branches]
    return Sum((1, 1))(y, stack(convs, x.spatial(len(some.stride)))(x))
