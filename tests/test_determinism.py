"""The same input gives the same bytes, whatever the seed of Python's hashes."""

import subprocess
import sys

import pytest

ONNX = """
import hashlib, pathlib, sys, onnx, rapidocr_onnxruntime, repcompiler
folder = pathlib.Path(rapidocr_onnxruntime.__file__).parent / "models"
for path in sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_size)[:1]:
    for objective in ("latency", "plain"):
        result = repcompiler.compile(path, objective=objective, verify=False)
        print(path.name, objective, hashlib.sha256(result.SerializeToString(deterministic=True)).hexdigest())
"""
TORCH = """
import contextlib
with contextlib.suppress(ModuleNotFoundError):
    import torchvision_ops
import hashlib, timm, torch, repcompiler
for name in ("repghostnet_050",):
    torch.manual_seed(0)
    result = repcompiler.compile(timm.create_model(name).eval(), torch.zeros(1, 3, 64, 64), verify=False)
    print(name, hashlib.sha256(result.code.encode()).hexdigest())
    for key, tensor in result.state_dict().items():
        print(key, hashlib.sha256(tensor.numpy().tobytes()).hexdigest())
"""


@pytest.mark.parametrize(("program", "needs"), [(ONNX, "rapidocr_onnxruntime"), (TORCH, "timm")], ids=["ONNX", "torch"])
def test_two_runs_give_the_same_bytes(program, needs):
    pytest.importorskip(needs)
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        ).stdout
        for seed in ("0", "4711")
    ]
    assert printed[0]
    assert printed[0] == printed[1]
