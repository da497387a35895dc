"""One plan through the compiler, and all that may be wrong with what comes out.

    judge(plan(seed), settings(seed)).findings      [] where all is well

Source and result are compared by this file alone: torch modules in double precision, where a wrong number stands out from
rounding; ONNX models in onnxruntime, with the plan in double precision as the truth and the source's own error as the measure.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import torch
from fuzz_network import network
from fuzz_onnx import model
from fuzz_plans import Plan, Shape
from fuzz_settings import NDArray, Settings, feeds
from fuzz_torch import trace

import repcompiler
from repcompiler.passes import PASSES
from repcompiler.rewriter import Pass, ViewRule
from repcompiler.runtime import session

EPS = float(np.finfo(np.float32).eps)
DOUBLE = 1e-9
"""Relative to the largest number of an output: far above the rounding of a small network, far below any mistake."""
NUDGES = 6
NEWER = {"layer_norm", "hard_swish"}
"""What opset 13 does not have."""


@dataclass
class Outcome:
    fired: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, str]] = field(default_factory=list)
    """(kind, what)"""
    compared: int = 0
    estimated: bool = False
    """Whether extents are not known: behind control flow they are but estimated, of source and result each for itself."""

    def note(self, kind: str, what: object) -> None:
        self.findings.append((kind, str(what)))


class Unfit(Exception):
    """The generator's mistake: the source itself does not run, or the two forms differ."""


def judge(plan: Plan, how: Settings) -> Outcome:
    """Compile, and note all that is wrong.  Raises Unfit where the plan itself is."""
    outcome = Outcome(estimated=not {"if", "loop"}.isdisjoint(step.kind for step in plan.steps))
    arrays = [id(value) for step in plan.steps for value in step.attrs.values() if isinstance(value, np.ndarray)]
    how = replace(how, shared=len({*arrays}) < len(arrays))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (of_onnx if how.form == "onnx" else of_torch)(plan, how, outcome)
    for warning in caught:
        if "repcompiler" in warning.filename:
            outcome.note("warning", warning.message)
    return outcome


def compiled(source: Any, how: Settings, outcome: Outcome, example: Any) -> Any:
    """What the compiler makes of it, its report read."""
    report = repcompiler.Report()
    try:
        arguments = {"objective": how.objective, "passes": _rules(how, outcome.fired), "verify": how.verify, "report": report}
        result = repcompiler.compile(source, example, **arguments)
    except Exception as error:  # whatever it is, it is a finding
        outcome.note("crash", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} {_where(error)}")
        return None
    outcome.fired.update(report.counts())
    for declined in report.declined:
        outcome.refused[re.sub(r"'[^']*'|[\d.]+(e-?\d+)?", "_", f"{declined.rule}: {declined.reason}")] += 1
        if declined.is_mistake:
            outcome.note("wrong", f"{declined.rule} at {declined.root}: {declined.reason}")
    for rule, root in report.reverted:
        outcome.note("wrong", f"{rule} at {root} was taken back")
    for step in report.steps:
        if step.saved < -1e-12:
            outcome.note("dearer", step)
    before, after = report.before, report.after
    assert before is not None
    assert after is not None
    known = (how.given or how.form == "onnx") and not outcome.estimated
    if how.objective == "macs" and known and after.macs > before.macs:
        outcome.note("dearer", f"multiply-accumulates {before.macs} -> {after.macs}")
    more = after.parameters > before.parameters
    if how.form == "torch":  # where a number may become a buffer, and a buffer a parameter
        more = more and after.bytes > before.bytes
    if how.objective == "params" and not how.shared and more:
        outcome.note("dearer", f"parameters {before.parameters} -> {after.parameters}")
    return result


def _rules(how: Settings, fired: Counter[str]) -> list[Pass]:
    """The passes, those that only show an operation as a convolution counted when they do."""

    def counted(rule: ViewRule) -> ViewRule:
        def view(*arguments: Any) -> Any:
            fired[rule.name] += 1
            return rule.view(*arguments)

        return replace(rule, view=view)

    chosen = [rule for rule in PASSES if how.passes is None or rule.name in how.passes]
    return [counted(rule) if isinstance(rule, ViewRule) else rule for rule in chosen]


def _where(error: BaseException) -> str:
    """The innermost line of the compiler's own."""
    places = []
    tracer = error.__traceback__
    while tracer is not None:
        code = tracer.tb_frame.f_code
        if "repcompiler" in code.co_filename or "/passes/" in code.co_filename:
            places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{code.co_name}")
        tracer = tracer.tb_next
    return f"in {places[-1]}" if places else ""


