"""Convolutions, batch norms and additions that are left, through both frontends, beside timm's own conversion.

Prints Markdown.  A torch model is counted in its ONNX export, as it stands, so that all columns count the same things.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from mobileone import export_training_form
from tables import operators, print_table, shown_deviation
from zoo import as_trained, plain_by_timm

import repcompiler

NETWORKS = ("repvgg_a0", "mobileone_s0", "mobileone_s4", "repghostnet_100")


def counts(file: Path) -> str:
    found = operators(file)
    return " / ".join(str(found[kind]) for kind in ("Conv", "BatchNormalization", "Add"))


def row(name: str) -> list[str]:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, timm, from_onnx, from_torch = (folder / f"{kind}.onnx" for kind in ("source", "timm", "onnx", "torch"))
        by_onnx, by_torch = repcompiler.Report(), repcompiler.Report()
        model = as_trained(name)
        export_training_form(model, source)
        export_training_form(plain_by_timm(name), timm)
        from_onnx.write_bytes(repcompiler.compile(source, report=by_onnx).SerializeToString())
        export_training_form(repcompiler.compile(model, report=by_torch), from_torch)
        deviations = [shown_deviation(report.to_dict()["verification"]) for report in (by_onnx, by_torch)]
        return [name, counts(source), counts(timm), counts(from_onnx), deviations[0], counts(from_torch), deviations[1]]


def main() -> None:
    header = ["Conv / BN / Add", "as trained", "timm", "repc, ONNX", "deviation", "repcompiler.compile, torch", "deviation"]
    print_table(header, map(row, NETWORKS))


if __name__ == "__main__":
    main()
