"""Run every benchmark and write what they print into docs/benchmarks.md, and the first table into README.md: `make bench`.

Takes long; run it on a machine that does nothing else.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PACKAGES = ("repcompiler", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "onnxsim", "onnxslim", "timm", "torch", "numpy")
MEASURED = re.compile(r"(?<=<!-- measured by examples/zoo_table.py -->\n).*?(?=<!-- end -->)", re.DOTALL)

SECTIONS = {
    "zoo_table.py": """## Multi-branch networks: nodes and latency

timm's networks with random weights and random batch norm statistics (gamma of both signs), exported in their training form.
Each tool gets that file; `timm's own conversion` is `timm.utils.reparameterize_model` before the export. Nodes without
Constant nodes; in brackets the latency relative to the file as trained: onnxruntime with its default optimisations, one
thread, one 224x224 image, all files by turns, median of 60 rounds. Deviation: largest error relative to the largest output,
against the source in float64; in brackets the source's own float32 rounding.
""",
    "operator_counts.py": """## What is left, through both frontends

Conv / BatchNormalization / Add nodes, counted in the ONNX export of each model as it stands. Deviation as above.
""",
    "shipped_models.py": """## Trained files that ship in PyPI packages

Most were optimised before they were shipped. Deviation, latency and nodes as above.
""",
    "plain_latency.py": """## Without skip connections

torchvision's networks as trained, and under `--objective plain`, both in one run: onnxruntime with its default optimisations,
one thread, one 224x224 image, all files by turns, median of 30 rounds. Peak of activations: by liveness
(`repcompiler.liveness`); a run adds: growth of a process for the time of a run, without an arena. Deviation as above.
""",
    "tool_footprint.py": """## Wall time and peak memory

Whole processes on the same training-form files, by turns, median of 3 rounds after one to warm up. `repc` certifies each
rewrite and compares its result with the source before it writes; onnxslim and onnxsim write without a comparison
unless asked for one.
""",
}


def environment() -> str:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        model = found[1]
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{date.today()}, {model}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}."


def run(name: str) -> str:
    """What a script prints; its progress is the rows as they come."""
    lines = []
    with subprocess.Popen([sys.executable, str(FOLDER / name)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{name} failed; nothing was written")
    return "".join(lines)


def main() -> None:
    tables = {name: run(name) for name in SECTIONS}
    parts = ["# Benchmarks\n", f"Written by `make bench` (examples/benchmarks.py): {environment()}\n"]
    for name, text in SECTIONS.items():
        parts += [text, f"Script: [examples/{name}](../examples/{name}).\n", tables[name]]
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join(parts))
    readme = ROOT / "README.md"
    readme.write_text(MEASURED.sub(lambda _: tables["zoo_table.py"], readme.read_text()))


if __name__ == "__main__":
    main()
