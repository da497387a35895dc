"""Small mistakes to plant into a Python file, one at a time: signs, off-by-ones, swapped operands, guards that are not there.

    for mutant in mutants(source): compile(mutant.tree, ...)

They are edits of the syntax tree; text of messages, annotations and doc strings are left alone.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
FUNCTIONS = {"max": "min", "min": "max", "any": "all", "all": "any", "prod": "sum", "gcd": "__import__('math').lcm"}
PARTNERS = (
    ("first", "second"),
    ("before", "after"),
    ("inner", "outer"),
    ("inner_step", "outer_step"),
    ("p1", "p2"),
    ("s1", "s2"),
    ("k1", "k2"),
    ("t1", "t2"),
    ("e1", "s1"),
    ("a", "b"),
    ("t", "s"),
    ("groups", "width"),
    ("split", "flatten"),
)
"""Names that are easily taken for each other."""
TELLING = 16
"""Characters of source that say where an edit is; a lone constant does not."""


@dataclass(frozen=True)
class Mutant:
    function: str
    line: int
    edit: str
    """Source before -> after, with a number where a function has several such places."""
    version: str
    """Of the function without the edit."""
    tree: ast.Module
    """Valid until the next mutant is made."""


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a file."""
    tree = ast.parse(source)
    for top in tree.body:
        version = sha256(ast.dump(top).encode()).hexdigest()[:12]
        names = {node.id for node in ast.walk(top) if isinstance(node, ast.Name)}
        names |= {node.arg for node in ast.walk(top) if isinstance(node, ast.arg)}
        seen: Counter[str] = Counter()
        for path in list(_places(top)):
            for new in _edits(path[-1], names):
                shown = _shown(path)
                before = _text(shown)
                located = ast.fix_missing_locations(ast.copy_location(new, path[-1]))
                with _replaced(path[-2], path[-1], located):
                    edit = f"{before} -> {_text(new if shown is path[-1] else shown)}"
                    seen[edit] += 1
                    edit += f" (#{seen[edit]})" if seen[edit] > 1 else ""
                    yield Mutant(
                        getattr(top, "name", "module"), path[-1].lineno, edit, version, ast.fix_missing_locations(tree)
                    )


Path = tuple[ast.AST, ...]


def _places(node: ast.AST, path: Path = ()) -> Iterator[Path]:
    """Paths to every expression and statement in which a mistake would be one of meaning."""
    path = (*path, node)
    if len(path) > 1 and isinstance(node, (ast.expr, ast.stmt)):
        yield path
    for name, field in ast.iter_fields(node):
        if name in ("annotation", "returns") or (name == "args" and _speaks(node)) or _is_minus(node):
            continue
        for child in field if isinstance(field, list) else [field]:
            strict = isinstance(child, ast.keyword) and child.arg == "strict"  # an assertion, not the algebra
            if isinstance(child, ast.AST) and not strict and not isinstance(child, (ast.JoinedStr, ast.Raise, ast.Assert)):
                yield from _places(child, path)


def _speaks(node: ast.AST) -> bool:
    """Whether it is a call of `refuse`, whose argument is text."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refuse"


def _is_minus(node: ast.AST) -> bool:
    """Whether it is a negative constant, which is one mistake and not two."""
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)


def _edits(node: ast.AST, names: set[str]) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(left, ast.MatMult(), right):
            yield ast.BinOp(right, ast.MatMult(), left)
        case ast.BinOp(left, operator, right) if type(operator) in OPERATORS:
            yield ast.BinOp(left, OPERATORS[type(operator)](), right)
        case ast.Compare(left, [comparison, *rest], right):
            yield ast.Compare(left, [COMPARISONS[type(comparison)](), *rest], right)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield operand  # so -1 becomes 1
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(0 if value == 1 else value + 1)
        case ast.If(_, body, orelse):
            yield ast.If(ast.Constant(False), body, orelse)
        case ast.IfExp(_, body, orelse):
            yield body
            yield orelse
        case ast.Name(name, ast.Load()) if name in FUNCTIONS:
            yield ast.parse(FUNCTIONS[name], mode="eval").body
        case ast.Attribute(value, name, context) if name in ("any", "all"):
            yield ast.Attribute(value, FUNCTIONS[name], context)
        case ast.Name(name, ast.Load()):
            for pair in PARTNERS:
                if name in pair and names.issuperset(pair):
                    yield ast.Name(pair[1 - pair.index(name)], ast.Load())


def _text(node: ast.AST) -> str:
    """Source in one line; of a guard, its condition."""
    return f"if {ast.unparse(node.test)}" if isinstance(node, ast.If) else ast.unparse(node)


def _shown(path: Path) -> ast.AST:
    """The smallest expression around the place that says where it is."""
    shown = path[-1]
    for outer in path[-2::-1]:
        if len(_text(shown)) >= TELLING or not isinstance(outer, ast.expr):
            break
        shown = outer
    return shown


@contextmanager
def _replaced(parent: ast.AST, old: ast.AST, new: ast.AST) -> Iterator[None]:
    """`parent` with one child exchanged, and then as it was."""
    for name, field in ast.iter_fields(parent):
        if field is old:
            setattr(parent, name, new)
            yield
            setattr(parent, name, old)
            return
        if isinstance(field, list) and any(child is old for child in field):
            index = next(position for position, child in enumerate(field) if child is old)
            field[index] = new
            yield
            field[index] = old
            return
    raise ValueError("it is no child")
