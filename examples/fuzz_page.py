"""docs/fuzzing.md, from the verdicts of `fuzz.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from repcompiler.passes import PASSES

Row = Mapping[str, Any]
SHOWN = 80
INTRODUCTION = """# Fuzzing

Written by `make fuzz`. A seed is a random network of 1 to 30 operations ([fuzz_graphs.py](../examples/fuzz_graphs.py)): linear
regions of every kind the compiler knows, published blocks, activations, what it does not look into, control flow around it;
values read twice, layers called twice, weights with exact zeros, ones and repetitions; from seed 22,000 on also blocks as their
authors spell them ([fuzz_spellings.py](../examples/fuzz_spellings.py)). It is built as an ONNX model or as a
torch module, compiled under a random objective, all passes or some, with verification and without, and compared with the
source by code of its own ([fuzz_check.py](../examples/fuzz_check.py)) on the nominal, a tiny and a larger size: torch in double
precision to 1e-9, ONNX in onnxruntime against the plan in double precision, to 8 times the source's own error.

A finding is a crash, a wrong number, a rewrite that verification took back, a model that `onnx.checker` or onnxruntime
refuses, a changed input, other bytes the second time, a cost that rose, a warning, or more than a minute. `python
examples/fuzz.py --seed N` prints the network of a seed, and the smallest part of it that shows its finding. What was found so
far is kept as tests, each with its seed: [tests/fx/test_fuzzed.py](../tests/fx/test_fuzzed.py) and
[tests/onnx/test_fuzzed.py](../tests/onnx/test_fuzzed.py).
"""


def page(rows: Sequence[Row], compiler: str) -> str:
    """The figures, then the tables."""
    fired: Counter[str] = sum((Counter(row["fired"]) for row in rows), Counter())
    refused: Counter[str] = sum((Counter(row["refused"]) for row in rows), Counter())
    forms = Counter(row["form"] for row in rows)
    bad = [row for row in rows if row["findings"]]
    current = sum(row["compiler"] == compiler for row in rows)
    rewritten = sum(bool(row["fired"]) for row in rows)
    figures = [
        f"* **{len(rows):,} graphs**: {forms['onnx']:,} in ONNX, {forms['torch']:,} in torch; {rewritten:,} were rewritten",
        f"* {sum(fired.values()):,} rewrites and views, {sum(row['compared'] for row in rows):,} comparisons",
        f"* **{len(bad)} graphs with a finding**",
        f"* {sum(row['seconds'] for row in rows):,.0f} seconds; {current:,} graphs by the compiler as it is, others before",
    ]
    return "\n".join(
        [
            INTRODUCTION,
            *figures,
            "",
            "## Passes",
            "",
            "How often each happened; one that shows an operation as a convolution: how often it did.",
            "",
            "| pass | times |",
            "| --- | ---: |",
            *(f"| {rule.name} | {fired[rule.name]:,} |" for rule in PASSES),
            "",
            "## Refusals",
            "",
            f"The {SHOWN} most frequent of {len(refused)}, names and numbers left out.",
            "",
            "| pass: reason | times |",
            "| --- | ---: |",
            *(f"| {reason} | {times:,} |" for reason, times in refused.most_common(SHOWN)),
            "",
            "## Findings",
            "",
            *([f"* seed {row['seed']}: {kind}: {what}" for row in bad for kind, what in row["findings"]] or ["None."]),
            "",
        ]
    )
