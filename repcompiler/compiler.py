"""lift -> rewrite to a fixpoint -> patch the source -> verify -> report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES, TUNE, Objective
from repcompiler.deviation import Verification
from repcompiler.document import Comparison, Document
from repcompiler.errors import VerificationError
from repcompiler.explain import explain
from repcompiler.passes import PASSES
from repcompiler.reference import Reference, too_large
from repcompiler.report import Report
from repcompiler.rewrite_log import Log
from repcompiler.rewriter import Pass, Rewriter

Progress = Callable[[str], None]
"""Told what is being done; a user interface may show it."""

Site = tuple[str, str]
"""(rule, value) of one rewrite."""

Attempt = Callable[[frozenset[Site], int | None], tuple[Document, Log]]
"""Compile without the rewrites at these sites, and stop after so many."""

REVERTS = 8
"""Rewrites that are taken back, one by one, before the whole compilation is distrusted."""


def compile(  # noqa: A001 - the name users know from torch.compile
    model: Any,
    example_inputs: Any = None,
    *,
    objective: str = "latency",
    passes: Sequence[str | Pass] | None = None,
    verify: bool = True,
    certify: bool = True,
    report: Report | None = None,
) -> Any:
    """An exactly equivalent, plainer model of the same kind.  The input is never changed.

    Args:
        model: an `nn.Module` or `torch.fx.GraphModule` in eval mode (a GraphModule is returned), the path of an .onnx file
            or an `onnx.ModelProto` (a ModelProto is returned), or an `onnx_ir.Model`.
        example_inputs: a tensor, or a tuple of the positional arguments (torch); a dict of arrays by input name (ONNX).
            Optional; verification makes up inputs where it can.
        objective: what a rewrite may not raise: "latency", "macs", "params", "plain" (fewest branches and operations) or "tune"
            (seconds measured in onnxruntime here, kept in a file for the next time: `repcompiler.tuning`).
        passes: names or rules to apply, all by default; an empty list applies none.
        verify: compare source and result, take back what makes them differ.
        certify: prove each rewrite by itself, before and after, and refuse what is wrong (`repcompiler.certificate`).
        report: filled in with what was done, what was left and why, and the measured deviation.

    Raises:
        ModelError: the model cannot be compiled as given.
        VerificationError: the result differs, and no rewrite can be blamed.
    """
    from repcompiler.frontends import open_document

    source = open_document(model, example_inputs)
    return compile_document(source, objective, select(passes), verify, report or Report(), certificates=certify).model


def select(passes: Sequence[str | Pass] | None, skip: Sequence[str] = ()) -> tuple[Pass, ...]:
    """The passes of these names, in their fixed order; rules given as objects come after."""
    known = {rule.name: rule for rule in PASSES}
    wanted = list(known) if passes is None else passes
    names = [item for item in (*wanted, *skip) if isinstance(item, str)]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no pass is named {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [rule for name, rule in known.items() if name in wanted and name not in skip]
    return (*chosen, *(item for item in wanted if not isinstance(item, str)))


def compile_document(
    source: Document,
    objective: str,
    passes: Sequence[Pass],
    verify: bool,
    report: Report,
    progress: Progress = lambda message: None,
    certificates: bool = True,
) -> Document:
    """Compile, verify, and take back the rewrites that verification blames; under `tune` all, if the result is slower."""
    cost = _objective(objective, progress)
    need = Certify.WHERE_POSSIBLE if certificates else Certify.NONE

    def attempt(banned: frozenset[Site], fuel: int | None = None) -> tuple[Document, Log]:
        fork = source.fork()
        graph = fork.lift()
        log = Rewriter(graph, passes, cost, fuel, banned, need).run()
        if log.steps:
            log.renamed = fork.patch(graph)
        log.remaining = explain(graph, log.declined)
        graph.dissolve()
        return fork, log

    before = source.statistics()
    reference: Reference | None = None
    if verify:  # first, for what it needs is free again when the weights are merged
        progress("running the source in double precision")
        reference = Reference(source, skipped=too_large(before))
        if certificates and not reference.samples:
            need = Certify.ALL
    progress("rewriting")
    result, log = attempt(frozenset())
    banned: frozenset[Site] = frozenset()
    verification: Verification | None = None
    while reference is not None:
        progress("verifying")
        verification = reference.compare(result)
        if not verification.checked and log.steps and need is Certify.WHERE_POSSIBLE:
            progress("the model cannot be compared as a whole: each rewrite is to be certified by itself")
            need = Certify.ALL
            result, log = attempt(banned)
            continue
        if verification.equal or not log.steps:
            break
        result.release()
        if len(banned) == REVERTS:
            raise VerificationError(f"the result differs from the source: {verification.summary()}")
        progress("looking for the rewrite to blame")
        banned |= {_blame(reference, log, banned, attempt)}
        result, log = attempt(banned)
    timing = _timing(source, result, progress) if objective == TUNE and log.steps else None
    if timing is not None and timing.slower:
        result.release()
        result, log = attempt(banned, 0)
    report.fill(before, result.statistics(), log, objective, verification, banned)
    report.timing = timing
    return result


def _objective(name: str, progress: Progress) -> Objective:
    if name == TUNE:
        from repcompiler.tuning import tuned

        return tuned(progress)
    if name not in OBJECTIVES:
        raise ValueError(f"no objective is named {name}; there are {', '.join((*OBJECTIVES, TUNE))}")
    return OBJECTIVES[name]


def _timing(source: Document, result: Document, progress: Progress) -> Comparison | None:
    """Source and result run by turns; None where they cannot be run here."""
    from repcompiler.stopwatch import compare

    progress("timing source and result")
    try:
        return compare(source.runner(), result.runner())
    except Exception:  # a runtime may raise anything
        return None


def _blame(reference: Reference, log: Log, banned: frozenset[Site], attempt: Attempt) -> Site:
    """The first rewrite with which the result differs: bisection over how many rewrites are done."""
    good, bad = 0, len(log.steps)
    while bad - good > 1:
        middle = (good + bad) // 2
        partial, _ = attempt(banned, middle)
        good, bad = (middle, bad) if reference.compare(partial).equal else (good, middle)
        partial.release()
    step = log.steps[bad - 1]
    return step.rule, step.root
