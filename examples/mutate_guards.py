"""Disable each guard in turn, and see that something notices: `make guards` writes docs/guards.md.

    python examples/mutate_guards.py                            all guards of the passes, the algebra and the engine
    python examples/mutate_guards.py passes/merge_scales.py     those of one file
    python examples/mutate_guards.py --page                     the page alone

A guard is a call of `refuse(...)`: without it, the rewrite goes on.  It is noticed by a test, those that quote its reason
first, or else by a random network that comes out wrong (`fuzz_check`, with verification off).  Works on a copy of the tree; a
mutant is a child of this process whose import of the one module gets the mutated code.  Verdicts are kept in
build/guards.jsonl.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import select
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType
from typing import Any

import pytest
import torch
from mutate_algebra import FirstFailure, Planted
from rich.progress import Progress

ROOT = Path(__file__).parents[1]
PAGE, STATE = ROOT / "docs" / "guards.md", ROOT / "build" / "guards.jsonl"
ENGINE = ("algebra", "algebra_transposed", "structure", "region", "scaling", "scaling_absorb", "scaling_release", "selection")
ENGINE += ("carry", "passing", "experts", "one_pixel", "least_sizes", "sites", "rewriter", "parts", "mixture", "pattern")
ENGINE += ("joins", "chain")
WHOLE = ("tests/passes", "tests/test_rewriter.py", "tests/test_fan_out.py", "tests/test_chain.py", "tests/test_chain_plans.py")
"""Tests that go through the whole engine."""
SEEDS = range(300)
SECONDS = 600

Verdict = dict[str, Any]
Key = tuple[str, str, str, int, str]


@dataclass(frozen=True)
class Guard:
    """One call of `refuse`, and the file without it."""

    file: str
    function: str
    line: int
    reason: str
    nth: int
    """Among those of the function that say the same."""
    version: str
    """Of the function."""
    code: CodeType

    @property
    def key(self) -> Key:
        return self.file, self.function, self.reason, self.nth, self.version


def guards(file: str) -> Iterator[Guard]:
    """Every guard of a file."""
    source = Path(file).read_text()
    count = len(_calls(ast.parse(source)))
    seen: Counter[tuple[str, str]] = Counter()
    for number in range(count):
        tree = ast.parse(source)
        statement, function = _calls(tree)[number]
        text = ast.unparse(function)
        reason = ast.unparse(statement.value.args[0])  # type: ignore[attr-defined]
        nothing = ast.copy_location(ast.Pass(), statement)
        _Replaced(statement, nothing).visit(tree)
        version = sha256(text.encode()).hexdigest()[:10]
        nth = seen[function.name, reason]
        seen[function.name, reason] += 1
        yield Guard(file, function.name, statement.lineno, reason, nth, version, compile(tree, file, "exec"))


def _calls(tree: ast.Module) -> list[tuple[ast.Expr, ast.FunctionDef]]:
    found = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for statement in ast.walk(function):
                call = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "refuse":
                    found.append((statement, function))
    return found  # type: ignore[return-value]


class _Replaced(ast.NodeTransformer):
    def __init__(self, old: ast.stmt, new: ast.stmt) -> None:
        self.old, self.new = old, new

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return self.new if node is self.old else node


def tests_for(guard: Guard) -> tuple[list[str], list[str]]:
    """Those that quote the reason, and the others that there are for the file."""
    words = max(["", *_texts(guard.reason)], key=len)
    files = sorted(str(path) for path in Path("tests").rglob("test_*.py") if "fuzz" not in path.name)
    quoting = [file for file in files if len(words) > 8 and words in Path(file).read_text()]
    stem = Path(guard.file).stem
    own = [file for file in files if Path(file).stem.startswith(f"test_{stem}")]
    rest = own if guard.file.startswith("passes") else [*own, *WHOLE]
    return quoting, [file for file in dict.fromkeys(rest) if file not in quoting]


def _texts(reason: str) -> list[str]:
    """The constant parts of a formatted reason."""
    return [
        node.value for node in ast.walk(ast.parse(reason)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def plant(guard: Guard) -> None:
    module = Path(guard.file).with_suffix("").as_posix().replace("/", ".")
    name = module if module.startswith("repcompiler.") else f"repcompiler.{module}"
    sys.meta_path.insert(0, Planted(name, Path(guard.file).absolute(), guard.code))


def failing_test(guard: Guard, files: Sequence[str]) -> str:
    """What failed first; empty where nothing did."""
    if not files:
        return ""
    plant(guard)
    failure = FirstFailure(Counter())
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", *files], plugins=[failure])
    return failure.name or ("" if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else f"pytest: {status!s}")


def failing_seed(guard: Guard) -> str:
    """The first random network that comes out wrong."""
    plant(guard)
    from fuzz_check import Unfit, judge
    from fuzz_graphs import plan
    from fuzz_settings import settings

    for seed in SEEDS:
        try:
            found = judge(plan(seed), replace(settings(seed), verify=False, objective="plain", passes=None)).findings
        except Unfit:
            continue
        if found:
            return f"seed {seed} ({found[0][0]})"
    return ""


def in_child(work: Callable[[], str]) -> str:
    """What `work` says in a process of its own; that it did not end, where it did not."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silent, stream)
        try:
            said = work()
        except BaseException as error:
            said = type(error).__name__
        os.write(send, (said or "nothing").encode())
        os._exit(0)
    os.close(send)
    ready, _, _ = select.select([receive], [], [], SECONDS)
    if not ready:
        os.kill(child, signal.SIGKILL)
    said = os.read(receive, 4096).decode() if ready else "it does not end"
    os.close(receive)
    os.waitpid(child, 0)
    return "" if said == "nothing" else said or "the interpreter ended"


