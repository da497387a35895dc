"""Models beyond 2 GiB: memory grows with the weights that are rewritten, not with the file.  REPC_LARGE=1 runs slow ones."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import repcompiler
from repcompiler import reference
from repcompiler.backends import onnx_file

LAYERS, ROWS, COLUMNS = 24, 8192, 4096
LAYER = 4 * ROWS * COLUMNS
CONSTANT = 300e6
"""Bytes of the program itself, and of what is looked at before it is given back."""
MEASURED = """
import resource, sys
program = sys.argv.pop(1)
if program == "repc":
    from repcompiler.cli import main
    main(sys.argv[1:], standalone_mode=False)
else:
    import repcompiler
    model = repcompiler.compile(sys.argv[1], verify="--no-verify" not in sys.argv)
    assert len(model.graph.node) == 2 * int(sys.argv[2])
print("peak", 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def large(folder, layers, touched):
    """Fully connected layers whose weights lie beside the model, written block by block; the first `touched` are scaled."""
    rng = np.random.default_rng(0)
    block = 0.01 * rng.standard_normal(1 << 20, dtype=np.float32)
    nodes, weights = [], []
    with (folder / "large.data").open("wb") as file:
        for layer in range(layers):
            rows, columns = (ROWS, COLUMNS)[:: 1 if layer % 2 == 0 else -1]
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[rows, columns])
            weight.data_location = TensorProto.EXTERNAL
            for key, entry in {"location": "large.data", "offset": layer * LAYER, "length": LAYER}.items():
                weight.external_data.add(key=key, value=str(entry))
            for part in range(LAYER >> 22):
                (block * np.float32(1 + part / 64)).tofile(file)
            weights.append(weight)
            nodes.append(helper.make_node("MatMul", [f"x{layer}", weight.name], [f"m{layer}"]))
            if layer < touched:
                weights.append(onnx.numpy_helper.from_array(rng.uniform(0.5, 2, columns).astype("f"), f"s{layer}"))
                nodes.append(helper.make_node("Mul", [f"m{layer}", f"s{layer}"], [f"t{layer}"]))
            nodes.append(helper.make_node("Relu", [nodes[-1].output[0]], [f"x{layer + 1}"]))
    ends = [
        helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, ["N", size])
        for index, size in ((0, ROWS), (layers, ROWS))
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "large.onnx")
    return folder / "large.onnx"


@pytest.mark.skipif(not os.environ.get("REPC_LARGE"), reason="writes 6 GB and takes minutes: make large")
@pytest.mark.parametrize("touched", [1, 8])
@pytest.mark.parametrize("program", ["repc", "compile"])
@pytest.mark.parametrize("verify", [[], ["--no-verify"]], ids=["verified", "not verified"])
def test_memory_is_that_of_what_is_rewritten(tmp_path, program, touched, verify):
    """What is rewritten is held in float64, until it is written: 2 times the bytes of float32."""
    source = large(tmp_path, LAYERS, touched)
    written = ["-o", tmp_path / "plain.onnx"] if program == "repc" else [str(LAYERS)]
    command = [sys.executable, "-c", MEASURED, program, source, *written, *verify]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = int(done.stdout.split()[-1])
    print(f"{program}, {touched} of {LAYERS} layers rewritten, {verify}: peak {peak / 1e6:.0f} MB")
    assert peak < 1.3 * (2 * touched * LAYER) + CONSTANT
    if program == "repc" and not verify:
        assert "not verified as a whole (it takes 3.0 GiB" in done.stdout


def test_a_model_that_is_too_large_to_be_run_is_checked_rewrite_by_rewrite(model, monkeypatch):
    monkeypatch.setattr(reference, "RUN", 1000)
    report = repcompiler.Report()
    result = repcompiler.compile(model("c = Conv(x, w_8x4x3x3)  y = Mul(c, k_8x1x1)"), report=report)
    assert [node.op_type for node in result.graph.node] == ["Conv"]
    assert not report.verification.checked
    assert "repc verify runs any)" in report.verification.summary()
    assert report.certificates()


def test_weights_that_do_not_fit_into_one_message_go_beside_the_model(small, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "INLINE_LIMIT", 100)
    from click.testing import CliRunner

    from repcompiler.cli import main

    result = CliRunner().invoke(main, [str(small), "-o", str(tmp_path / "plain.onnx")])
    assert result.exit_code == 0
    assert "written: " in result.stdout
    assert "plain.onnx.data" in result.stdout
    onnx.checker.check_model(tmp_path / "plain.onnx", full_check=True)
    assert (tmp_path / "plain.onnx.data").exists()