def of_onnx(plan: Plan, how: Settings, outcome: Outcome) -> None:
    samples = feeds(plan, how.seed)
    try:
        shapes: list[Shape] = [tuple(value.shape) for value in trace(plan, samples[0])]
        new = not NEWER.isdisjoint(step.attrs.get("name", step.kind) for step in plan.steps)
        source = model(plan, shapes, max(how.opset, 17) if new else how.opset, how.seed % 16 == 0)
        runs = session(source.SerializeToString())
    except Exception as error:
        raise Unfit(f"{type(error).__name__}: {error}") from error
    original = source.SerializeToString(deterministic=True)
    example = {f"x{index}": array for index, array in enumerate(samples[0])} if how.given and how.seed % 3 == 0 else None
    result = compiled(source, how, outcome, example)
    if source.SerializeToString(deterministic=True) != original:
        outcome.note("mutated", "the source model")
    if result is None:
        return
    try:
        onnx.checker.check_model(result, full_check=True)
        runs_result = session(result.SerializeToString())
    except Exception as error:
        outcome.note("invalid", f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return
    if how.twice and compiled(source, how, Outcome(), example).SerializeToString(
        deterministic=True
    ) != result.SerializeToString(deterministic=True):
        outcome.note("unsteady", "other bytes the second time")

    def run(runtime: Any, arrays: Sequence[NDArray]) -> list[NDArray]:
        return [np.asarray(array) for array in runtime.run(None, {f"x{i}": array for i, array in enumerate(arrays)})]

    for sample in samples:
        try:
            values = trace(plan, sample)
            expected = run(runs, sample)
        except Exception as error:
            if sample is samples[0]:
                raise Unfit(f"{type(error).__name__}: {error}") from error
            continue
        truth = [values[output].numpy() for output in plan.outputs]
        if sample is not samples[0] and any(one.shape != other.shape for one, other in zip(expected, truth, strict=True)):
            continue  # the file states the nominal size somewhere, and means another network at this one
        try:
            actual = run(runs_result, sample)
        except Exception as error:
            outcome.note("wrong", f"does not run on {[a.shape for a in sample]}: {str(error).splitlines()[0]}")
            continue
        _compare(outcome, sample, truth, expected, actual, lambda arrays: run(runs, arrays))


def _compare(
    outcome: Outcome,
    sample: Sequence[NDArray],
    truth: Sequence[NDArray],
    expected: Sequence[NDArray],
    actual: Sequence[NDArray],
    run: Callable[[Sequence[NDArray]], list[NDArray]],
) -> None:
    """No further from the truth than a small multiple of what the source is, and of what the last bit of the inputs makes."""
    outcome.compared += 1
    for index, (real, source, result) in enumerate(zip(truth, expected, actual, strict=True)):
        if source.shape != real.shape or not _largest(source - real) <= 1e-3 * max(1.0, _largest(real)):
            raise Unfit(f"output {index}: the forms differ: {source.shape} {real.shape}")
        if result.shape != real.shape:
            outcome.note("wrong", f"output {index} has shape {result.shape}, not {real.shape}")
            continue
        error, unit = _largest(result - real), _largest(source - real)
        allowed = 8 * max(unit, 4 * EPS * _largest(real))
        if not error <= allowed:
            rng = np.random.default_rng(0)
            for _ in range(NUDGES):
                other = [array * (1 + EPS * rng.choice([-1, 1], array.shape)).astype(np.float32) for array in sample]
                allowed = max(allowed, 8 * _largest(run(other)[index] - source))
        if not error <= allowed:
            shapes = [array.shape for array in sample]
            outcome.note(
                "wrong", f"output {index} on {shapes} is off by {error:.1e} of {_largest(real):.1e}, allowed {allowed:.1e}"
            )


def _enlarged(plan: Plan, sample: Sequence[Any]) -> list[int]:
    """The scales by constants that have more pixels than what they scale: of a network that takes no larger image than its
    example, the compiler knows the extents, and an image of one pixel that is repeated along them is another network.
    """
    try:
        values = trace(plan, sample)
    except Exception:  # a size that the network cannot take
        return []
    steps = list(enumerate(plan.steps, len(plan.inputs)))
    return [index for index, step in steps if step.kind == "scale" and values[index].shape != values[step.inputs[0]].shape]


def _largest(numbers: NDArray) -> float:
    return float(np.max(np.abs(numbers), initial=0.0))


def of_torch(plan: Plan, how: Settings, outcome: Outcome) -> None:
    samples = [[torch.from_numpy(array).double() for array in sample] for sample in feeds(plan, how.seed)]
    try:
        source = network(plan)
        with torch.no_grad():
            source(*(sample.clone() for sample in samples[0]))
    except Exception as error:
        raise Unfit(f"{type(error).__name__}: {error}") from error
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    example = tuple(samples[0]) if how.given else None
    result = compiled(source, how, outcome, deepcopy(example))
    if any(not torch.equal(tensor, state[name]) for name, tensor in source.state_dict().items()):
        outcome.note("mutated", "the source module")
    if result is None:
        return
    if how.twice:
        again = compiled(source, how, Outcome(), deepcopy(example))
        if str(again.graph) != str(result.graph) or any(
            not torch.equal(tensor, result.state_dict()[name]) for name, tensor in again.state_dict().items()
        ):
            outcome.note("unsteady", "another module the second time")
    for sample in samples:
        if _enlarged(plan, sample) != _enlarged(plan, samples[0]):
            continue
        ours, theirs = ([tensor.clone() for tensor in sample] for _ in range(2))
        try:
            with torch.no_grad():
                expected = source(*ours)
        except Exception:  # a size that the network cannot take
            continue
        if not all(torch.isfinite(one).all() for one in (expected if isinstance(expected, tuple) else (expected,))):
            continue
        try:
            with torch.no_grad():
                actual = result(*theirs)
        except Exception as error:
            outcome.note("wrong", f"does not run on {[tuple(x.shape) for x in sample]}: {str(error).splitlines()[0]}")
            continue
        outcome.compared += 1
        expected, actual = (given if isinstance(given, tuple) else (given,) for given in (expected, actual))
        pairs = zip((*expected, *ours), (*actual, *theirs), strict=True)
        for index, (one, other) in enumerate(pairs):
            what = f"output {index}" if index < len(expected) else f"input {index - len(expected)} afterwards"
            if one.shape != other.shape or one.dtype != other.dtype:
                outcome.note("wrong", f"{what} is {tuple(other.shape)} {other.dtype}, not {tuple(one.shape)} {one.dtype}")
            elif not (error := _largest((one - other).numpy())) <= DOUBLE * max(1.0, _largest(one.numpy())):
                outcome.note(
                    "wrong",
                    f"{what} on {[tuple(x.shape) for x in sample]} is off by {error:.1e} of {_largest(one.numpy()):.1e}",
                )
