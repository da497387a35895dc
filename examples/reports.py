"""Where the examples write what became of a model: a page for each into build/, to be opened in any browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import repcompiler

FOLDER = Path("build")


def page(title: str) -> Path:
    """Where the page of this title goes."""
    FOLDER.mkdir(exist_ok=True)
    return FOLDER / f"{re.sub('[^a-z0-9]+', '_', title.lower()).strip('_')}.html"


def write_report(title: str, before: Any, after: Any, example_inputs: Any, report: repcompiler.Report) -> None:
    """What was rewritten, and why, as the compilation's own log tells it; says where it is."""
    repcompiler.diff(before, after, example_inputs, report=report).to_html(page(title))
    print(f"  what was rewritten, and why: {page(title)}")
