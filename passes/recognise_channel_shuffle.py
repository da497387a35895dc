"""Recognise a channel shuffle: split the channels into a grid, transpose it, flatten it again.

    flatten(transpose(reshape(x, (N, g, C/g, ...)), 1 <-> 2))  =  x[:, index],     index[j] = (j mod g) C/g + j div g

Exact always; the extents behind the channels must come out as they went in.
Source: Zhang et al., ShuffleNet, CVPR 2018, section 3.1.
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Reshape, Select, Transpose
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Reshape.of(Transpose.of(Reshape.of("x", name="split"), name="swap"), name="flatten"))
def recognise_channel_shuffle(x: Value, split: Reshape, swap: Transpose, flatten: Reshape) -> Expr:
    if x.shape is None or split.tail != flatten.tail:
        refuse("it is no exchange of two parts of the channel axis, or extents are not known")
    shape = (*x.shape[: len(x.shape) - split.tail], *(1,) * split.tail)  # both keep these axes, whatever their extents
    grid = split.resolve(shape)
    if grid is None or swap.perm != (0, 2, 1, *range(3, len(grid))):
        refuse("it is no exchange of two parts of the channel axis, or extents are not known")
    batch, groups, width, *spatial = grid
    if flatten.resolve((batch, width, groups, *spatial)) != shape:
        refuse("the extents do not come out as they went in")
    assert isinstance(groups, int), "all that is resolved but the batch is known"
    assert isinstance(width, int)
    if groups * width != shape[1]:
        refuse("it mixes channels with other axes")
    return Select(tuple(row * width + column for column in range(width) for row in range(groups)))(x)
