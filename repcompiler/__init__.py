"""A graph-level model transformation compiler: trained multi-branch networks in, exactly equivalent plain ones out.

plain = repcompiler.compile(model)                     torch module, .onnx path or ONNX model
$ repc model.onnx -o plain.onnx

repcompiler.verify(model, plain).equal                 of any two models, of either kind
$ repc verify model.onnx plain.onnx
"""

from repcompiler.compiler import compile  # noqa: A004 - the name users know from torch.compile
from repcompiler.equivalence import VerifyResult, verify
from repcompiler.errors import ModelError, VerificationError
from repcompiler.export import export
from repcompiler.graphdiff import diff
from repcompiler.report import Report

__all__ = ["ModelError", "Report", "VerificationError", "VerifyResult", "compile", "diff", "export", "verify"]
