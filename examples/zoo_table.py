"""Multi-branch networks through general optimisers, through timm's own conversion, and through repc: nodes and latency.

Prints Markdown.  Each network is exported in its training form; every tool gets that file; all results run by turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import latency
from tables import nodes, print_table, script, shown_deviation

NETWORKS = ("repvgg_a0", "mobileone_s0", "repghostnet_100", "ghostnetv3_100", "fastvit_t8")
ZOO = str(Path(__file__).with_name("zoo.py"))
ONNXSCRIPT = """
import sys, onnx, onnxscript.optimizer
onnx.save(onnxscript.optimizer.optimize(onnx.load(sys.argv[1])), sys.argv[2])
"""


def variants(name: str, folder: Path) -> dict[str, Path]:
    """The network's file, and what each tool makes of it; a tool that fails is left out."""
    source, report = folder / "source.onnx", folder / "report.json"
    targets = {tool: folder / f"{tool}.onnx" for tool in ("onnxsim", "onnxslim", "onnxscript", "timm", "repc")}
    commands: dict[str, Sequence[str | Path]] = {
        "onnxsim": (script("onnxsim"), source, targets["onnxsim"]),
        "onnxslim": (script("onnxslim"), source, targets["onnxslim"]),
        "onnxscript": (sys.executable, "-c", ONNXSCRIPT, source, targets["onnxscript"]),
        "timm": (sys.executable, ZOO, name, targets["timm"], "--reparameterized"),
        "repc": (script("repc"), source, "-o", targets["repc"], "--json", report),
    }
    subprocess.run([sys.executable, ZOO, name, source], check=True, capture_output=True)
    done = {tool: subprocess.run(command, capture_output=True).returncode == 0 for tool, command in commands.items()}
    return {"source": source, **{tool: file for tool, file in targets.items() if done[tool]}}


def row(name: str) -> list[str]:
    with TemporaryDirectory() as temporary:
        files = variants(name, Path(temporary))
        times = dict(zip(files, latency.compare(list(files.values()), {"image": (1, 3, 224, 224)}), strict=True))
        cells = [
            f"{nodes(files[tool])} ({times[tool].ratio:.2f}x)" if tool in files else "fails"
            for tool in ("onnxsim", "onnxslim", "onnxscript", "timm", "repc")
        ]
        deviation = shown_deviation(json.loads((Path(temporary) / "report.json").read_text())["verification"])
        return [name, f"{nodes(files['source'])} ({times['source'].milliseconds:.1f} ms)", *cells, deviation]


def main() -> None:
    header = ["network", "as trained", "onnxsim", "onnxslim", "onnxscript", "timm's own conversion", "repc", "repc's deviation"]
    print_table(header, map(row, NETWORKS))


if __name__ == "__main__":
    main()