def noticed(guard: Guard) -> str:
    """By what; empty where nothing notices."""
    quoting, others = tests_for(guard)
    return (
        in_child(lambda: failing_test(guard, quoting))
        or in_child(lambda: failing_test(guard, others))
        or in_child(lambda: failing_seed(guard))
    )


def load() -> dict[Key, Verdict]:
    lines = STATE.read_text().splitlines() if STATE.exists() else []
    return {tuple(row["key"]): row for row in map(json.loads, lines)}


def sweep(files: Sequence[str]) -> None:
    """Run what has no verdict yet, and what nothing noticed."""
    known = load()
    missing = [guard for file in files for guard in guards(file) if not known.get(guard.key, {}).get("by")]
    STATE.parent.mkdir(exist_ok=True)
    with Progress() as progress, STATE.open("a") as state:
        task = progress.add_task("", total=len(missing))
        for guard in missing:
            progress.update(task, description=f"{Path(guard.file).name}:{guard.line}")
            by = noticed(guard)
            print(json.dumps({"key": guard.key, "by": by}), file=state, flush=True)
            if not by:
                progress.console.print(
                    f"nothing notices {guard.file}:{guard.line} {guard.function}: {guard.reason}", markup=False
                )
            progress.advance(task)


def page(files: Sequence[str]) -> str:
    """docs/guards.md."""
    known = load()
    every = [guard for file in files for guard in guards(file)]
    found = [(guard, known[guard.key]["by"]) for guard in every if guard.key in known]
    open_ends = [guard for guard, by in found if not by]
    rows = [f"| {guard.file} | `{guard.function}` | {_said(guard)} | {by or '**nothing**'} |" for guard, by in found]
    return "\n".join(
        [
            "# Guards",
            "",
            "Written by `make guards`. A guard is a refusal of a pass, of the algebra or of the engine. Each was disabled in",
            "turn ([mutate_guards.py](../examples/mutate_guards.py)); noticed by the first test that then failed, or else by",
            "the first random network that came out wrong ([fuzzing.md](fuzzing.md)).",
            "",
            f"**{len(every)} guards, {len(found)} disabled so far, {len(found) - len(open_ends)} of them noticed.**",
            "",
            "| file | function | reason | noticed by |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _said(guard: Guard) -> str:
    return " ... ".join(_texts(guard.reason)).replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="relative to the root; all by default")
    parser.add_argument("--page", action="store_true", help="write the page from the verdicts there are")
    arguments = parser.parse_args()
    everything = sorted(f"passes/{path.name}" for path in (ROOT / "passes").glob("[a-z]*.py"))
    everything += [f"repcompiler/{name}.py" for name in ENGINE]
    with TemporaryDirectory() as copy:
        for name in ("repcompiler", "passes", "tests", "examples", "pyproject.toml"):
            source, target = ROOT / name, Path(copy) / name
            shutil.copytree(source, target, symlinks=True) if source.is_dir() else shutil.copy(source, target)
        os.chdir(copy)
        sys.path.insert(0, copy)
        torch.set_num_threads(1)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        gc.freeze()  # children need not look through what they inherit
        if not arguments.page:
            sweep(arguments.files or everything)
        PAGE.write_text(page(everything))


if __name__ == "__main__":
    main()
