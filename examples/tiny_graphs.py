"""Tiny ONNX graphs with one exact re-parameterisation each, named after the law that gives it.

    model(CASES["conv, BN"])

A graph is written in ONNX's own text form with four shorthands: a name that ends in a shape is a random weight of that shape
(positive where it starts with `var` or `positive`), a list among the operands is a constant of integers, `BN(x, a_8)` is a
batch normalisation with four such weights, and `[P]` among the attributes stands for one pixel of padding all around.
Sources of the laws: docs/writing_a_pass.md and the docstrings in passes/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference

NDArray = np.ndarray[Any, Any]

BATCH_NORM = re.compile(r"BN\((\w+), ([a-z]+)_(\d+)\)")
INTEGERS = re.compile(r"<[^>]*>|(?<=[ (])\[([-\d,]+)\]")
WEIGHT = re.compile(r"\b([a-z]+)_(\d+(?:x\d+)*)\b")
P = "pads=[1,1,1,1]"


@dataclass(frozen=True)
class Case:
    body: str
    form: str
    """The operators of its plainest exact form."""
    x: str = "N,4,9,11"
    z: str = ""
    """The shape of a second input, if there is one."""
    outputs: tuple[str, ...] = ("y",)
    weights: Mapping[str, NDArray] = field(default_factory=dict)
    """Weights that are not random."""
    numbers: int | None = None
    """Weights that the exact form stores, where fewer of them are the point."""
    objective: str = "plain"

    @property
    def nodes(self) -> int:
        return len(self.form.split())


def model(case: Case) -> onnx.ModelProto:
    """The graph, with random weights; gamma of both signs, mean and beta far from zero."""
    arrays = dict(case.weights)

    def constant(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        arrays[f"constant{len(arrays)}"] = np.array(match[1].split(","), np.int64)
        return f"constant{len(arrays) - 1}"

    body = BATCH_NORM.sub(r"BatchNormalization(\1, gamma\2_\3, beta\2_\3, mean\2_\3, var\2_\3)", case.body)
    body = INTEGERS.sub(constant, body.replace("[P]", P))
    rng = np.random.default_rng(0)
    for name, kind, extents in dict.fromkeys(match.group(0, 1, 2) for match in WEIGHT.finditer(body)):
        shape = tuple(map(int, extents.split("x")))
        positive = kind.startswith(("var", "positive"))
        arrays[name] = (rng.uniform(0.3, 2.0, shape) if positive else rng.standard_normal(shape)).astype(np.float32)
    inputs = ", ".join(f"float[{shape}] {name}" for name, shape in (("x", case.x), ("z", case.z)) if shape)
    outputs = ", ".join(f"float[] {name}" for name in case.outputs)
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> tiny ({inputs}) => ({outputs}) {{ {body} }}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    for output, inferred in zip(proto.graph.output, onnx.shape_inference.infer_shapes(proto).graph.output, strict=True):
        output.CopyFrom(inferred)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _block_diagonal() -> NDArray:
    kernel = np.random.default_rng(1).standard_normal((4, 4, 3, 3)).astype(np.float32)
    return kernel * np.kron(np.eye(2, dtype=np.float32), np.ones((2, 2), np.float32))[..., None, None]


def _framed() -> NDArray:
    kernel = np.random.default_rng(1).standard_normal((4, 4, 3, 3)).astype(np.float32)
    return np.pad(kernel, ((0, 0), (0, 0), (1, 1), (1, 1)))


def _lattice() -> NDArray:
    kernel = np.zeros((4, 4, 5, 5), np.float32)
    kernel[..., ::2, ::2] = np.random.default_rng(1).standard_normal((4, 4, 3, 3))
    return kernel


def _rank_one() -> NDArray:
    column, row = np.random.default_rng(1).integers(1, 8, (2, 4, 1, 7)).astype(np.float32)
    return column[..., :, None] * row[..., None, :]


def _twice() -> dict[str, NDArray]:
    rng = np.random.default_rng(1)
    kernel, bias = rng.standard_normal((4, 4, 3, 3)), rng.standard_normal(4)
    return {"kernel": np.repeat(kernel, 2, 0).astype(np.float32), "bias": np.repeat(bias, 2).astype(np.float32)}


GATED = """
    r, u = Split <axis=1> (x, [4,4])  g = Conv <[P], group=2> (r, a_8x2x3x3)  p = Conv(r, b_8x4x1x1)  s = Add(g, p)
    one = BN(s, m_8)  q = Conv(u, c_8x4x1x1, d_8)  two = BN(q, n_8)  i = GlobalAveragePool(one)  j = GlobalAveragePool(two)
    k = Concat <axis=2> (i, j)  w = Softmax <axis=2> (k)  v, t = Split <axis=2> (w, [1,1])  h = Mul(one, v)  l = Mul(two, t)
    y = Add(h, l)"""

DYNAMIC = """
    m = GlobalAveragePool(x)  f = Flatten(m)  l = Gemm(f, r_4x3, q_3)  a = Sigmoid(l)  k = MatMul(a, e_3x288)
    w = Reshape(k, [8,4,3,3])  c = Conv <[P]> (x, w)  y = BN(c, n_8)"""

WEIGHT_NORM = """
    q = Mul(v_6x4x3x3, v_6x4x3x3)  n = ReduceSum(q, [1,2,3])  s = Sqrt(n)  d = Div(v_6x4x3x3, s)  w = Mul(d, g_6x1x1x1)
    y = Conv <[P]> (x, w, b_6)"""

CASES: dict[str, Case] = {
    # one after the other
    "conv, BN": Case("c = Conv <[P]> (x, a_8x4x3x3, b_8)  y = BN(c, n_8)", "Conv"),
    "conv, BN (1-D)": Case("c = Conv <pads=[1,1]> (x, a_8x4x3, b_8)  y = BN(c, n_8)", "Conv", "N,4,9"),
    "conv, BN (3-D)": Case("c = Conv (x, a_8x4x3x2x3, b_8)  y = BN(c, n_8)", "Conv", "N,4,5,6,7"),
    "BN, conv": Case("n = BN(x, n_4)  y = Conv(n, a_8x4x3x3, b_8)", "Conv"),
    "1x1, 3x3": Case("c = Conv(x, a_6x4x1x1, b_6)  y = Conv(c, d_5x6x3x3, e_5)", "Conv"),
    "3x3, 1x1": Case("c = Conv <[P], strides=[2,2]> (x, a_6x4x3x3, b_6)  y = Conv(c, d_5x6x1x1, e_5)", "Conv"),
    "3x3, 3x3": Case("c = Conv <[P]> (x, a_6x4x3x3, b_6)  y = Conv(c, d_5x6x3x3, e_5)", "Conv"),
    "3, 3 (1-D)": Case("c = Conv <strides=[2]> (x, a_6x4x3, b_6)  y = Conv(c, d_5x6x3, e_5)", "Conv", "N,4,15"),
    "depthwise, pointwise": Case("c = Conv <[P], group=4> (x, a_4x1x3x3, b_4)  y = Conv(c, d_5x4x1x1, e_5)", "Conv"),
    "pointwise, depthwise": Case("c = Conv(x, a_6x4x1x1, b_6)  y = Conv <group=6> (c, d_6x1x3x3, e_6)", "Conv"),
    "depthwise, depthwise": Case("c = Conv <group=4> (x, a_4x1x3x3, b_4)  y = Conv <group=4> (c, d_4x1x3x3, e_4)", "Conv"),
    "grouped, grouped": Case("c = Conv <group=2> (x, a_6x2x3x3, b_6)  y = Conv <group=2> (c, d_4x3x3x3, e_4)", "Conv"),
    "pad, conv": Case("p = Pad(x, [0,0,1,2,0,0,0,1])  y = Conv(p, a_5x4x3x3, b_5)", "Conv"),
    "average pool, conv": Case(
        "p = AveragePool <kernel_shape=[2,2], strides=[2,2]> (x)  y = Conv(p, a_5x4x3x3, b_5)", "Conv", "N,4,10,12"
    ),
    "add, conv, mul by constants": Case("s = Add(x, k_1x4x1x1)  c = Conv(s, a_6x4x1x1, b_6)  y = Mul(c, m_1x6x1x1)", "Conv"),
    "channel shuffle, conv": Case(
        "r = Reshape(x, [0,2,2,9,11])  t = Transpose <perm=[0,2,1,3,4]> (r)  f = Reshape(t, [0,4,9,11])"
        "  y = Conv <[P]> (f, a_5x4x3x3, b_5)",
        "Conv",
    ),
    "space to depth, 1x1": Case("s = SpaceToDepth <blocksize=2> (x)  y = Conv(s, a_6x16x1x1, b_6)", "Conv", "N,4,8,10"),
    "strided slices, concat, 3x3": Case(
        "t = Slice(x, [0], [99], [2], [2])  b = Slice(x, [1], [99], [2], [2])  c = Slice(t, [0], [99], [3], [2])"
        "  d = Slice(b, [0], [99], [3], [2])  e = Slice(t, [1], [99], [3], [2])  f = Slice(b, [1], [99], [3], [2])"
        "  s = Concat <axis=1> (c, d, e, f)  y = Conv <[P]> (s, a_6x16x3x3, b_6)",
        "Conv",
        "N,4,8,10",
    ),
    "transpose, MatMul, transpose, BN": Case(
        "t = Transpose <perm=[0,2,3,1]> (x)  m = MatMul(t, a_4x6)  b = Add(m, b_6)  s = Transpose <perm=[0,3,1,2]> (b)"
        "  y = BN(s, n_6)",
        "Conv",
    ),
    "LeakyRelu of slope one, between 1x1": Case(
        "a = Conv(x, a_6x4x1x1, b_6)  l = LeakyRelu <alpha=1.0> (a)  y = Conv(l, c_5x6x1x1, d_5)", "Conv"
    ),
    # side by side
    "3x3 + 1x1": Case("a = Conv <[P]> (x, a_5x4x3x3, b_5)  b = Conv(x, c_5x4x1x1, d_5)  y = Add(a, b)", "Conv"),
    "3x3 + 1x3 + 3x1": Case(
        "a = Conv <[P]> (x, a_5x4x3x3)  b = Conv <pads=[0,1,0,1]> (x, b_5x4x1x3)  c = Conv <pads=[1,0,1,0]> (x, c_5x4x3x1)"
        "  d = Add(a, b)  y = Add(d, c)",
        "Conv",
    ),
    "3x3 + cropped 1x3 + cropped 3x1": Case(
        "a = Conv(x, a_5x4x3x3)  u = Slice(x, [1], [8], [2])  b = Conv(u, b_5x4x1x3)  v = Slice(x, [1], [10], [3])"
        "  c = Conv(v, c_5x4x3x1)  d = Add(a, b)  y = Add(d, c)",
        "Conv",
    ),
    "conv + identity": Case("c = Conv <[P], group=2> (x, a_4x2x3x3, b_4)  y = Add(c, x)", "Conv"),
    "conv + identity (1-D)": Case("c = Conv <pads=[2,2]> (x, a_4x4x5, b_4)  y = Add(c, x)", "Conv", "N,4,9"),
    "conv + identity (3-D)": Case("c = Conv <pads=[1,1,1,1,1,1]> (x, a_4x4x3x3x3)  y = Add(c, x)", "Conv", "N,4,5,6,7"),
    "BN(conv) + BN": Case("c = Conv <[P]> (x, a_4x4x3x3)  m = BN(c, m_4)  n = BN(x, n_4)  y = Add(m, n)", "Conv"),
    "dilated + dense": Case(
        "a = Conv <pads=[2,2,2,2], dilations=[2,2]> (x, a_5x4x3x3, b_5)  b = Conv <[P]> (x, c_5x4x3x3)  y = Add(a, b)", "Conv"
    ),
    "strided 3x3 + strided 1x1": Case(
        "a = Conv <[P], strides=[2,2]> (x, a_5x4x3x3)  b = Conv <strides=[2,2]> (x, b_5x4x1x1, c_5)  y = Add(a, b)", "Conv"
    ),
    "conv + average pool": Case(
        "a = Conv <[P]> (x, a_4x4x3x3, b_4)  b = AveragePool <kernel_shape=[3,3], [P], count_include_pad=1> (x)  y = Add(a, b)",
        "Conv",
    ),
    "conv - conv": Case("a = Conv <[P]> (x, a_5x4x3x3, b_5)  b = Conv(x, c_5x4x1x1, d_5)  y = Sub(a, b)", "Conv"),
    "x + layer scale": Case("c = Conv <[P]> (x, a_4x4x3x3, b_4)  s = Mul(c, s_4x1x1)  y = Add(x, s)", "Conv"),
    "sum of two inputs, BN": Case(
        "a = Conv(x, a_5x4x1x1)  b = Conv <[P]> (z, b_5x3x3x3)  s = Add(a, b)  y = BN(s, n_5)", "Conv Conv Add", z="N,3,9,11"
    ),
    # concatenation and parts
    "concat of convs": Case(
        "a = Conv <[P]> (x, a_5x4x3x3, b_5)  b = Conv(x, c_3x4x1x1, d_3)  y = Concat <axis=1> (a, b)", "Conv"
    ),
    "concat of convs, 1x1": Case(
        "a = Conv <[P]> (x, a_5x4x3x3, b_5)  b = Conv(x, c_3x4x1x1, d_3)  c = Concat <axis=1> (a, b)  y = Conv(c, e_4x8x1x1)",
        "Conv",
    ),
    "concat of convs on two inputs, 1x1": Case(
        "a = Conv(x, a_8x4x1x1, b_8)  b = Conv <[P]> (z, b_8x3x3x3)  c = Concat <axis=1> (a, b)  y = Conv(c, e_5x16x1x1)",
        "Conv Conv Add",
        z="N,3,9,11",
        numbers=160,
        objective="params",
    ),
    "split, convs, concat": Case(
        "u, v = Split <axis=1> (x, [2,2])  a = Conv <[P]> (u, a_2x2x3x3, b_2)  b = Conv <[P]> (v, c_2x2x3x3, d_2)"
        "  y = Concat <axis=1> (a, b)",
        "Conv",
    ),
    "partial conv": Case(
        "u, v = Split <axis=1> (x, [1,3])  a = Conv <[P]> (u, a_1x1x3x3, b_1)  y = Concat <axis=1> (a, v)", "Conv"
    ),
    # fully connected layers
    "Gemm, Gemm": Case("a = Gemm(x, a_7x6, b_6)  y = Gemm(a, c_6x5, d_5)", "Gemm", "N,7"),
    "Gemm + Gemm": Case("a = Gemm(x, a_7x5, b_5)  b = Gemm <transB=1> (x, c_5x7, d_5)  y = Add(a, b)", "Gemm", "N,7"),
    "MatMul, add, BN": Case("a = MatMul(x, a_7x5)  b = Add(a, b_5)  y = BN(b, n_5)", "Gemm", "N,7"),
    "conv, flatten, Gemm": Case(
        "c = Conv <[P]> (x, a_6x2x3x3, b_6)  f = Flatten(c)  y = Gemm(f, c_120x5, d_5)", "Flatten Gemm", "N,2,4,5"
    ),
    "BN, flatten, Gemm": Case("n = BN(x, n_2)  f = Flatten(n)  y = Gemm(f, c_40x5, d_5)", "Flatten Gemm", "N,2,4,5"),
    "conv + fully connected": Case(
        "c = Conv <[P]> (x, a_2x2x3x3, b_2)  f = Flatten(c)  g = Flatten(x)  h = Gemm(g, c_40x40, d_40)  y = Add(f, h)",
        "Flatten Gemm",
        "N,2,4,5",
    ),
    # transposed convolutions, and other resolutions
    "ConvTranspose, BN": Case(
        "c = ConvTranspose <strides=[2,2], group=2> (x, a_4x3x3x3, b_6)  y = BN(c, n_6)", "ConvTranspose"
    ),
    "ConvTranspose, 1x1": Case(
        "c = ConvTranspose <strides=[2,2]> (x, a_4x6x3x3, b_6)  y = Conv(c, d_5x6x1x1, e_5)", "ConvTranspose"
    ),
    "1x1, ConvTranspose": Case(
        "c = Conv(x, a_6x4x1x1)  y = ConvTranspose <strides=[2,2]> (c, d_6x5x3x3, e_5)", "ConvTranspose"
    ),
    "conv, nearest, 1x1": Case(
        'c = Conv <[P]> (x, a_6x4x3x3, b_6)  r = Resize <mode="nearest", coordinate_transformation_mode="asymmetric",'
        ' nearest_mode="floor"> (c, roi, scales)  y = Conv(r, d_5x6x1x1, e_5)',
        "Conv Resize",
        weights={"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    # across what is not linear, or read twice
    "conv, ReLU, positive scale": Case(
        "c = Conv <[P]> (x, a_8x4x3x3, b_8)  r = Relu(c)  y = Mul(r, positive_8x1x1)", "Conv Relu"
    ),
    "conv, max pool, positive scale": Case(
        "c = Conv <[P]> (x, a_8x4x3x3, b_8)  p = MaxPool <kernel_shape=[2,2]> (c)  y = Mul(p, positive_8x1x1)", "Conv MaxPool"
    ),
    "BN read twice": Case(
        "n = BN(x, n_4)  a = Conv(n, a_5x4x3x3, b_5)  y = Relu(a)  w = Conv(n, c_6x4x1x1, d_6)",
        "Conv Relu Conv",
        outputs=("y", "w"),
    ),
    "gate between two convs": Case(GATED, "Conv Conv GlobalAveragePool Sigmoid Mul Add", "N,8,9,11"),
    "dynamic conv, BN": Case(DYNAMIC, "GlobalAveragePool Flatten Gemm Sigmoid MatMul Reshape Conv", "1,4,9,11"),
    # expressions of weights
    "weight norm": Case(WEIGHT_NORM, "Conv"),
    "W + s B A": Case("m = MatMul(b_7x2, a_2x5)  s = Mul(m, s_1)  w = Add(w_7x5, s)  y = MatMul(x, w)", "MatMul", "N,7"),
    # structure that a kernel hides
    "block-diagonal kernel": Case(
        "y = Conv <[P]> (x, kernel, b_4)", "Conv", weights={"kernel": _block_diagonal()}, numbers=76, objective="params"
    ),
    "kernel in a frame of zeros": Case(
        "y = Conv <pads=[2,2,2,2]> (x, kernel, b_4)", "Conv", weights={"kernel": _framed()}, numbers=148, objective="params"
    ),
    "kernel on a lattice": Case(
        "y = Conv <pads=[2,2,2,2]> (x, kernel, b_4)", "Conv", weights={"kernel": _lattice()}, numbers=148, objective="params"
    ),
    "kernel of rank one": Case(
        "y = Conv <pads=[3,3,3,3], group=4> (x, kernel, b_4)",
        "Conv Conv",
        weights={"kernel": _rank_one()},
        numbers=64,
        objective="params",
    ),
    "equal output channels": Case(
        "c = Conv <[P]> (x, kernel, bias)  r = Relu(c)  y = Conv(r, d_4x8x1x1, e_4)",
        "Conv Relu Conv",
        weights=_twice(),
        numbers=168,
        objective="params",
    ),
}
