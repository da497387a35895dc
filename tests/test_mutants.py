"""A mutant is one small change of meaning, and the file is as it was afterwards."""

import ast
from pathlib import Path

import pytest
from mutants import mutants

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "repcompiler/algebra.py", ROOT / "repcompiler/structure.py", *sorted(ROOT.glob("passes/[a-z]*.py"))]

SOURCE = '''"""Sum - difference."""


def function(first: int | None, second=1, *, before, after):
    """Text - 1."""
    if first < 0:
        refuse(f"it is {first - 1} below")
    assert second > 0
    return [max(before, a + 1) for a, b in zip(first, second, strict=True)] if second else -1
'''

EDITS = {
    "if first < 0 -> if False",
    "first < 0 -> first <= 0",
    "first < 0 -> second < 0",
    "first < 0 -> first < 1",
    "max(before, a + 1) -> min(before, a + 1)",
    "max(before, a + 1) -> max(after, a + 1)",
    "max(before, a + 1) -> max(before, a - 1)",
    "max(before, a + 1) -> max(before, b + 1)",
    "max(before, a + 1) -> max(before, a + 0)",
    "zip(first, second, strict=True) -> zip(second, second, strict=True)",
    "zip(first, second, strict=True) -> zip(first, first, strict=True)",
    "1 -> 0",
}


def test_mistakes_are_of_meaning_not_of_text():
    found = {mutant.edit for mutant in mutants(SOURCE)}
    whole = "[max(before, a + 1) for a, b in zip(first, second, strict=True)]"
    branches = {f"{whole} if second else -1 -> {whole}", f"{whole} if second else -1 -> -1"}
    condition = {
        f"{whole} if second else -1 -> {whole} if first else -1",
        f"{whole} if second else -1 -> {whole} if second else 1",
    }
    assert found - branches - condition == EDITS


def test_a_mutant_is_one_edit_and_compiles():
    original = ast.unparse(ast.parse(SOURCE)).splitlines()
    for mutant in mutants(SOURCE):
        compile(mutant.tree, "mutant", "exec")
        changed = [line for line, before in zip(ast.unparse(mutant.tree).splitlines(), original, strict=True) if line != before]
        assert len(changed) == 1, mutant.edit


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_edits_of_a_function_have_names_of_their_own(file):
    found = [(mutant.function, mutant.edit) for mutant in mutants(file.read_text())]
    assert len(found) == len(set(found))
