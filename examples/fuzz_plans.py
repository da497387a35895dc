"""Plans of small networks: what the fuzzer draws, builds in two forms, and shrinks.

    plan = Plan(inputs, steps, outputs)          value i is input i, then the result of step i - len(inputs)

A plan says nothing of ONNX or of torch; `fuzz_onnx.model` and `fuzz_torch.Network` make the same network of it.  Weights are
numpy arrays among a step's attributes: an array that two steps hold is shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One operation; `attrs` holds its weights too."""

    kind: str
    inputs: tuple[int, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = (f"{name}={_brief(value)}" for name, value in self.attrs.items() if value is not None)
        return f"{self.kind}({', '.join(f'%{index}' for index in self.inputs)}) {' '.join(said)}"


@dataclass(frozen=True)
class Plan:
    """A network: the nominal shapes of its inputs, its steps, and which values it hands out."""

    inputs: tuple[Shape, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    free: str = "all"
    """Which extents are free: "none", "batch" or "all" (batch and pixels)."""

    @property
    def size(self) -> int:
        return len(self.steps) + len(self.inputs) + len(self.outputs)

    def __str__(self) -> str:
        shapes = [f"%{index} = input {'x'.join(map(str, shape))}" for index, shape in enumerate(self.inputs)]
        steps = [f"%{index} = {step}" for index, step in enumerate(self.steps, len(self.inputs))]
        return "\n".join([*shapes, *steps, f"return {', '.join(f'%{index}' for index in self.outputs)} (free: {self.free})"])

    def live(self) -> Plan:
        """Without the steps that nobody reads; inputs stay."""
        first = len(self.inputs)
        wanted = set(self.outputs)
        for index in reversed(range(len(self.steps))):
            if first + index in wanted:
                wanted.update(self.steps[index].inputs)
        kept = [index for index in range(first + len(self.steps)) if index < first or index in wanted]
        new = {old: position for position, old in enumerate(kept)}
        steps = tuple(self.steps[index - first] for index in kept[first:])
        moved = tuple(replace(step, inputs=tuple(new[value] for value in step.inputs)) for step in steps)
        return replace(self, steps=moved, outputs=tuple(dict.fromkeys(new[value] for value in self.outputs)))

    def smaller(self, shapes: Sequence[Shape]) -> Iterator[Plan]:
        """Plans with something left out, most of all first; `shapes` are those of its values."""
        first = len(self.inputs)
        last = first + len(self.steps)
        for value in self.outputs if len(self.outputs) > 1 else ():
            yield replace(self, outputs=tuple(output for output in self.outputs if output != value)).live()
        if len(self.outputs) == 1:
            for value in range(first, last):
                if value != self.outputs[0]:
                    yield replace(self, outputs=(value,)).live()
        for value in range(first, last):  # a value becomes an input
            if len(shapes[value]) > 1 and (value not in self.outputs or len(self.outputs) > 1):
                yield self._from_input(value, shapes[value]).live()._read()
        for value in range(first, last):  # a step is passed by
            for operand in self.steps[value - first].inputs:
                if shapes[operand] == shapes[value]:
                    yield self._instead(value, operand).live()
        yield from self._fewer_operands()

    def _fewer_operands(self) -> Iterator[Plan]:
        for index, step in enumerate(self.steps):
            if step.kind in ("add", "concat") and len(step.inputs) > 2:
                for gone in range(len(step.inputs)):
                    kept = [number for number in range(len(step.inputs)) if number != gone]
                    attrs = dict(step.attrs)
                    if "signs" in attrs:
                        attrs["signs"] = tuple(attrs["signs"][number] for number in kept)
                    fewer = Step(step.kind, tuple(step.inputs[number] for number in kept), attrs)
                    yield replace(self, steps=(*self.steps[:index], fewer, *self.steps[index + 1 :]))

    def _instead(self, value: int, other: int) -> Plan:
        swap = [other if index == value else index for index in range(len(self.inputs) + len(self.steps))]
        return self._renumbered(swap)

    def _from_input(self, value: int, shape: Shape) -> Plan:
        """One more input, which is read where `value` was."""
        first = len(self.inputs)
        moved = [index if index < first else index + 1 for index in range(first + len(self.steps))]
        moved[value] = first
        return replace(self._renumbered(moved), inputs=(*self.inputs, shape))

    def _read(self) -> Plan:
        """Without the inputs that nobody reads."""
        read = {value for step in self.steps for value in step.inputs} | {*self.outputs}
        kept = [index for index in range(len(self.inputs)) if index in read] or [0]
        gone = len(self.inputs) - len(kept)
        moved = [kept.index(index) if index in kept else 0 for index in range(len(self.inputs))]
        moved += [index - gone for index in range(len(self.inputs), len(self.inputs) + len(self.steps))]
        return replace(self._renumbered(moved), inputs=tuple(self.inputs[index] for index in kept))

    def _renumbered(self, new: Sequence[int]) -> Plan:
        steps = tuple(replace(step, inputs=tuple(new[value] for value in step.inputs)) for step in self.steps)
        return replace(self, steps=steps, outputs=tuple(dict.fromkeys(new[value] for value in self.outputs)))


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{'x'.join(map(str, value.shape))}>" if value.size > 4 else str(value.tolist()).replace(" ", "")
    return str(value).replace(" ", "")
