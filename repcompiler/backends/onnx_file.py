"""Write an ONNX model so that the target is either the old file whole or the new file whole."""

from __future__ import annotations

import os
import shutil
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from threading import current_thread, main_thread

import numpy as np
import onnx_ir

from repcompiler import onnx_wire
from repcompiler.errors import ModelError

INLINE_LIMIT = 2**31 - 2**24
"""Bytes of weights that still fit into one protobuf message, with room for the structure."""


def external_files(model: onnx_ir.Model) -> list[Path]:
    """The files beside the model that hold its weights."""
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return list(dict.fromkeys(Path(tensor.path) for tensor in tensors if isinstance(tensor, onnx_ir.ExternalTensor)))


def is_large(model: onnx_ir.Model) -> bool:
    """Whether the weights would not fit into the file."""
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None) > INLINE_LIMIT


def data_file(path: Path) -> Path:
    """Where the weights of the model at `path` go, if they go beside it."""
    return path.with_name(f"{path.name}.data")


def check_target(path: Path) -> None:
    """Raise ModelError if no file can be written to `path`."""
    folder = path.parent
    try:
        if path.is_dir():
            raise ModelError(f"{path}: cannot be written, it is a folder")
        if not folder.is_dir():
            raise ModelError(f"{path}: cannot be written, there is no folder {folder}")
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ModelError(f"{path}: cannot be written, the folder {folder} does not allow it")


class Draft:
    """A model in a temporary folder beside `target`, ready to be moved into place, external data (`NAME.data`) first.

    Raises ModelError where the target cannot be written.
    """

    def __init__(self, model: onnx_ir.Model, target: Path, external: bool) -> None:
        self.target = target
        self._files = [data_file(target), target] if external else [target]
        for file in self._files:
            check_target(file)
        with _says_why(target):
            folder = mkdtemp(prefix=".repc-", dir=target.parent)
            self.discard = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self.path = Path(folder) / target.name
            try:
                if external:
                    onnx_ir.save(model, self.path, external_data=data_file(target).name)
                else:
                    _save(model, self.path)
            except BaseException:
                self.discard()
                raise

    def publish(self) -> None:
        """Move it to the target: either the old file stays whole, or the new one is."""
        with _says_why(self.target), _uninterrupted():
            for file in self._files:
                if self.path.with_name(file.name).exists():  # small weights stay in the model
                    os.replace(self.path.with_name(file.name), file)
        self.discard()


def _save(model: onnx_ir.Model, path: Path) -> None:
    """What `onnx_ir.save` writes, without a second copy of all weights in between."""
    skeleton = model.clone()
    nothing = onnx_ir.Tensor(np.zeros(0))
    for value in skeleton.graph.initializers.values():
        value.const_value = nothing
    proto = onnx_ir.to_proto(skeleton)
    del proto.graph.initializer[:]
    tensors = [_tensor(value) for value in model.graph.initializers.values()]
    with path.open("wb") as file:
        onnx_wire.write(file, proto, tensors)


def _tensor(value: onnx_ir.Value) -> onnx_wire.Tensor:
    """An initializer, its data left where it is until it is written."""
    tensor = value.const_value
    assert tensor is not None
    tensor.name = value.name
    if type(tensor) is not onnx_ir.Tensor or tensor.nbytes < onnx_wire.LARGE:
        return onnx_wire.Tensor(bytes(onnx_ir.to_proto(tensor).SerializeToString()))
    empty = onnx_ir.Tensor(np.zeros(0, tensor.dtype.numpy()), tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
    empty.metadata_props.update(tensor.metadata_props)
    proto = onnx_ir.to_proto(empty)
    proto.ClearField("raw_data")
    proto.dims[:] = tensor.shape.numpy()
    return onnx_wire.Tensor.around(proto, tensor)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals to end wait: weights and model go together."""
    if current_thread() is not main_thread():  # which is where signals are handled
        yield
        return
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = [number for number, handler in before.items() if callable(handler)]
    for number in ours:
        signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        for waited in waiting[:1]:
            signal.raise_signal(waited)


@contextmanager
def _says_why(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{target}: cannot be written ({error.strerror or error})") from error
    except ValueError as error:  # what onnx-ir says of weights that it cannot read
        raise ModelError(f"{target}: cannot be written ({error})") from error
