"""Models that are broken: small mistakes of the kinds that people, converters and optimisers make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from verification_networks import Arrays, Change, build

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Mutant:
    """A network with one thing changed: a piece of its text, or its weights."""

    network: str
    what: str
    old: str = ""
    new: str = ""
    change: Change | None = None

    def pair(self, seed: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """The network, and what is made of it."""
        return build(self.network, seed), build(self.network, seed, [(self.old, self.new)] if self.old else (), self.change)


def weight(name: str, change: Callable[[Array], Array]) -> Change:
    """One weight changed by a function."""

    def apply(arrays: Arrays) -> None:
        before = arrays[name]
        arrays[name] = np.ascontiguousarray(change(before.copy()), before.dtype).reshape(before.shape)

    return apply


def times(factor: float, *place: int) -> Callable[[Array], Array]:
    """One number, or all, by a factor."""

    def change(array: Array) -> Array:
        array[place or ...] *= np.float32(factor)
        return array

    return change


def swap(one: int, other: int, axis: int = 0) -> Callable[[Array], Array]:
    """Two channels exchanged."""

    def change(array: Array) -> Array:
        order = np.arange(array.shape[axis])
        order[[one, other]] = order[[other, one]]
        return array.take(order, axis)

    return change


def exchange(one: str, other: str) -> Change:
    """Two weights in each other's place."""

    def apply(arrays: Arrays) -> None:
        arrays[one], arrays[other] = arrays[other], arrays[one]

    return apply


def ignore_the_border(arrays: Arrays) -> None:
    """The constant before a padded convolution becomes its bias: right inside of the image only."""
    kernel, shift = arrays["tall_3x4x3x1"], arrays["shift_4x1x1"]
    arrays["tallbias"] = -np.einsum("oihw,i->o", kernel, shift[:, 0, 0])


def round_to(dtype: Any) -> Callable[[Array], Array]:
    """Numbers as a narrower type keeps them."""
    return lambda array: array.astype(dtype).astype(np.float32)


def quantise(array: Array) -> Array:
    """Numbers as eight bits keep them."""
    step = np.abs(array).max() / 127
    return np.asarray(np.round(array / step) * step)


def shift_one_tap(array: Array) -> Array:
    """The middle tap of one kernel and its neighbour exchanged."""
    array[3, 0, 1, [1, 2]] = array[3, 0, 1, [2, 1]]
    return array


def zero_channel(array: Array) -> Array:
    """One output channel pruned."""
    array[2] = 0
    return array


C, D, T = "classifier", "decoder", "tokens"
THREE, STEM, WIDE, DEPTH = "three_8x4x3x3", "stem_8x4x3x3", "wide_6x8x3x3", "depth_8x1x3x3"
CONV_THREE = "Conv<pads=[1,1,1,1], group=2>(act, three_8x4x3x3, threebias_8)"
POOL = "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>"
UP = "ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>"
NORM = "BatchNormalization<epsilon=0.001>(stem, g_8, b_8, m_8, var_8)"
GELU = """cubed = Mul(biased, biased) cubic = Mul(cubed, biased) part = Mul(cubic, small4) whole = Add(biased, part)
    inner = Mul(whole, rootpi) erf = Tanh(inner)"""


def add(**numbers: float) -> Change:
    """New constants, one number each."""
    return lambda arrays: arrays.update({name: np.asarray(number, np.float32) for name, number in numbers.items()})


