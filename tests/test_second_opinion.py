"""Where another tool can decide whether two models are equal, it agrees."""

import importlib

import numpy as np
import onnx
import onnx.parser
import pytest

import repcompiler

PAIR = """
<ir_version: 8, opset_import: ["" : 17]> g (float[1,1,3,3] x) => (float[1,1,3,3] y) {
    a = Conv<pads=[1,1,1,1]>(x, w)  b = Conv(x, v)  y = Add(a, b)
}
"""


def test_onnxsim_certifies_a_small_pair():
    pytest.importorskip("z3.z3")
    certify = importlib.import_module("onnxsim.certify").certify
    source = onnx.parser.parse_model(PAIR)
    rng = np.random.default_rng(0)
    for name, size in (("w", 3), ("v", 1)):  # sums of eighths: exact, so that no rounding is left to refute
        array = (rng.integers(-8, 8, (1, 1, size, size)) / 8).astype("f")
        source.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    plain = repcompiler.compile(source)
    assert [node.op_type for node in plain.graph.node] == ["Conv"]
    assert repcompiler.verify(source, plain).equal
    assert certify(source, plain, input_ranges={"x": (-1.0, 1.0)}, timeout_ms=20_000).ok
