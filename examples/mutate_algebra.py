"""Plant small mistakes into the equations, one at a time, and see that a test notices: `make mutations`.

    python examples/mutate_algebra.py                                    all of the algebra, the structure and the passes
    python examples/mutate_algebra.py repcompiler/algebra.py --only add  one file, one function

Works on a copy of the tree.  A mutant is a child of this process, which has the large libraries loaded already; its import of
the one module gets the mutated code.  Verdicts are kept in build/mutations.jsonl: what was killed is not run again until its
function changes, what survived always is.  Writes docs/mutations.md.
"""

from __future__ import annotations

import argparse
import gc
import importlib.abc
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType
from typing import Any

import hypothesis
import pytest
import torch
from equivalent_mutants import EQUIVALENT
from mutants import Mutant, mutants
from rich.progress import Progress

ROOT = Path(__file__).parents[1]
PAGE, STATE = ROOT / "docs" / "mutations.md", ROOT / "build" / "mutations.jsonl"
FILES = ["repcompiler/algebra.py", "repcompiler/algebra_transposed.py", "repcompiler/structure.py", "repcompiler/one_pixel.py"]
TESTS = ["test_algebra_mutations.py", "test_algebra.py", "test_structure.py", "passes", "test_algebra_guards.py"]
TESTS += ["test_algebra_transposed.py", "test_algebra_namespaces.py", "test_algebra_sizes.py"]
SECONDS = 150
"""Of processor time: a mutant that takes longer does not end, which is noticed too."""

Verdict = dict[str, Any]


class Planted(importlib.abc.MetaPathFinder):
    """Imports one file from code that is given."""

    def __init__(self, module: str, file: Path, code: CodeType) -> None:
        self.module, self.file, self.code = module, file, code

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        loader = SourceFileLoader(name, str(self.file))
        loader.get_code = lambda fullname: self.code  # type: ignore[method-assign]
        return importlib.util.spec_from_file_location(name, self.file, loader=loader)


