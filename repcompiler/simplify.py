"""onnxsim before all else, where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from repcompiler.errors import ModelError
from repcompiler.frontends.onnx_file import read


def simplified(model: Path, progress: Callable[[str], None]) -> Any:
    """The model after onnxsim.  Raises ModelError where that is not there, or fails."""
    read(model)  # says what is wrong with the file, in our words
    try:
        import onnxsim
    except ImportError as error:
        raise ModelError("--simplify needs onnxsim: pip install repcompiler[simplify]") from error
    progress("simplifying with onnxsim")
    try:
        simplified, same = onnxsim.simplify(str(model))
    except Exception as error:
        raise ModelError(f"{model}: onnxsim failed ({error}); try without --simplify") from error
    if not same:
        raise ModelError(f"{model}: onnxsim's own check of its result failed; try without --simplify")
    return simplified
