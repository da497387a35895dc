"""Compile an ONNX file from Python, and read what was done: python compile_onnx.py model.onnx plain.onnx"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

import repcompiler

source, target = sys.argv[1:]
report = repcompiler.Report()
try:
    plain = repcompiler.compile(source, objective="latency", report=report)
except (repcompiler.ModelError, repcompiler.VerificationError) as error:
    sys.exit(f"{source}: {error}")

onnx.save(plain, target)
print(report)
for line in report.explanation():
    print(line)

page = Path(target).with_suffix(".html")
repcompiler.diff(source, plain, report=report).to_html(page)
print(f"what was rewritten, and why: {page}")
