"""Networks as trained and without their skip connections, side by side in onnxruntime: arithmetic, peak memory, latency.

Prints Markdown.  Peak memory of activations is that of `repcompiler.liveness`; beside it, by how much the first run makes a
process grow that has loaded the file, with what onnxruntime packs of the weights (the plain form has more of them).
"""

from __future__ import annotations

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
import resource, sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
session.run(None, {"image": numpy.zeros((1, 3, 224, 224), numpy.float32)})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
"""By how many KiB the peak of the process grows with the first run."""


def growth(file: Path) -> float:
    """MB that the first run adds to the memory of a process that has loaded the file."""
    done = subprocess.run([sys.executable, "-c", RUN, str(file)], check=True, capture_output=True, text=True)
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
    header = ["source -> plain", "parameters", "MACs", "peak of activations", "first run adds", "latency"]
    print_table([*header, "latency under `latency`", "deviation"], map(row, NETWORKS))


if __name__ == "__main__":
    main()