class FirstFailure:
    """A pytest plugin: runs what is likely to fail first, then what is quick, and keeps the first test or file that fails."""

    def __init__(self, likely: Counter[str]) -> None:
        self.likely = likely
        self.name = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: (-self.likely[item.nodeid], getattr(item.obj, "is_hypothesis_test", False)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.name = self.name or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.name = self.name or f"{report.nodeid} (does not load)"


def tests_for(file: str) -> list[str]:
    """The tests of a file's own first."""
    own = sorted(str(path) for folder in ("tests/passes", "tests") for path in Path(folder).glob(f"test_{Path(file).stem}*.py"))
    return list(dict.fromkeys([*own, *(f"tests/{name}" for name in TESTS)]))


def run_tests(file: str, code: CodeType | None, likely: Counter[str]) -> str:
    """In a child: what failed first, with the module of `file` made from `code`; empty where nothing did."""
    module = Path(file).with_suffix("").as_posix().replace("/", ".")
    name = module if module.startswith("repcompiler.") else f"repcompiler.{module}"
    if code is not None:
        sys.meta_path.insert(0, Planted(name, Path(file).absolute(), code))
    failure = FirstFailure(likely)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:warnings"]
    first = [name for name, _ in likely.most_common(8) if "::" in name]  # alone: loading all takes longer
    if first:
        pytest.main([*options, *first], plugins=[failure])
    if failure.name:
        return failure.name
    status = pytest.main([*options, *tests_for(file)], plugins=[failure])
    return failure.name or ("" if status == pytest.ExitCode.OK else f"pytest: {status!s}")


def judged(file: str, code: CodeType | None, likely: Counter[str]) -> tuple[str, str]:
    """("killed", by which test) or ("timeout", "") or ("survived", "")."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silent, stream)
        os.write(send, (run_tests(file, code, likely) or "survived").encode())
        os._exit(0)
    os.close(send)
    with os.fdopen(receive) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if said == "survived":
        return "survived", ""
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
    return ("timeout", "") if late else ("killed", said or "the interpreter ended")


def load() -> dict[tuple[str, str, str, str], Verdict]:
    """Verdicts so far by (file, function, edit, version of the function)."""
    lines = STATE.read_text().splitlines() if STATE.exists() else []
    return {(row["file"], row["function"], row["edit"], row["version"]): row for row in map(json.loads, lines)}


def key(file: str, mutant: Mutant) -> tuple[str, str, str, str]:
    return file, mutant.function, mutant.edit, mutant.version


def reason(row: Verdict) -> str | None:
    """Why a mutant means the same, if it does."""
    return EQUIVALENT.get((row["function"], row["edit"]))


def sweep(files: Sequence[str], only: str | None, again: bool) -> None:
    """Run what has no verdict yet."""
    verdicts = {} if again else load()
    killers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in verdicts.values():
        killers[row["function"]][row["by"]] += 1
    counts = {file: sum(1 for _ in wanted(file, only)) for file in files}
    STATE.parent.mkdir(exist_ok=True)
    with Progress() as progress, STATE.open("a") as state:
        task = progress.add_task("", total=sum(counts.values()))
        for file in files:
            for mutant in wanted(file, only):
                known = verdicts.get(key(file, mutant), {}).get("verdict")
                equivalent = (mutant.function, mutant.edit) in EQUIVALENT
                if known in ("killed", "timeout") or (known and equivalent):
                    progress.advance(task)
                    continue
                progress.update(task, description=f"{Path(file).name}:{mutant.line} {mutant.function}")
                start = time.perf_counter()
                verdict, by = judged(file, compile(mutant.tree, file, "exec"), killers[mutant.function])
                killers[mutant.function][by] += 1
                row = {"file": file, "function": mutant.function, "line": mutant.line, "edit": mutant.edit}
                row |= {"version": mutant.version, "verdict": verdict, "by": by, "seconds": time.perf_counter() - start}
                print(json.dumps(row), file=state, flush=True)
                if verdict == "survived" and not equivalent:
                    progress.console.print(f"survived: {file}:{mutant.line} {mutant.function}: {mutant.edit}", markup=False)
                progress.advance(task)


def wanted(file: str, only: str | None) -> Iterator[Mutant]:
    return (mutant for mutant in mutants(Path(file).read_text()) if only in (None, mutant.function))


def page(files: Sequence[str]) -> str:
    """docs/mutations.md."""
    verdicts = load()
    rows, open_ends, excused = [], [], []
    for file in files:
        found = [(mutant.line, verdicts.get(key(file, mutant))) for mutant in mutants(Path(file).read_text())]
        done = [{**row, "line": line} for line, row in found if row is not None]
        survived = [row for row in done if row["verdict"] == "survived"]
        open_ends += [row for row in survived if reason(row) is None]
        excused += [row for row in survived if reason(row) is not None]
        numbers = [len(found), len(done), sum(row["verdict"] == "killed" for row in done)]
        numbers += [sum(row["verdict"] == "timeout" for row in done)]
        numbers += [sum(reason(row) is not None for row in survived), sum(reason(row) is None for row in survived)]
        rows.append(f"| {file} | {' | '.join(map(str, numbers))} |")
    lines = [
        "# Mutations",
        "",
        "Written by `make mutations`. A mutant is one small mistake in one equation: a sign, an off-by-one, operands or sides",
        "exchanged, max for min, lcm for gcd, a condition turned or dropped ([mutants.py](../examples/mutants.py)). It is",
        "killed where a test of the algebra or of the passes fails, or does not end. Those that mean the same are listed with",
        "the reason.",
        "",
        "| file | mutants | run | killed | do not end | mean the same | survive |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        *section("Survivors", ((row, "") for row in open_ends)),
        *section("Mutants that mean the same", ((row, f": {reason(row)}") for row in excused)),
        "",
    ]
    return "\n".join(lines)


def section(title: str, entries: Iterator[tuple[Verdict, str]]) -> list[str]:
    lines = [f"* {row['file']}:{row['line']} `{row['function']}`: `{row['edit']}`{text}" for row, text in entries]
    return ["", f"## {title}", "", *(lines or ["None."])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="relative to the root; all by default")
    parser.add_argument("--only", help="one function")
    parser.add_argument("--again", action="store_true", help="also what was killed before")
    parser.add_argument("--page", action="store_true", help="write the page from the verdicts there are")
    arguments = parser.parse_args()
    everything = [*FILES, *sorted(f"passes/{path.name}" for path in (ROOT / "passes").glob("[a-z]*.py"))]
    with TemporaryDirectory() as copy:
        for name in ("repcompiler", "passes", "tests", "pyproject.toml"):
            source, target = ROOT / name, Path(copy) / name
            shutil.copytree(source, target, symlinks=True) if source.is_dir() else shutil.copy(source, target)
        os.chdir(copy)
        sys.path.insert(0, copy)
        if not arguments.page:
            torch.set_num_threads(1)
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            gc.freeze()  # children need not look through what they inherit
            phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
            hypothesis.settings.register_profile("mutants", phases=phases)  # no shrinking: one failure is enough
            hypothesis.settings.load_profile("mutants")
            if (baseline := judged(FILES[0], None, Counter())) != ("survived", ""):
                raise SystemExit(f"the tests fail without any mistake: {baseline[1]}")
            sweep(arguments.files or everything, arguments.only, arguments.again)
        PAGE.write_text(page(everything))
        known = {(mutant.function, mutant.edit) for file in everything for mutant in mutants(Path(file).read_text())}
        for function, edit in EQUIVALENT.keys() - known:
            print(f"no mutant of equivalent_mutants.py any more: {function}: {edit}")


if __name__ == "__main__":
    main()
