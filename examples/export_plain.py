"""From a torch module to a plain ONNX file in one call, batch and image size free: python export_plain.py plain.onnx"""

from __future__ import annotations

import sys

import torch
from mobileone import MobileOne, settle_batch_norms
from reports import page

import repcompiler

model = settle_batch_norms(MobileOne())
image = torch.randn(1, 3, 224, 224)
report = repcompiler.Report()
repcompiler.export(
    model,
    sys.argv[1],
    image,
    dynamic_axes=["batch", "height", "width"],
    report=report,
)
print(report)
repcompiler.diff(model, sys.argv[1], image).to_html(page("export_plain"))  # computed: a file knows nothing of the log
print(f"which part of the module is which of the file, and whether both compute the same: {page('export_plain')}")
