"""Recognise space-to-depth: the pixels at each place of a block, taken with a stride, one place behind the other as channels.

    [x[:, :, f::b, g::b] for all f, g < b]  =  (S x)[index]         in any order of the places

Exact always: what is concatenated agrees in size, so the block divides the image.
Source: Ultralytics, YOLOv5, 2020; Ge et al., YOLOX, 2021 (Focus).
"""

import numpy as np

from repcompiler.algebra import is_diagonal, known_zero
from repcompiler.ir import Expr, Value
from repcompiler.ops import Concat, Conv, Select, SpaceToDepth
from repcompiler.pattern import linear
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Concat.of(linear("x", name="branches")))
def recognise_space_to_depth(x: Value, branches: tuple[Conv, ...]) -> Expr:
    block, channels = max(branches[0].stride, default=1), branches[0].in_channels
    if block == 1 or any(conv.stride != (block, block) or not is_diagonal(conv) for conv in branches):
        refuse("its parts are not the pixels at the places of a square block")
    if not all(isinstance(conv.weight, np.ndarray) and (conv.weight == 1).all() and known_zero(conv.bias) for conv in branches):
        refuse("its parts are more than the pixels at the places of a block")
    places = [tuple(-before for before, after in conv.padding if not after) for conv in branches]
    order = [place[0] * block + place[1] if len(place) == 2 else -1 for place in places]
    if sorted(order) != list(range(block**2)) or any(not 0 <= first < block for place in places for first in place):
        refuse("it has not each place of a block once")
    index = tuple(place * channels + channel for place in order for channel in range(channels))
    blocks = SpaceToDepth(block, "DCR")(x)
    return blocks if order == sorted(order) else Select(index)(blocks)
