"""Do two models compute the same?  `verify` runs both on many kinds of inputs, and says where they part if they do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from repcompiler.deviation import EXACT_MULTIPLE, MULTIPLE, Deviation, Verification
from repcompiler.difference import Difference, locate
from repcompiler.document import Document, Feeds
from repcompiler.errors import ModelError
from repcompiler.interface import Matched, match
from repcompiler.reference import Reference

Progress = Callable[[str], None]

EQUAL, DIFFERENT, UNDECIDED = "equal", "different", "undecided"


@dataclass
class VerifyResult:
    """How two models compare.  Errors are absolute, against the first model in float64."""

    outputs: list[Deviation] = field(default_factory=list)
    """Each output on the probe where it came nearest to its limit, or furthest beyond it."""
    probes: list[str] = field(default_factory=list)
    """What both were run on."""
    different: list[str] = field(default_factory=list)
    """The probes on which they differ."""
    notes: list[str] = field(default_factory=list)
    """Inputs and outputs matched by position."""
    difference: Difference | None = None
    """The first value in which they part."""
    unlocated: str = ""
    """Why no value is named, if they differ all the same."""

    @property
    def verdict(self) -> str:
        """'equal', 'different', or 'undecided': the first model is not what its own float64 reference is."""
        if self.different:
            return DIFFERENT
        return UNDECIDED if any(output.undecided for output in self.outputs) else EQUAL

    @property
    def undecided(self) -> bool:
        """Whether running them says nothing."""
        return self.verdict == UNDECIDED

    @property
    def equal(self) -> bool:
        """Whether every output was compared, and none differs by more than rounding."""
        return self.verdict == EQUAL

    def summary(self) -> str:
        """One line."""
        if self.verdict == UNDECIDED:
            output = next(output for output in self.outputs if output.undecided)
            return f"undecided: output '{output.name}': {output.undecided}"
        worst = max(self.outputs, key=strain, default=Deviation(""))
        if worst.reason:
            return f"{self.verdict}: output '{worst.name}': {worst.reason}"
        where = f"on {len(self.different)} of {len(self.probes)} probes, " if self.different else ""
        run, exact = worst.units
        also = "" if worst.exact is None else f", by {exact:.2g} times with both in float64 ({EXACT_MULTIPLE:g} allowed)"
        return f"{self.verdict}: {where}off by {run:.2g} times the first model's own rounding ({MULTIPLE:g} allowed){also}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain types, for JSON."""
        outputs = [
            {**asdict(out), "noise": out.noise, "allowed": out.allowed, "allowed_exact": out.allowed_exact, "equal": out.equal}
            for out in self.outputs
        ]
        return {
            "verdict": self.verdict,
            "summary": self.summary(),
            "outputs": outputs,
            "probes": self.probes,
            "different": self.different,
            "notes": self.notes,
            "difference": None if self.difference is None else asdict(self.difference),
            "unlocated": self.unlocated,
        }

    def __str__(self) -> str:
        located = str(self.difference) if self.difference is not None else self.unlocated
        return "\n".join(line for line in (*self.notes, self.summary(), located) if line)


def _silent(message: str) -> None:
    """Tell nobody."""


def verify(a: Any, b: Any, example_inputs: Any = None, *, locate: bool = True, progress: Progress = _silent) -> VerifyResult:
    """Compare two models of the same interface, whatever made them.

    Both run in their own precision: on the examples given, then on random and structured inputs of odd, tiny and even sizes, as
    far as free extents allow and the first model accepts them.  An output of `b` may be off from `a` in float64 by 8 times what
    `a` itself is off by.

    Args:
        a, b: each the path of an .onnx file, an `onnx.ModelProto`, an `onnx_ir.Model`, an `nn.Module` in eval mode or a
            `torch.fx.GraphModule`; kinds may differ.  Inputs and outputs are matched by name, else by position.
        example_inputs: a tensor or array, a tuple of them in the order of inputs, or a dict by input name.
        locate: on a difference, look for the first value in which they part.
        progress: told what is being done.

    Raises:
        ModelError: a model cannot be read or run, or the interfaces differ.
    """
    progress("reading both models")
    first, second = open_pair(a, b, example_inputs)
    return compare(first, match(first, second), example_inputs is not None, locate, progress)


