"""The operations a rewrite understands.  Each is a frozen record that carries its own constants.

Kernels are written over `*spatial` axes, so one operation serves 1-D, 2-D and 3-D alike; padding is asymmetric, one
(before, after) pair a spatial axis, and may be negative (a crop) while rewriting.  `channel_axis` says which axis of the
result carries output channels.
"""

from repcompiler.ops.activation import (
    ACTIVATIONS,
    Clip,
    ClipChannels,
    Gated,
    HardSigmoid,
    Odd,
    PRelu,
    Relu,
    Sigmoid,
    Softmax,
)
from repcompiler.ops.base import Array, Constant, Identity, Mul, Op, Opaque, Padding, Sum
from repcompiler.ops.layout import Concat, Frame, Pad, PadChannels, Reshape, Select, Stack, Subsample, Take, Transpose
from repcompiler.ops.linear import Affine, AvgPool, BatchNorm, Conv, ConvTranspose, DynamicConv, Linear, LinearOp, Scale
from repcompiler.ops.sampling import DepthToSpace, GlobalAvgPool, MaxPool, Resize, SpaceToDepth

__all__ = [
    "ACTIVATIONS",
    "Affine",
    "Array",
    "AvgPool",
    "BatchNorm",
    "Clip",
    "ClipChannels",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "DynamicConv",
    "Frame",
    "Gated",
    "GlobalAvgPool",
    "HardSigmoid",
    "Identity",
    "Linear",
    "LinearOp",
    "MaxPool",
    "Mul",
    "Odd",
    "Op",
    "Opaque",
    "PRelu",
    "Pad",
    "PadChannels",
    "Padding",
    "Relu",
    "Reshape",
    "Resize",
    "Scale",
    "Select",
    "Sigmoid",
    "Softmax",
    "SpaceToDepth",
    "Stack",
    "Subsample",
    "Sum",
    "Take",
    "Transpose",
]
