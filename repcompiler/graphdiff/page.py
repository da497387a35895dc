"""The page: one file, with everything in it.

Names and doc strings of a model are data.  The template escapes whatever is put into it; and should that ever fail, the page's
own content security policy runs no script but the one whose hash it names, and loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from repcompiler.errors import ModelError
from repcompiler.graphdiff import contents

if TYPE_CHECKING:
    from repcompiler.graphdiff.graph_diff import GraphDiff


def html(diff: GraphDiff) -> str:
    """The whole page."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ModelError("a page needs graphlay and jinja2: pip install repcompiler[diff]") from error
    script, style = _text("page.js"), _text("page.css")
    environment = Environment(
        loader=PackageLoader("repcompiler.graphdiff", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.jinja").render(
        contents.of(diff), script=script, style=style, script_digest=digest
    )


def _text(name: str) -> str:
    return (resources.files("repcompiler.graphdiff") / name).read_text(encoding="utf-8")


def write(text: str, path: Path) -> None:
    """Write a text file, or raise ModelError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path}: cannot be written ({error.strerror})") from error
