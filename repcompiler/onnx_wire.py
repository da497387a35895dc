"""ONNX files field by field, so that weights need not be copied to be read, nor all at once to be written.

    message ::= field*        field ::= key value        key = number << 3 | type        (protobuf's wire format)

A model is read as its structure, parsed, and the places of its large initializers in the file; it is written as its structure,
the initializers spliced in one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import onnx

from repcompiler.errors import ModelError

NODE = onnx.GraphProto.NODE_FIELD_NUMBER
GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
NODES = 100_000
"""Nodes of a model, at most: it is for networks."""
TOO_MANY = "it has {:,} nodes or more; more than " + f"{NODES:,} are not compiled"
LARGE = 1024
"""Bytes of data from which on a tensor is not copied."""


@dataclass(frozen=True)
class Field:
    """Where one field of a message lies: its key, its value, its end."""

    number: int
    start: int
    value: int
    end: int


def fields(buffer: Sequence[int], start: int, end: int) -> Iterator[Field]:
    """The fields of the message in `buffer[start:end]`.  Raises ValueError or IndexError where it is none."""
    while start < end:
        key, value = _varint(buffer, start)
        kind = key & 7
        if kind == 0:
            _, stop = _varint(buffer, value)
        elif kind == 2:
            length, value = _varint(buffer, value)
            stop = value + length
        else:
            stop = value + {1: 8, 5: 4}.get(kind, end)
        if stop > end:
            raise ValueError("a field is longer than the message it is in")
        yield Field(key >> 3, start, value, stop)
        start = stop


def structure(buffer: memoryview) -> tuple[bytes, dict[int, slice]]:
    """The model without the data of its large initializers, and by number of the initializer where that data lies.

    Raises ValueError or IndexError where the file is not laid out as a model is, ModelError where it has too many nodes.
    """
    places: dict[int, slice] = {}
    top = list(fields(buffer, 0, len(buffer)))
    (graph,) = (field for field in top if field.number == GRAPH)
    parts: list[bytes] = []
    count = nodes = 0
    for field in fields(buffer, graph.value, graph.end):
        nodes += field.number == NODE
        if nodes > NODES:
            raise ModelError(TOO_MANY.format(nodes))
        part = bytes(buffer[field.start : field.end]) if field.number != INITIALIZER else None
        if part is None:
            inner = list(fields(buffer, field.value, field.end))
            data = [raw for raw in inner if raw.number == RAW_DATA]
            if len(data) == 1 and data[0].end - data[0].value >= LARGE:
                places[count] = slice(data[0].value, data[0].end)
                inner.remove(data[0])
            part = message(INITIALIZER, [bytes(buffer[raw.start : raw.end]) for raw in inner])
            count += 1
        parts.append(part)
    around = [bytes(buffer[field.start : field.end]) for field in top if field is not graph]
    return b"".join([*around, message(GRAPH, parts)]), places


class Data(Protocol):
    """An array that writes itself to a file."""

    @property
    def nbytes(self) -> int: ...

    def tofile(self, file: BinaryIO) -> None: ...


@dataclass(frozen=True)
class Tensor:
    """A tensor's message around the data that is written straight from where it lies; whole in `before` without such data."""

    before: bytes
    data: Data | None = None
    after: bytes = b""

    @classmethod
    def around(cls, proto: onnx.TensorProto, data: Data) -> Tensor:
        """The message `proto`, which has no raw data, with that of `data`."""
        plain = proto.SerializeToString()
        middle = next((field.start for field in fields(plain, 0, len(plain)) if field.number > RAW_DATA), len(plain))
        return cls(plain[:middle] + _key(RAW_DATA, data.nbytes), data, plain[middle:])

    @property
    def size(self) -> int:
        """Bytes of the message."""
        return len(self.before) + (0 if self.data is None else self.data.nbytes) + len(self.after)

    def write(self, file: BinaryIO) -> None:
        """Append it to a file."""
        file.write(self.before)
        if self.data is not None:
            self.data.tofile(file)
        file.write(self.after)


def write(file: BinaryIO, model: onnx.ModelProto, initializers: Sequence[Tensor]) -> None:
    """Write `model`, which has no initializers, with these: the same bytes as if it had them."""
    plain = model.SerializeToString()
    graph = next(field for field in fields(plain, 0, len(plain)) if field.number == GRAPH)
    inner = fields(plain, graph.value, graph.end)
    middle = next((field.start for field in inner if field.number > INITIALIZER), graph.end)
    headers = [_key(INITIALIZER, tensor.size) for tensor in initializers]
    size = graph.end - graph.value + sum(map(len, headers)) + sum(tensor.size for tensor in initializers)
    file.write(plain[: graph.start] + _key(GRAPH, size) + plain[graph.value : middle])
    for header, tensor in zip(headers, initializers, strict=True):
        file.write(header)
        tensor.write(file)
    file.write(plain[middle:])


def message(number: int, parts: Sequence[bytes]) -> bytes:
    """A field that is itself a message of these fields."""
    return b"".join([_key(number, sum(map(len, parts))), *parts])


def _key(number: int, length: int) -> bytes:
    return _encode(number << 3 | 2) + _encode(length)


def _encode(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _varint(buffer: Sequence[int], at: int) -> tuple[int, int]:
    """The number encoded at a place, and the place behind it."""
    number = shift = 0
    while True:
        byte = buffer[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
        if shift > 63:
            raise ValueError("no number")
