"""Models that are equal by construction, and written in another way: no comparison may call them different."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from verification_mutants import CONV_THREE, NORM, POOL, UP, C, Change, D, T
from verification_networks import Arrays, Edits, build

import repcompiler


@dataclass(frozen=True)
class Pair:
    """A network rewritten by its text and its weights, or as a whole."""

    network: str
    what: str
    edits: Edits = ()
    change: Change | None = None
    whole: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None

    def pair(self, seed: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """The network, and its other form."""
        other = build(self.network, seed, self.edits, self.change)
        return build(self.network, seed), other if self.whole is None else self.whole(other)


STEM = "stem = Conv<strides=[2,2], pads=[1,1,1,1]>(x, stem_8x4x3x3)"
WIDE = "wide = Conv<pads=[2,2,2,2], dilations=[2,2]>(shuffled, wide_6x8x3x3, widebias_6)"
GELU = """root = Div(biased, sqrttwo)
        erf = Erf(root)
        more = Add(erf, unit)
        product = Mul(biased, more)
        gelu = Mul(product, half)"""
LAYER_NORM = "normed = LayerNormalization<axis=-1, epsilon=0.001>(x, g_8, b_8)"


def f32(array: object) -> np.ndarray:
    return np.asarray(array, np.float64).astype(np.float32)


def permute_hidden(w: Arrays) -> None:
    order = np.array([3, 0, 5, 1, 4, 2])
    w["wide_6x8x3x3"], w["widebias_6"] = w["wide_6x8x3x3"][order], w["widebias_6"][order]
    w["head_5x14"] = w["head_5x14"][:, [*order, *range(6, 14)]]


def permute_neurons(w: Arrays) -> None:
    order = np.random.default_rng(0).permutation(16)
    w["up_8x16"], w["upbias_16"], w["down_16x8"] = w["up_8x16"][:, order], w["upbias_16"][order], w["down_16x8"][order]


def split_outputs(w: Arrays) -> None:
    w["upper"], w["lower"] = w["wide_6x8x3x3"][:2], w["wide_6x8x3x3"][2:]
    w["upperbias"], w["lowerbias"] = w["widebias_6"][:2], w["widebias_6"][2:]


def split_inputs(w: Arrays) -> None:
    w["front"], w["back"], w["widths"] = w["wide_6x8x3x3"][:, :3], w["wide_6x8x3x3"][:, 3:], np.array([3, 5])


def split_kernel(w: Arrays) -> None:
    rng = np.random.default_rng(0)
    part = f32(rng.standard_normal(w["wide_6x8x3x3"].shape) / 8)
    w["part"], w["other"] = part, f32(w["wide_6x8x3x3"].astype(np.float64) - part)


def insert_norms(w: Arrays) -> None:
    """y = (x - m) g / sqrt(v + eps) + b, and the affine map that takes it back, as batch norms."""
    rng = np.random.default_rng(0)
    w["ng"], w["nb"], w["nm"], w["nv"] = (
        f32(a) for a in (rng.uniform(0.5, 2, 8), *rng.normal(size=(2, 8)), rng.uniform(0.5, 2, 8))
    )
    scale = w["ng"].astype(np.float64) / np.sqrt(w["nv"].astype(np.float64) + np.float32(1e-5))
    w["vm"], w["vb"], w["vv"] = w["nb"], w["nm"], np.ones(8, np.float32)
    w["vg"] = f32(np.sqrt(1 + np.float64(np.float32(1e-5))) / scale)


def fold_norm(w: Arrays) -> None:
    g, b, m, var = (w[f"{name}_8"].astype(np.float64) for name in ("g", "b", "m", "var"))
    scale = g / np.sqrt(var + np.float32(0.001))
    w["folded"], w["foldedbias"] = f32(w["stem_8x4x3x3"] * scale[:, None, None, None]), f32(b - m * scale)


def scale_through(w: Arrays) -> None:
    """relu(s x) = s relu(x): what the reader divides by."""
    for name in ("depth_8x1x3x3", "depthbias_8"):
        w[name] = f32(w[name] * np.float64(3.7))
    w["wide_6x8x3x3"] = f32(w["wide_6x8x3x3"] / np.float64(3.7))
    w["pooled"] = f32(np.full((8, 1, 3, 3), 1 / 9 / 3.7))


def dense(w: Arrays) -> None:
    kernel = np.zeros((8, 8, 3, 3), np.float32)
    kernel[np.arange(8), np.arange(8)] = w["depth_8x1x3x3"][:, 0]
    w["dense"] = kernel


def framed_pointwise(w: Arrays) -> None:
    w["framed"] = np.pad(w["one_8x8x1x1"], ((0, 0), (0, 0), (1, 1), (1, 1)))


def undilated(w: Arrays) -> None:
    kernel = np.zeros((6, 8, 5, 5), np.float32)
    kernel[:, :, ::2, ::2] = w["wide_6x8x3x3"]
    w["sparse"] = kernel


def shuffle_kernel(w: Arrays) -> None:
    w["onehot"] = np.eye(8, dtype=np.float32)[w["shuffle"]][:, :, None, None]


def averaging(w: Arrays) -> None:
    w["ninth"] = f32(np.full((8, 1, 3, 3), 1 / 9))


def subsampled(w: Arrays) -> None:
    w |= {"from": np.array([0, 0]), "to": np.array([2**31] * 2), "spatial": np.array([2, 3]), "two": np.array([2, 2])}


def scale_queries(w: Arrays) -> None:
    w["query_8x8"] = f32(w["query_8x8"] * w["temperature"].astype(np.float64))


def one_matrix(w: Arrays) -> None:
    w["qkv"], w["eights"] = np.concatenate([w["query_8x8"], w["key_8x8"], w["value_8x8"]], 1), np.array([8, 8, 8])


def numbers(**values: object) -> Change:
    return lambda w: w.update({name: np.asarray(value) for name, value in values.items()})


def as_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    nodes = [onnx.helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in proto.graph.initializer]
    nodes += list(proto.graph.node)
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def renamed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Every value under a number, inputs and outputs too."""
    names: dict[str, str] = {"": ""}
    for part in (*proto.graph.input, *proto.graph.initializer, *proto.graph.output):
        part.name = names.setdefault(part.name, f"v{len(names)}")
    for node in proto.graph.node:
        for field in (node.input, node.output):
            field[:] = [names.setdefault(name, f"v{len(names)}") for name in field]
    return proto


