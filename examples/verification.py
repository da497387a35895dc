"""How often is a broken model caught, and an equal one passed?  `make verification` writes docs/verification.md.

python examples/verification.py             all, with three sets of weights each
python examples/verification.py --seeds 1   one set, printed and not written
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from rich.progress import track
from verification_mutants import MUTANTS, Mutant
from verification_pairs import PAIRS, Pair

import repcompiler
from repcompiler.runtime import session

PAGE = Path(__file__).parents[1] / "docs" / "verification.md"
BEGIN, END = "<!-- printed by examples/verification.py -->\n", "<!-- end -->\n"
SEEDS = 3


class Row(NamedTuple):
    """One pair of models: whether they are called different, how far apart they are, whether one sample would show it."""

    network: str
    what: str
    different: bool
    run: float
    exact: float | None
    sampled: bool
    where: str


def compared(case: Mutant | Pair, seed: int) -> Row:
    """Verify the two models of a case."""
    first, second = case.pair(seed)
    result = repcompiler.verify(first, second)
    run = max(output.units[0] for output in result.outputs)
    exact = max((output.units[1] for output in result.outputs if output.exact is not None), default=None)
    where = result.difference.value if result.difference is not None else ""
    return Row(case.network, case.what, not result.equal, run, exact, sample_differs(first, second), where)


def sample_differs(first: onnx.ModelProto, second: onnx.ModelProto) -> bool:
    """What is done by hand: one random input, and numpy's allclose with rtol=1e-3, atol=1e-5."""
    rng = np.random.default_rng(0)
    dims = first.graph.input[0].type.tensor_type.shape.dim
    shape = [dim.dim_value or (1, 4, 64, 64)[axis] for axis, dim in enumerate(dims)]
    x = rng.standard_normal(shape).astype(np.float32)
    results = []
    for model in (first, second):
        runtime = session(model.SerializeToString(), threads=1)
        results.append(runtime.run(None, {runtime.get_inputs()[0].name: x}))
    return not all(
        one.shape == other.shape and np.allclose(other, one, rtol=1e-3, atol=1e-5) for one, other in zip(*results, strict=True)
    )


def sweep(cases: Sequence[Mutant | Pair], seeds: int) -> list[list[Row]]:
    """For each case a row a set of weights."""
    return [[compared(case, seed) for seed in range(seeds)] for case in track(cases)]


def page(mutants: Sequence[Sequence[Row]], pairs: Sequence[Sequence[Row]]) -> Iterator[str]:
    """The figures, then the tables."""
    broken, equal = ([row for rows in table for row in rows] for table in (mutants, pairs))
    caught, passed = sum(row.different for row in broken), sum(not row.different for row in equal)
    yield f"* broken: **{caught} of {len(broken)} caught** ({len(mutants)} mistakes, {len(mutants[0])} sets of weights each);"
    yield f"  one random input and `allclose(rtol=1e-3, atol=1e-5)` catch {sum(row.sampled for row in broken)}"
    run, exact = max(row.run for row in equal), max(row.exact or 0.0 for row in equal)
    yield f"* equal by construction: **{passed} of {len(equal)} passed** ({len(pairs)} pairs); the furthest is off by"
    yield f"  {run:.2g} of 8 units as it is run, and by {exact:.2g} of 2 in float64"
    yield ""
    yield "| network | mistake | caught | by one sample | least deviation, in units: run | in float64 | first different value |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for rows in mutants:
        where = ", ".join(f"`{name}`" for name in dict.fromkeys(row.where for row in rows) if name)
        counts = f"{sum(row.different for row in rows)} of {len(rows)} | {sum(row.sampled for row in rows)}"
        least = f"{min(row.run for row in rows):.2g} | {in_float64(rows, min)}"
        yield f"| {rows[0].network} | {rows[0].what} | {counts} | {least} | {where} |"
    yield ""
    yield "| network | the same, otherwise written | passed | largest deviation, in units: run | in float64 |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for rows in pairs:
        most = f"{max(row.run for row in rows):.2g} | {in_float64(rows, max)}"
        yield f"| {rows[0].network} | {rows[0].what} | {sum(not row.different for row in rows)} of {len(rows)} | {most} |"


def in_float64(rows: Sequence[Row], which: Callable[[list[float]], float]) -> str:
    """The least or largest deviation there, where it was computed."""
    known = [row.exact for row in rows if row.exact is not None]
    return f"{which(known):.2g}" if known else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = parser.parse_args().seeds
    mutants, pairs = sweep(MUTANTS, seeds), sweep(PAIRS, seeds)
    text = "".join(f"{line.rstrip()}\n" for line in page(mutants, pairs))
    print(text)
    if seeds == SEEDS:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    missed = [row for rows in mutants for row in rows if not row.different]
    wrong = [row for rows in pairs for row in rows if row.different]
    for row in (*missed, *wrong):
        print(f"{'missed' if row in missed else 'called different'}: {row.network}, {row.what}")
    raise SystemExit(bool(missed or wrong))


if __name__ == "__main__":
    main()
