"""Random networks through the compiler: `make fuzz` writes docs/fuzzing.md.

    python examples/fuzz.py                      20,000 graphs, or what is left of them
    python examples/fuzz.py --graphs 500         fewer
    python examples/fuzz.py --seed 1234          one, printed, and made as small as still shows what is wrong with it
    python examples/fuzz.py --page               the page alone

Verdicts are kept in build/fuzz.jsonl as they come: it may be stopped at any time and goes on where it stopped.  A seed is run
again when the generator changes, and one that had a finding when the compiler does.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from fuzz_check import Outcome, Unfit, judge
from fuzz_graphs import plan
from fuzz_page import page
from fuzz_settings import Settings, settings
from fuzz_shrink import minimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

HERE = Path(__file__).parent
ROOT = HERE.parent
ROWS, PAGE = ROOT / "build" / "fuzz.jsonl", ROOT / "docs" / "fuzzing.md"
GRAPHS = 20_000
SECONDS = 60
"""A graph that takes longer is a finding."""
MEMORY = 8 * 2**30
"""Bytes of address space: a network may enlarge a volume two hundred times, and then does not run on the larger size."""
CHUNK = 10
JUDGES = ("fuzz_check", "fuzz_shrink")

Row = dict[str, Any]


def versions() -> tuple[str, str]:
    """Of the generator, and of the compiler with what judges it."""
    judges = [path for path in HERE.glob("fuzz_*.py") if path.stem in JUDGES]
    generator = [path for path in HERE.glob("fuzz_*.py") if path.stem not in (*JUDGES, "fuzz_page")]
    compiler = [path for name in ("repcompiler", "passes") for path in (ROOT / name).rglob("*.py")]
    return _digest(generator), _digest([*compiler, *judges])


def _digest(files: Sequence[Path]) -> str:
    return sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:10]


def verdict(seed: int) -> Row:
    """One graph: what fired, what was refused, what is wrong."""
    how, start = settings(seed), time.perf_counter()
    row: Row = {"seed": seed, "form": how.form, "objective": how.objective, "verify": how.verify}
    try:
        outcome = _in_time(seed, how)
    except Unfit as error:
        outcome = Outcome(findings=[("unfit", str(error).replace("\n", " ")[:300])])
    except Exception as error:  # of the fuzzer: the run goes on
        outcome = Outcome(findings=[("fuzzer", f"{type(error).__name__}: {error}"[:300])])
    row |= {"fired": dict(outcome.fired), "refused": dict(outcome.refused), "findings": outcome.findings}
    return row | {"compared": outcome.compared, "seconds": round(time.perf_counter() - start, 3)}


def _in_time(seed: int, how: Settings) -> Outcome:
    def late(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        return judge(plan(seed), how)
    except TimeoutError:
        return Outcome(findings=[("slow", f"more than {SECONDS} s")])
    finally:
        signal.alarm(0)


def verdicts(seeds: Sequence[int]) -> list[Row]:
    """In a process of its own."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    return [verdict(seed) for seed in seeds]


def load() -> dict[int, Row]:
    """The newest row of each seed."""
    lines = ROWS.read_text().splitlines() if ROWS.exists() else []
    return {row["seed"]: row for row in map(json.loads, lines)}


def sweep(graphs: int, jobs: int) -> None:
    """Run what has no verdict yet."""
    rows, (generator, compiler) = load(), versions()

    def is_done(row: Row | None) -> bool:
        return row is not None and row["generator"] == generator and (not row["findings"] or row["compiler"] == compiler)

    missing = [seed for seed in range(graphs) if not is_done(rows.get(seed))]
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    ROWS.parent.mkdir(exist_ok=True)
    pool = ProcessPoolExecutor(jobs, get_context("spawn"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Progress(*columns) as progress, ROWS.open("a") as file:
        task, found = progress.add_task("0 findings", total=len(missing)), 0
        try:
            for row in chain.from_iterable(pool.map(verdicts, chunks)):
                print(json.dumps({**row, "generator": generator, "compiler": compiler}), file=file, flush=True)
                for kind, what in row["findings"]:
                    progress.console.print(
                        f"seed {row['seed']} ({row['form']}, {row['objective']}): {kind}: {what}", markup=False
                    )
                found += bool(row["findings"])
                progress.update(task, description=f"{found} findings", advance=1)
        except KeyboardInterrupt:
            progress.console.print("stopped; what is done is kept")
        finally:
            pool.shutdown(cancel_futures=True)


def show(seed: int) -> bool:
    """One seed: its plan, and the smallest that shows what is wrong.  Whether all is well."""
    drawn, how = plan(seed), settings(seed)
    print(drawn, how, sep="\n")
    findings = judge(drawn, how).findings
    for kind in dict.fromkeys(kind for kind, _ in findings):
        smaller, simpler = minimal(drawn, how, kind)
        print(f"\n{kind}:", smaller, simpler, *judge(smaller, simpler).findings, sep="\n")
    return not findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=GRAPHS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--page", action="store_true", help="write the page from the verdicts there are")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.seed is not None:
        sys.exit(not show(arguments.seed))
    try:
        if not arguments.page:
            sweep(arguments.graphs, arguments.jobs)
    finally:
        generator, compiler = versions()
        rows = [row for row in load().values() if row["generator"] == generator]
        if rows:
            PAGE.write_text(page(rows, compiler))


if __name__ == "__main__":
    main()
