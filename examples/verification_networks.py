"""Three small ONNX networks that have between them what breaks when a converter, an optimiser or a person makes a mistake.

In ONNX's text form; a name that ends in a shape is a random weight (`var...` is positive, `g...` of either sign).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser

Arrays = dict[str, np.ndarray[Any, Any]]
Edits = Sequence[tuple[str, str]]
Change = Callable[[Arrays], object]

WEIGHT = re.compile(r"\b([a-z]+)_(\d+(?:x\d+)*)\b")

IMAGE = "float[N,4,H,W] x"

NETWORKS = {
    "classifier": (
        IMAGE,
        "float[N,5] y",
        """
        stem = Conv<strides=[2,2], pads=[1,1,1,1]>(x, stem_8x4x3x3)
        norm = BatchNormalization<epsilon=0.001>(stem, g_8, b_8, m_8, var_8)
        act = Clip(norm, zero, six)
        three = Conv<pads=[1,1,1,1], group=2>(act, three_8x4x3x3, threebias_8)
        one = Conv(act, one_8x8x1x1)
        sum = Add(three, one)
        skip = Add(sum, act)
        body = Relu(skip)
        depth = Conv<strides=[2,2], pads=[1,1,1,1], group=8>(body, depth_8x1x3x3, depthbias_8)
        shuffled = Gather<axis=1>(depth, shuffle)
        wide = Conv<pads=[2,2,2,2], dilations=[2,2]>(shuffled, wide_6x8x3x3, widebias_6)
        average = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(shuffled)
        both = Concat<axis=1>(wide, average)
        hot = Relu(both)
        small = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(hot)
        flat = GlobalAveragePool(small)
        features = Flatten(flat)
        logits = Gemm<transB=1>(features, head_5x14, headbias_5)
        y = Softmax<axis=1>(logits)
        """,
    ),
    "decoder": (
        IMAGE,
        "float[N,3,H2,W2] y, float[N,3,H3,W3] side, float[N,3,H4,W4] small",
        """
        framed = Pad<mode="reflect">(x, frame)
        first = Conv(framed, first_8x4x3x3, firstbias_8)
        prelu = PRelu(first, slope_8x1x1)
        left, right = Split<axis=1>(prelu, halves)
        gate = Sigmoid(left)
        gated = Mul(gate, right)
        pooled = ReduceMean<axes=[2,3], keepdims=1>(gated)
        squeezed = Conv(pooled, squeeze_2x4x1x1, squeezebias_2)
        thin = LeakyRelu<alpha=0.1>(squeezed)
        excited = Conv(thin, excite_4x2x1x1)
        weights = HardSigmoid<alpha=0.2, beta=0.5>(excited)
        scaled = Mul(gated, weights)
        shifted = Sub(scaled, shift_4x1x1)
        normal = InstanceNormalization<epsilon=0.01>(shifted, g_4, b_4)
        up = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(normal, up_4x6x3x3, upbias_6)
        larger = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(shifted, , twice)
        mixed = Conv(larger, mix_6x4x1x1)
        joined = Add(up, mixed)
        act = HardSwish(joined)
        y = Conv<pads=[1,1,1,1]>(act, last_3x6x3x3, lastbias_3)
        tall = Conv<pads=[1,0,1,0]>(shifted, tall_3x4x3x1)
        flatwise = Conv<pads=[0,1,0,1]>(scaled, flat_3x4x1x3)
        side = Sub(tall, flatwise)
        picked = Slice(scaled, starts, ends, axes, steps)
        small = Conv(picked, pick_3x4x1x1)
        """,
    ),
    "tokens": (
        "float[N,T,8] x",
        "float[N,4] y",
        """
        normed = LayerNormalization<axis=-1, epsilon=0.001>(x, g_8, b_8)
        q = MatMul(normed, query_8x8)
        k = MatMul(normed, key_8x8)
        v = MatMul(normed, value_8x8)
        across = Transpose<perm=[0,2,1]>(k)
        raw = MatMul(q, across)
        scores = Mul(raw, temperature)
        attention = Softmax<axis=-1>(scores)
        looked = MatMul(attention, v)
        merged = Add(looked, x)
        hidden = MatMul(merged, up_8x16)
        biased = Add(hidden, upbias_16)
        root = Div(biased, sqrttwo)
        erf = Erf(root)
        more = Add(erf, unit)
        product = Mul(biased, more)
        gelu = Mul(product, half)
        down = MatMul(gelu, down_16x8)
        out = Add(merged, down)
        token = Gather<axis=1>(out, firstindex)
        tanh = Tanh(token)
        y = Gemm(tanh, head_8x4, headbias_4)
        """,
    ),
}

CONSTANTS = {
    "zero": np.float32(0),
    "six": np.float32(6),
    "shuffle": np.array([0, 4, 1, 5, 2, 6, 3, 7]),
    "frame": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "halves": np.array([4, 4]),
    "starts": np.array([1, 0]),
    "ends": np.array([2**31, 2**31]),
    "axes": np.array([2, 3]),
    "steps": np.array([2, 2]),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "temperature": np.float32(8**-0.5),
    "sqrttwo": np.float32(2**0.5),
    "unit": np.float32(1),
    "half": np.float32(0.5),
    "firstindex": np.array(0),
}


def build(name: str, seed: int = 0, edits: Edits = (), change: Change | None = None) -> onnx.ModelProto:
    """One of `NETWORKS` with random weights, batch norm statistics as after training.

    `edits`: text to be replaced in the body, each found once; `change` is given the arrays by name, to change or to add to.
    """
    x, results, body = NETWORKS[name]
    arrays = weights(body, seed)
    if change is not None:
        change(arrays)
    for old, new in edits:
        if body.count(old) != 1:
            raise ValueError(f"{old!r} is in {name} {body.count(old)} times")
        body = body.replace(old, new)
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {name} ({x}) => ({results}) {{ {body} }}')
    read = {operand for node in proto.graph.node for operand in node.input}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), key) for key, array in arrays.items() if key in read
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto


def weights(body: str, seed: int) -> Arrays:
    """The constants, and random arrays for the names that end in a shape."""
    rng = np.random.default_rng(seed)
    arrays: Arrays = {key: np.asarray(array) for key, array in CONSTANTS.items()}
    for key, kind, extents in dict.fromkeys((match[0], match[1], match[2]) for match in WEIGHT.finditer(body)):
        shape = tuple(map(int, extents.split("x")))
        fan_in = np.prod(shape[1:]) if len(shape) > 2 else shape[0] if len(shape) == 2 else 1
        array = rng.uniform(0.3, 2.0, shape) if kind == "var" else rng.standard_normal(shape) / np.sqrt(fan_in)
        arrays[key] = array.astype(np.float32)
    return arrays
