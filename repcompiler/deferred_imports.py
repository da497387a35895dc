"""Load sympy when it is first used, not when onnx-ir is imported.

onnx-ir imports sympy for arithmetic on symbolic dimensions, which compiling never asks for; loading it takes longer than all
else `repc` imports together.  The standard library's lazy loader postpones it, in the command line's own process only.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

DEFERRED = ("sympy", "onnx_ir._symbolic_shapes")


class DeferringFinder:
    """Finds the modules in `DEFERRED` as usual, and wraps their loaders."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def install() -> None:
    """Postpone what is not loaded yet."""
    if DeferringFinder not in sys.meta_path:
        sys.meta_path.insert(0, DeferringFinder)
