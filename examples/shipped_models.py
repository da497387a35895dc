"""Trained ONNX files that ship inside PyPI packages, through repc: nodes, deviation, latency.

Prints Markdown, and writes a page for each into build/ that shows what was rewritten, and why.  The files are read where the
packages are installed: rapidocr-onnxruntime (text detection, direction and recognition) and nudenet (a YOLO detector).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import latency
import onnx
from reports import page
from tables import nodes, print_table, script, shown_deviation

PACKAGES = ("rapidocr_onnxruntime", "nudenet")
EXTENTS = {"rec": (48, 320), "cls": (48, 192)}
"""Height and width, where the file leaves them free, of a line of text to recognise or to turn; all else is an image."""
IMAGE = (320, 320)


def shipped_files() -> Iterator[Path]:
    """Every .onnx file in the packages; the packages themselves are not imported."""
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(folder).rglob("*.onnx"))


def input_shapes(file: Path) -> dict[str, list[int]]:
    """The shape of each input, free axes filled."""
    graph = onnx.load(file).graph
    stored = {initializer.name for initializer in graph.initializer}
    shapes = {}
    for value in graph.input:
        if value.name not in stored:
            dims = value.type.tensor_type.shape.dim
            free = (1, 3, *next((extents for kind, extents in EXTENTS.items() if kind in file.stem), IMAGE))
            shapes[value.name] = [dim.dim_value if dim.dim_value > 0 else free[axis] for axis, dim in enumerate(dims)]
    return shapes


def row(file: Path) -> list[str]:
    with TemporaryDirectory() as folder:
        result, report = Path(folder) / "plain.onnx", Path(folder) / "report.json"
        command = [script("repc"), str(file), "-o", str(result), "--json", str(report), "--report", str(page(file.stem))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        content = json.loads(report.read_text())
        shapes = input_shapes(file)
        before, after = latency.compare([file, result], shapes)
        return [
            f"{file.name} ({', '.join('x'.join(map(str, shape)) for shape in shapes.values())})",
            str(nodes(file)),
            str(nodes(result)),
            str(len(content["rewrites"])),
            f"{before.milliseconds:.1f} ms",
            f"{after.ratio:.2f}x",
            shown_deviation(content["verification"]),
        ]


def main() -> None:
    header = [
        "file (input)",
        "nodes",
        "after repc",
        "rewrites",
        "latency",
        "after repc",
        "deviation",
    ]
    print_table(header, map(row, shipped_files()))


if __name__ == "__main__":
    main()
