"""Merge space-to-depth into the convolution that reads it, which may pad.

    W * pad(S x, p)  =  W * S pad(x, b p)  =  (W o S) * pad(x, b p)         b: the side of a block

Exact always: the block divides the image, so blocks of zeros around it are pixels of zeros around S x.
Source: Ultralytics, YOLOv5 6.0, 2021 (a 6 x 6 convolution in the place of Focus); Sunkara and Luo, SPD-Conv, ECML PKDD 2022.
"""

from dataclasses import replace

from repcompiler.algebra import compose
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, SpaceToDepth
from repcompiler.passes.space_to_depth_to_conv import space_to_depth_to_conv
from repcompiler.rewriter import rewrite
from repcompiler.structure import forms


@rewrite(Conv.of(SpaceToDepth.of("x", name="blocks"), name="conv"))
def merge_space_to_depth_into_conv(x: Value, blocks: SpaceToDepth, conv: Conv) -> tuple[Expr, ...]:
    axes, side = len(conv.stride), blocks.block
    shown = space_to_depth_to_conv.view(blocks, conv.in_channels // side**axes, axes)
    framed = replace(shown, padding=tuple((side * before, side * after) for before, after in conv.padding))
    return forms(compose(framed, replace(conv, padding=((0, 0),) * axes)), x)