def compare(first: Document, matched: Matched, given: bool, locate: bool = True, progress: Progress = _silent) -> VerifyResult:
    """`verify`, of two models that are open.  `given`: whether the first one's examples are any."""
    progress("running the first model, in double precision too")
    reference = Reference(first, thorough=True, specs=matched.specs, given=given)
    if not reference.samples:
        raise ModelError(f"nothing can be said: {reference.skipped}")
    matched.expected = reference.samples[0].expected
    progress("running the second model")
    result = VerifyResult(notes=matched.notes)
    judged = [(sample, reference.judge(sample, matched)) for sample in reference.samples]
    matched.document.release()
    judged = [(sample, found) for sample, found in judged if not (sample.label and _undecided(found))] or judged
    for sample, verification in judged:
        result.probes.append(str(sample))
        if not verification.equal:
            result.different.append(str(sample))
    names = first.output_names()
    for index, outputs in enumerate(zip(*(verification.outputs for _, verification in judged), strict=True)):
        worst = max(outputs, key=strain)
        worst.name = names[index] if names is not None else str(index)
        result.outputs.append(worst)
    bad = next((sample for sample, verification in judged if not verification.equal), None)
    if bad is not None and locate:
        progress("looking for the value where they part")
        _locate(first, matched, bad.feeds, str(bad), result)
    first.release()
    matched.document.release()
    return result


def _undecided(verification: Verification) -> bool:
    """Whether a probe says nothing: rounding is all there is."""
    return verification.equal and any(output.undecided for output in verification.outputs)


def strain(output: Deviation) -> tuple[bool, bool, float]:
    """What is worse is greater."""
    return not output.equal, bool(output.undecided), output.strain


def _locate(first: Document, second: Matched, feeds: Feeds, probe: str, result: VerifyResult) -> None:
    try:
        result.difference = locate(first, second, feeds, probe)
    except Exception as error:  # a runtime may raise anything
        result.unlocated = f"where they part cannot be said: {error}"
    else:
        if result.difference is None:
            result.unlocated = "no value differs when both are computed in float64"


def open_pair(a: Any, b: Any, example_inputs: Any) -> tuple[Document, Document]:
    """Both models; what torch cannot be traced without is taken from the examples, or from the other model."""
    opened: dict[int, Document] = {}
    for index in sorted((0, 1), key=lambda index: _is_module((a, b)[index])):  # a file says what it takes
        model = (a, b)[index]
        examples = example_inputs
        if examples is None and _is_module(model) and opened:
            examples = _taken(*opened.values())
        opened[index] = _document(model, examples)
    return opened[0], opened[1]


def _taken(document: Document) -> Sequence[Any] | None:
    """Inputs that a model runs on, in its order."""
    samples = Reference(document).samples
    return [samples[0].feeds[spec.name] for spec in document.inputs()] if samples else None


def _document(model: Any, examples: Any) -> Document:
    """The document of one model, with the examples as its kind wants them."""
    from repcompiler.frontends import open_document

    if examples is None:
        return open_document(model)
    if _is_module(model):
        return open_document(model, _arguments(model, examples))
    if isinstance(examples, Mapping):
        given = {name: np.asarray(array) for name, array in examples.items()}
        names = [spec.name for spec in open_document(model).inputs()]
        if not {*names} <= given.keys() and len(names) == len(given):
            given = dict(zip(names, given.values(), strict=True))
        return open_document(model, given)
    arrays = [np.asarray(array) for array in (examples if isinstance(examples, (tuple, list)) else [examples])]
    names = [spec.name for spec in open_document(model).inputs()]
    if len(names) != len(arrays):
        raise ModelError(f"the model takes {len(names)} inputs, and {len(arrays)} were given")
    return open_document(model, dict(zip(names, arrays, strict=True)))


def _arguments(module: Any, examples: Any) -> Any:
    """Arrays as tensors; what is named otherwise than the arguments of `forward` goes by position."""
    import torch
    from torch.utils import _pytree as pytree

    if isinstance(examples, Mapping) and not examples.keys() <= inspect.signature(module.forward).parameters.keys():
        examples = tuple(examples.values())
    return pytree.tree_map_only(np.ndarray, lambda array: torch.from_numpy(np.ascontiguousarray(array)), examples)


def _is_module(model: Any) -> bool:
    return any(kind.__module__.startswith("torch.nn.") for kind in type(model).__mro__)
