"""Networks as trained and without their skip connections, side by side in onnxruntime: arithmetic, peak memory, latency.

Prints Markdown.  Peak memory of activations is that of `repcompiler.liveness`; beside it, by how much a process grows for the
time of a run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import latency
from mobilenetv2_to_v1 import mobilenet_v2
from mobileone import IMAGE, export_training_form
from resnet_to_vgg import resnet
from tables import print_table, shown_deviation

import repcompiler

NETWORKS = {
    "ResNet-18": lambda: resnet(18),
    "ResNet-34": lambda: resnet(34),
    "ResNet-50": lambda: resnet(50),
    "MobileNetV2": lambda: mobilenet_v2(1.0),
}
RUN = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.enable_cpu_mem_arena = options.enable_mem_pattern = False
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = {"image": numpy.zeros((1, 3, 224, 224), numpy.float32)}
session.run(None, image)
def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak so far is forgotten
before = status("VmRSS:")
session.run(None, image)
print(status("VmHWM:") - before)
"""
"""By how many KiB a process grows while it runs the model, without an arena that keeps memory for the next run (Linux)."""


def growth(file: Path) -> float:
    """MB that one run adds to the memory of a process, for the time that it takes."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    done = subprocess.run([sys.executable, "-c", RUN, str(file)], check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout) * 1024 / 1e6


def change(before: float, after: float, unit: str, digits: int = 1) -> str:
    return f"{before:.{digits}f} -> {after:.{digits}f} {unit}"


def row(name: str) -> list[str]:
    with TemporaryDirectory() as temporary:
        source, folded, plain = (Path(temporary) / f"{kind}.onnx" for kind in ("source", "folded", "plain"))
        export_training_form(NETWORKS[name](), source)
        folded.write_bytes(repcompiler.compile(source).SerializeToString())
        report = repcompiler.Report()
        plain.write_bytes(repcompiler.compile(source, objective="plain", report=report).SerializeToString())
        first, default, second = latency.compare([source, folded, plain], {"image": IMAGE}, rounds=30)
        assert report.before is not None
        assert report.after is not None
        return [
            name,
            change(report.before.parameters / 1e6, report.after.parameters / 1e6, "M"),
            change(report.before.macs / 1e6, report.after.macs / 1e6, "M", 0),
            change(report.before.activations / 1e6, report.after.activations / 1e6, "MB"),
            change(growth(source), growth(plain), "MB"),
            change(first.milliseconds, second.milliseconds, f"ms ({second.ratio:.2f}x)"),
            f"{default.milliseconds:.1f} ms ({default.ratio:.2f}x)",
            shown_deviation(report.to_dict()["verification"]),
        ]


def main() -> None:
    header = ["source -> plain", "parameters", "MACs", "peak of activations", "a run adds", "latency"]
    print_table([*header, "latency under `latency`", "deviation"], map(row, NETWORKS))


if __name__ == "__main__":
    main()
