"""Recognise space-to-depth: the pixels at each place of a block, taken with a stride, one place behind the other as channels.

    [x[:, :, f::b, g::b] for all f, g < b]  =  (S x)[index]         in any order of the places

Exact always: what is concatenated agrees in size, so the block divides the image.
Source: Ultralytics, YOLOv5, 2020; Ge et al., YOLOX, 2021 (Focus).
"""

from itertools import product
from math import isqrt

import numpy as np

from repcompiler.algebra import is_diagonal, known_zero
from repcompiler.ir import Expr, Value
from repcompiler.ops import Concat, Conv, Padding, Select, SpaceToDepth
from repcompiler.pattern import linear
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Concat.of(linear("x", name="branches")))
def recognise_space_to_depth(x: Value, branches: tuple[Conv, ...]) -> Expr:
    block, channels = isqrt(len(branches)), branches[0].in_channels
    places: list[Padding] = [((-first, 0), (-second, 0)) for first, second in product(range(block), repeat=2)]
    found = [conv.padding for conv in branches]
    if sorted(found) != sorted(places) or any(conv.stride != (block, block) or not is_diagonal(conv) for conv in branches):
        refuse("its parts are not the pixels at each place of a square block, once")
    if not all(isinstance(conv.weight, np.ndarray) and (conv.weight == 1).all() and known_zero(conv.bias) for conv in branches):
        refuse("its parts are more than the pixels at the places of a block")
    order = [places.index(padding) for padding in found]
    index = tuple(place * channels + channel for place in order for channel in range(channels))
    blocks = SpaceToDepth(block, "DCR")(x)
    return blocks if order == sorted(order) else Select(index)(blocks)
