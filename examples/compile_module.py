"""Compile a torch module: the result is a torch.fx GraphModule that runs, trains, deep-copies and exports."""

from __future__ import annotations

import torch
from mobileone import MobileOne, settle_batch_norms
from reports import write_report

import repcompiler

model = settle_batch_norms(MobileOne())
image = torch.randn(1, 3, 224, 224)
report = repcompiler.Report()
plain = repcompiler.compile(model, image, report=report)

with torch.no_grad():
    expected, actual = model(image), plain(image)
print(f"{len(list(model.modules()))} modules before, {len(list(plain.modules()))} after")
print(f"largest difference {(expected - actual).abs().max() / expected.abs().max():.1e} of the largest output")
write_report("compile_module", model, plain, image, report)
