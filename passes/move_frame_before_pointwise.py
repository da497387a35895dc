"""Surround the input of a pointwise convolution with zeros, instead of its result with what it makes of zero.

    frame_b(W x + b)  =  W pad_0(x) + b

Exact where the frame holds b at every pixel: then what comes after sees a convolution without padding, and merges.
Source: Ding et al., Diverse Branch Block, CVPR 2021 (BNAndPadLayer of the authors' code); Zhang et al., ECBSR, ACM MM 2021.
"""

from dataclasses import replace

from repcompiler.algebra import float64, known_zero
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Frame
from repcompiler.pattern import linear
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Frame.of(linear("x", name="map", least=1), name="frame"))
def move_frame_before_pointwise(x: Value, map: Conv, frame: Frame) -> Expr:  # noqa: A002 - what a frame surrounds
    if not map.is_pointwise:
        refuse("what is framed sees more than one pixel")
    if not known_zero(float64(frame.value) - float64(map.bias)):
        refuse("the frame holds something else than what the map makes of zero")
    return replace(map, padding=frame.padding)(x)
