"""From a torch module to a plain ONNX file in one call, batch and image size free: python export_plain.py plain.onnx"""

from __future__ import annotations

import sys

import torch
from mobileone import MobileOne, settle_batch_norms

import repcompiler

model = settle_batch_norms(MobileOne())
report = repcompiler.Report()
repcompiler.export(
    model,
    sys.argv[1],
    torch.randn(1, 3, 224, 224),
    dynamic_axes=["batch", "height", "width"],
    report=report,
)
print(report)