def other_order(proto: onnx.ModelProto) -> onnx.ModelProto:
    """What is computed last possible, in reverse: still after what it reads."""
    waiting, made = list(reversed(proto.graph.node)), {value.name for value in (*proto.graph.input, *proto.graph.initializer)}
    del proto.graph.node[:]
    while waiting:
        node = next(node for node in waiting if all(not name or name in made for name in node.input))
        waiting.remove(node)
        made.update(node.output)
        proto.graph.node.append(node)
    return proto


def plain(proto: onnx.ModelProto) -> onnx.ModelProto:
    return repcompiler.compile(proto, objective="plain", verify=False)


def simplified(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnxsim

    return onnxsim.simplify(proto)[0]


def newer(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.version_converter.convert_version(proto, 18)


PAIRS = (
    Pair(C, "hidden channels permuted", change=permute_hidden),
    Pair(C, "a convolution split by output channels", [(WIDE, """
        u = Conv<pads=[2,2,2,2], dilations=[2,2]>(shuffled, upper, upperbias)
        l = Conv<pads=[2,2,2,2], dilations=[2,2]>(shuffled, lower, lowerbias) wide = Concat<axis=1>(u, l)""")], split_outputs),
    Pair(C, "a convolution split by input channels", [(WIDE, """
        s, t = Split<axis=1>(shuffled, widths) u = Conv<pads=[2,2,2,2], dilations=[2,2]>(s, front, widebias_6)
        l = Conv<pads=[2,2,2,2], dilations=[2,2]>(t, back) wide = Add(u, l)""")], split_inputs),
    Pair(C, "a kernel split into two that add up", [(WIDE, """u = Conv<pads=[2,2,2,2], dilations=[2,2]>(shuffled, part)
        l = Conv<pads=[2,2,2,2], dilations=[2,2]>(shuffled, other, widebias_6) wide = Add(u, l)""")], split_kernel),
    Pair(C, "batch norms inserted that undo each other", [("(shuffled, wide", """(back, wide"""), ("wide = Conv", """
        there = BatchNormalization(shuffled, ng, nb, nm, nv) back = BatchNormalization(there, vg, vb, vm, vv)
        wide = Conv""")], insert_norms),
    Pair(C, "a batch norm folded", [(STEM, ""), (f"norm = {NORM}",
        "norm = Conv<strides=[2,2], pads=[1,1,1,1]>(x, folded, foldedbias)")], fold_norm),
    Pair(C, "a scale moved through layers", [(POOL + "(shuffled)", "Conv<pads=[1,1,1,1], group=8>(shuffled, pooled)")],
         scale_through),
    Pair(C, "additions reordered", [("sum = Add(three, one)", "sum = Add(act, one)"), ("Add(sum, act)", "Add(three, sum)")]),
    Pair(C, "a depthwise kernel as a dense one", [("group=8>(body, depth_8x1x3x3", "group=1>(body, dense")], dense),
    Pair(C, "a pointwise kernel with a frame of zeros", [("Conv(act, one_8x8x1x1)", "Conv<pads=[1,1,1,1]>(act, framed)")],
         framed_pointwise),
    Pair(C, "a dilated kernel with its zeros", [("<pads=[2,2,2,2], dilations=[2,2]>(shuffled, wide_6x8x3x3",
         "<pads=[2,2,2,2]>(shuffled, sparse")], undilated),
    Pair(C, "a shuffle as a convolution", [("Gather<axis=1>(depth, shuffle)", "Conv(depth, onehot)")], shuffle_kernel),
    Pair(C, "an average as a convolution", [(POOL + "(shuffled)", "Conv<pads=[1,1,1,1], group=8>(shuffled, ninth)")],
         averaging),
    Pair(C, "a stride as a selection", [(STEM, """dense = Conv<pads=[1,1,1,1]>(x, stem_8x4x3x3)
        stem = Slice(dense, from, to, spatial, two)""")], subsampled),
    Pair(C, "a clip as minimum and maximum", [("Clip(norm, zero, six)", "Min(norm, six)"), ("act = ", "low = "),
         ("three = ", "act = Max(low, zero) three = ")]),
    Pair(C, "a ReLU as maximum", [("Relu(skip)", "Max(skip, zero)")]),
    Pair(C, "a global average as a mean", [("GlobalAveragePool(small)", "ReduceMean<axes=[2,3]>(small)")]),
    Pair(C, "padding as a node", [(CONV_THREE, "Conv<group=2>(padded, three_8x4x3x3, threebias_8)"),
         ("three = ", "padded = Pad(act, around) three = ")], numbers(around=[0, 0, 1, 1, 0, 0, 1, 1])),
    Pair(D, "output padding as less cropping", [(UP, UP.replace("pads=[1,1,1,1], output_padding=[1,1]", "pads=[1,1,0,0]"))]),
    Pair(D, "hard swish as a product", [("act = HardSwish(joined)", """
        h = HardSigmoid<alpha=0.16666667, beta=0.5>(joined) act = Mul(joined, h)""")]),
    Pair(D, "PReLU as two ReLUs", [("prelu = PRelu(first, slope_8x1x1)", """p = Relu(first) n = Neg(first) q = Relu(n)
        sq = Mul(q, slope_8x1x1) prelu = Sub(p, sq)""")]),
    Pair(D, "a product reordered", [("Mul(gate, right)", "Mul(right, gate)"), ("Mul(gated, weights)", "Mul(weights, gated)")]),
    Pair(D, "a pointwise layer before the resize", [("Resize<mode", "Resize<mode"), ("(shifted, , twice)", "(thick, , twice)"),
         ("larger = ", "thick = Conv(shifted, mix_6x4x1x1) larger = "), ("mixed = Conv(larger, mix_6x4x1x1)",
         "mixed = Identity(larger)")]),
    Pair(D, "sigmoid as a tanh", [("gate = Sigmoid(left)", """hl = Mul(left, half) th = Tanh(hl) ht = Mul(th, half)
        gate = Add(ht, half)""")]),
    Pair(T, "hidden neurons permuted", change=permute_neurons),
    Pair(T, "the temperature in the queries", [("Mul(raw, temperature)", "Identity(raw)")], scale_queries),
    Pair(T, "queries, keys and values by one matrix", [("q = MatMul(normed, query_8x8)", """
        all = MatMul(normed, qkv) q, k, v = Split<axis=-1>(all, eights)"""), ("k = MatMul(normed, key_8x8)", ""),
        ("v = MatMul(normed, value_8x8)", "")], one_matrix),
    Pair(T, "a layer norm written out", [(LAYER_NORM, """mu = ReduceMean<axes=[-1]>(x) centred = Sub(x, mu)
        square = Mul(centred, centred) va = ReduceMean<axes=[-1]>(square) ve = Add(va, eps) sd = Sqrt(ve)
        unitary = Div(centred, sd) ga = Mul(unitary, g_8) normed = Add(ga, b_8)""")], numbers(eps=np.float32(0.001))),
    Pair(T, "GELU in another order", [(GELU, """root = Mul(biased, reciprocal) erf = Erf(root) h = Mul(erf, half)
        more = Add(h, half) gelu = Mul(more, biased)""")], numbers(reciprocal=f32(2**-0.5))),
    Pair(T, "Gemm as a product and a sum", [("y = Gemm(tanh, head_8x4, headbias_4)",
         "prod = MatMul(tanh, head_8x4) y = Add(prod, headbias_4)")]),
    *(Pair(network, what, whole=whole) for network in (C, D, T) for what, whole in (
        ("weights as Constant nodes", as_constants),
        ("everything renamed", renamed),
        ("nodes in another order", other_order),
        ("the next operator set", newer),
        ("compiled by repcompiler", plain),
        ("simplified by onnxsim", simplified),
    )),
)  # fmt: skip