MUTANTS = (
    Mutant(C, "one weight by a thousandth", change=weight(THREE, times(1.001, 3, 1, 0, 2))),
    Mutant(C, "one weight of the first layer by a thousandth", change=weight(STEM, times(1.001, 1, 2, 2, 0))),
    Mutant(C, "all weights of a layer by a hundred-thousandth", change=weight(THREE, times(1.00001))),
    Mutant(C, "one bias by a thousandth", change=weight("threebias_8", times(1.001, 5))),
    Mutant(C, "taps shifted by a column", change=weight(THREE, lambda w: np.roll(w, 1, axis=3))),
    Mutant(C, "one tap shifted", change=weight(DEPTH, shift_one_tap)),
    Mutant(C, "kernel mirrored", change=weight(THREE, lambda w: w[..., ::-1])),
    Mutant(C, "kernel transposed", change=weight(WIDE, lambda w: w.swapaxes(2, 3))),
    Mutant(C, "two output channels swapped", change=weight(WIDE, swap(1, 4))),
    Mutant(C, "two input channels swapped", change=weight("one_8x8x1x1", swap(2, 3, axis=1))),
    Mutant(C, "groups swapped", change=weight(THREE, lambda w: np.roll(w, 4, axis=0))),
    Mutant(C, "depthwise kernels permuted", change=weight(DEPTH, swap(0, 7))),
    Mutant(C, "two biases swapped", change=weight("depthbias_8", swap(0, 1))),
    Mutant(C, "one output channel pruned", change=weight(WIDE, zero_channel)),
    Mutant(C, "weights rounded to float16", change=weight(WIDE, round_to(np.float16))),
    Mutant(C, "weights rounded to bfloat16", change=weight(DEPTH, round_to(ml_dtypes.bfloat16))),
    Mutant(C, "weights quantised to 8 bits", change=weight(STEM, quantise)),
    Mutant(C, "a bias dropped", CONV_THREE, CONV_THREE.replace(", threebias_8", "")),
    Mutant(C, "padding moved along H", CONV_THREE, CONV_THREE.replace("[1,1,1,1]", "[0,1,2,1]")),
    Mutant(C, "stride phase", "<strides=[2,2], pads=[1,1,1,1], group=8>", "<strides=[2,2], pads=[0,0,2,2], group=8>"),
    Mutant(C, "stride phase of the first layer", "<strides=[2,2], pads=[1,1,1,1]>(x", "<strides=[2,2], pads=[0,1,2,1]>(x"),
    Mutant(C, "dilation lost", "<pads=[2,2,2,2], dilations=[2,2]>", "<pads=[1,1,1,1]>"),
    Mutant(C, "dilation lost along W", "<pads=[2,2,2,2], dilations=[2,2]>", "<pads=[2,1,2,1], dilations=[2,1]>"),
    Mutant(C, "eps of a batch norm left at its default", NORM, NORM.replace("<epsilon=0.001>", "")),
    Mutant(C, "sign of the batch norm's mean", change=weight("m_8", times(-1))),
    Mutant(C, "variance in place of the deviation", change=weight("var_8", lambda var: var * var)),
    Mutant(C, "gamma without its sign", change=weight("g_8", np.abs)),
    Mutant(C, "gamma forgotten", change=weight("g_8", np.ones_like)),
    Mutant(C, "beta and mean swapped", change=exchange("b_8", "m_8")),
    Mutant(C, "batch norm dropped", NORM, "Identity(stem)"),
    Mutant(C, "a branch dropped", "Add(three, one)", "Identity(three)"),
    Mutant(C, "a branch added twice", "Add(three, one)", "Add(three, three)"),
    Mutant(C, "a skip connection dropped", "Add(sum, act)", "Identity(sum)"),
    Mutant(C, "skip connection from before the activation", "Add(sum, act)", "Add(sum, norm)"),
    Mutant(C, "ReLU for ReLU6", "Clip(norm, zero, six)", "Relu(norm)"),
    Mutant(C, "ReLU6 for ReLU", "body = Relu(skip)", "body = Clip(skip, zero, six)"),
    Mutant(C, "clipped at 5.99", change=add(six=5.99)),
    Mutant(C, "activation before the addition", "skip = Add(sum, act)", "early = Relu(sum) skip = Add(early, act)"),
    Mutant(C, "average pool that leaves out the padding", POOL, POOL.replace("count_include_pad=1", "count_include_pad=0")),
    Mutant(C, "maximum for average", POOL, "MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>"),
    Mutant(C, "pool rounds its size down", ", ceil_mode=1", ""),
    Mutant(C, "global maximum for global average", "GlobalAveragePool", "GlobalMaxPool"),
    Mutant(C, "concatenation in another order", "(wide, average)", "(average, wide)"),
    Mutant(C, "channel shuffle dropped", "Gather<axis=1>(depth, shuffle)", "Identity(depth)"),
    Mutant(C, "channel shuffle of other groups", change=weight("shuffle", np.argsort)),
    Mutant(C, "Gemm's matrix read in the other order", change=weight("head_5x14", lambda w: w.reshape(14, 5).T)),
    Mutant(C, "Gemm's alpha", "Gemm<transB=1>", "Gemm<transB=1, alpha=0.999>"),
    Mutant(C, "softmax over the images", "Softmax<axis=1>(logits)", "Softmax<axis=0>(logits)"),
    Mutant(D, "edge for reflection", 'mode="reflect"', 'mode="edge"'),
    Mutant(D, "zeros for reflection", 'mode="reflect"', 'mode="constant"'),
    Mutant(D, "frame one pixel to the left", change=weight("frame", lambda pads: np.add(pads, [0, 0, 0, 1, 0, 0, 0, -1]))),
    Mutant(D, "slopes of other channels", change=weight("slope_8x1x1", lambda slope: np.roll(slope, 1))),
    Mutant(D, "halves swapped", "left, right = Split", "right, left = Split"),
    Mutant(D, "hard sigmoid for sigmoid", "gate = Sigmoid(left)", "gate = HardSigmoid(left)"),
    Mutant(D, "mean along one axis only", "axes=[2,3]", "axes=[3]"),
    Mutant(D, "broadcast along the wrong axis", "weights = HardSigmoid<alpha=0.2, beta=0.5>(excited)",
           "all = HardSigmoid<alpha=0.2, beta=0.5>(excited) weights = Gather<axis=0>(all, firstimage)",
           change=lambda arrays: arrays.update(firstimage=np.array([0]))),
    Mutant(D, "slope of another framework's hard sigmoid", "HardSigmoid<alpha=0.2", "HardSigmoid<alpha=0.16666667"),
    Mutant(D, "slope of a leaky ReLU", "alpha=0.1", "alpha=0.01"),
    Mutant(D, "difference the other way round", "Sub(scaled, shift_4x1x1)", "Sub(shift_4x1x1, scaled)"),
    Mutant(D, "sum for difference", "Sub(tall, flatwise)", "Add(tall, flatwise)"),
    Mutant(D, "operands of a difference swapped", "Sub(tall, flatwise)", "Sub(flatwise, tall)"),
    Mutant(D, "bias merged through padding", "tall = Conv<pads=[1,0,1,0]>(shifted, tall_3x4x3x1)",
           "tall = Conv<pads=[1,0,1,0]>(scaled, tall_3x4x3x1, tallbias)", change=ignore_the_border),
    Mutant(D, "eps of an instance norm", "epsilon=0.01", "epsilon=0.00001"),
    Mutant(D, "transposed kernel mirrored", change=weight("up_4x6x3x3", lambda w: w[..., ::-1, ::-1])),
    Mutant(D, "output padding at the wrong end", UP, UP.replace("pads=[1,1,1,1], output_padding=[1,1]", "pads=[0,0,1,1]")),
    Mutant(D, "nearest for linear", 'mode="linear"', 'mode="nearest"'),
    Mutant(D, "resize by other corners", '"half_pixel"', '"asymmetric"'),
    Mutant(D, "swish for hard swish", "act = HardSwish(joined)", "soft = Sigmoid(joined) act = Mul(joined, soft)"),
    Mutant(D, "slice that is off by one", change=weight("starts", lambda starts: np.add(starts, [0, 1]))),
    Mutant(D, "padding of a tall kernel moved", "<pads=[1,0,1,0]>", "<pads=[2,0,0,0]>"),
    Mutant(T, "eps of a layer norm", ", epsilon=0.001", ""),
    Mutant(T, "layer norm dropped", "LayerNormalization<axis=-1, epsilon=0.001>(x, g_8, b_8)", "Identity(x)"),
    Mutant(T, "queries and keys swapped", change=exchange("query_8x8", "key_8x8")),
    Mutant(T, "a matrix transposed", change=weight("value_8x8", np.transpose)),
    Mutant(T, "temperature without its root", change=add(temperature=1 / 8)),
    Mutant(T, "softmax along the other axis", "Softmax<axis=-1>", "Softmax<axis=1>"),
    Mutant(T, "a residual connection dropped", "Add(looked, x)", "Identity(looked)"),
    Mutant(T, "GELU by its tanh approximation", "root = Div(biased, sqrttwo)\n        erf = Erf(root)", GELU,
           change=add(small4=0.044715, rootpi=(2 / np.pi) ** 0.5)),
    Mutant(T, "another token", change=weight("firstindex", lambda index: index - 1)),
    Mutant(T, "the last bias dropped", "Gemm(tanh, head_8x4, headbias_4)", "Gemm(tanh, head_8x4)"),
)  # fmt: skip
