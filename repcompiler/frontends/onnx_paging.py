"""Weights beside the model are mapped, not read; what was looked at is given back: memory does not grow with the file."""

from __future__ import annotations

import mmap

import onnx_ir

from repcompiler.ir import Node

PAGED = 2**20
"""Bytes from which on a tensor is given back."""
RESIDENT = 2**27
"""Bytes that are looked at before all are given back."""
DONTNEED = getattr(mmap, "MADV_DONTNEED", None)
"""Whoever computes with a weight later reads it from its file again; None where the platform cannot be told so."""


class Paging:
    """To be told of each node whose weights were looked at."""

    def __init__(self, model: onnx_ir.Model) -> None:
        tensors = (value.const_value for value in model.graph.initializers.values())
        self.paged = [tensor for tensor in tensors if isinstance(tensor, onnx_ir.ExternalTensor) and tensor.nbytes >= PAGED]
        self.known = {id(tensor): tensor.nbytes for tensor in self.paged}
        self.seen = 0

    def let_go(self, node: Node) -> None:
        """The weights of `node`, and of others around it, are not looked at any more, for now."""
        if not self.paged or DONTNEED is None:
            return
        self.seen += sum(self.known.get(id(value.origin.const_value), 0) for value in node.parameters)
        if self.seen >= RESIDENT:
            self.seen = 0
            for tensor in self.paged:
                if tensor.raw is not None:
                    tensor.raw.madvise(DONTNEED)
