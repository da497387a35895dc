"""Add two values before their numbers are moved, not behind: that happens once, and what makes the values can become one.

    M a  +-  M b  =  M (a +- b)        M depth-to-space, a reshape, a transposition, a choice of channels ...

Exact where a and b have as many pixels and channels as each other: M is linear.  Of what is broadcast, M may only move other
axes.  (So parallel branches merge which each end in depth-to-space, as those of networks for super-resolution do.)
Source: Shi et al., ESPCN, CVPR 2016, section 3.2 (work at low resolution); the linearity of permutations.
"""

from repcompiler.ir import Expr, Shape, Value
from repcompiler.joins import EqualTerms
from repcompiler.ops import DepthToSpace, Op, Pad, PadChannels, Reshape, Select, SpaceToDepth, Subsample, Sum, Take, Transpose
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite

MOVES = (DepthToSpace, Pad, PadChannels, Reshape, Select, SpaceToDepth, Subsample, Take, Transpose)


@rewrite(EqualTerms(MOVES, "a", "b", name="move", total="total"))
def add_before_moving(a: Value, b: Value, move: Op, total: Sum) -> Expr:
    if not a.shape or not b.shape or len(a.shape) != len(b.shape):
        refuse("the ranks of what is moved are not known to be equal")
    if not _adds_up(move, a.shape, b.shape):
        refuse("what is moved may be broadcast")
    return move(total(a, b))


def _adds_up(move: Op, shape: Shape, other: Shape) -> bool:
    """Whether the axes that M moves have equal extents: of blocks that add up, the images do as well."""
    if isinstance(move, Transpose):
        return True
    batch, *behind = (isinstance(extent, int) and extent == another for extent, another in zip(shape, other, strict=True))
    if isinstance(move, (Select, DepthToSpace)):
        return behind[0]
    by_sample = not isinstance(move, Reshape) or None not in (move.resolve(shape), move.resolve(other))
    return all(behind) and (batch or by_sample)
