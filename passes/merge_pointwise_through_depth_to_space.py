"""Merge a 1x1 convolution of the pixels that depth-to-space makes into the convolution that makes their blocks.

    M D(W * x + c) + b  =  D((M at each place) (W * x + c) + (b at each place))

Exact always: a 1x1 convolution treats the pixels of a block alike, each by itself; so it may while they are channels.  It must
neither stride, pad nor look at other pixels.
Source: Shi et al., ESPCN, CVPR 2016, section 3.2 (work at low resolution); the associativity of linear maps.
"""

from dataclasses import replace

from repcompiler.algebra import compose, float64, namespace, regroup
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, DepthToSpace
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite
from repcompiler.structure import forms


@rewrite(Conv.of(DepthToSpace.of(Conv.of("x", name="make"), name="blocks"), name="mix"))
def merge_pointwise_through_depth_to_space(x: Value, make: Conv, blocks: DepthToSpace, mix: Conv) -> tuple[Expr, ...]:
    if not mix.is_pointwise:
        refuse("it does more than mix the channels of one pixel")
    area, rows = blocks.block ** len(mix.kernel_size), mix.out_channels
    matrix, bias = float64(regroup(mix, 1)), float64(mix.bias)
    xp = namespace(matrix)
    places = xp.eye(area, dtype=xp.float64, device=matrix.device)
    if blocks.mode == "CRD":
        weight = xp.reshape(matrix, (rows, 1, -1, 1)) * xp.reshape(places, (1, area, 1, area))
        shift = xp.reshape(bias, (-1, 1)) * xp.ones_like(places[:1, :])
    else:
        weight = xp.reshape(matrix, (1, rows, 1, -1)) * xp.reshape(places, (area, 1, area, 1))
        shift = xp.ones_like(places[:, :1]) * bias
    weight = xp.reshape(weight, (rows * area, -1, *mix.kernel_size))
    each = replace(mix, weight=weight, bias=xp.reshape(shift, (-1,)), groups=1)
    return tuple(blocks(form) for form in forms(compose(make, each), x))
