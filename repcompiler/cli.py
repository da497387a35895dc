"""repc: the command line.

    repc model.onnx -o plain.onnx

Exit codes: 0 done; 1 the result failed verification, nothing was written; 2 bad input or usage; 3 nothing to do (--strict);
130 interrupted (SIGINT), 143 terminated (SIGTERM): the output is as it was.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from repcompiler import deferred_imports
from repcompiler.ending import in_one_line
from repcompiler.errors import one_line

deferred_imports.install()  # before anything below reaches onnx-ir

DONE, DIFFERENT, BAD_INPUT, NOTHING_TO_DO = 0, 1, 2, 3


class CompileByDefault(click.Group):
    """A group whose command `compile` need not be named: `repc model.onnx` is `repc compile model.onnx`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help", "--version"):
            args = ["compile", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command: whatever ends it ends it in one line."""
        with in_one_line(_fail):
            return super().invoke(ctx)


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


@click.group(cls=CompileByDefault, context_settings={"help_option_names": ["--help"]})
@click.version_option(package_name="repcompiler")
def main() -> None:
    """Turn a multi-branch ONNX network into an exactly equivalent plain one: repc model.onnx -o plain.onnx

    Say whether any two compute the same: repc verify a.onnx b.onnx

    \b
    Exit codes:  0  done
                 1  the result failed verification; nothing was written
                 2  bad input or usage
                 3  nothing to do (with --strict)
               130  interrupted; 143  terminated; nothing was written
    """


@main.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write the result.")
@click.option(
    "--objective",
    type=click.Choice(["latency", "macs", "params", "plain", "tune"]),
    default="latency",
    show_default=True,
    help="What no rewrite may raise; plain: fewest branches and operations; tune: seconds measured here.",
)
@click.option(
    "--tune",
    "objective",
    flag_value="tune",
    help="--objective tune: time operations in onnxruntime here (kept for the next run; where: $REPC_CACHE), then the result.",
)
@click.option("--passes", callback=_names, metavar="A,B", help="Apply only these passes (see: repc passes).")
@click.option("--skip", callback=_names, metavar="A,B", help="Leave these passes out.")
@click.option("--explain", is_flag=True, help="Say of linear operations still next to each other why they are not one.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the whole result for machines (- for stdout)."
)
@click.option(
    "--report", "page", type=click.Path(path_type=Path), help="Write a page that shows what was rewritten, and why (.html)."
)
@click.option("--dry-run", is_flag=True, help="Do everything but write, and say what each block costs.")
@click.option("--no-verify", is_flag=True, help="Do not compare source and result.")
@click.option("--no-certify", is_flag=True, help="Do not check each rewrite by itself.")
@click.option("--simplify", is_flag=True, help="Run onnxsim first.")
@click.option("--force", is_flag=True, help="Allow the output to replace the input.")
@click.option("--strict", is_flag=True, help="Exit with 3 if there was nothing to do.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def compile_command(
    model: Path,
    output: Path | None,
    objective: str,
    passes: list[str] | None,
    skip: list[str] | None,
    explain: bool,
    json_file: Path | None,
    page: Path | None,
    dry_run: bool,
    no_verify: bool,
    no_certify: bool,
    simplify: bool,
    force: bool,
    strict: bool,
    quiet: bool,
) -> None:
    """Compile MODEL, an .onnx file, and write the result to OUTPUT (the default command)."""
    from repcompiler.backends.onnx_file import data_file
    from repcompiler.compiler import compile_document, select
    from repcompiler.errors import ModelError, VerificationError
    from repcompiler.frontends.onnx import OnnxDocument
    from repcompiler.report import Report
    from repcompiler.simplify import simplified
    from repcompiler.terminal import Terminal

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # what it warns of, the checker says in one line
    if output is None and not dry_run:
        _fail("say where to write the result (-o plain.onnx), or --dry-run", BAD_INPUT)
    output = None if dry_run else output
    terminal = Terminal(quiet, str(json_file) == "-")
    report = Report()
    written: list[Path] = []
    try:
        chosen = select(passes, skip or ())
    except ValueError as error:
        _fail(str(error), BAD_INPUT)
    try:
        with terminal.progress() as progress:
            progress(f"reading {model}")
            source = OnnxDocument.open(simplified(model, progress) if simplify else model)
            read = [*source.external, model]
            _check_targets(output, [json_file, page], read, force)
            source.target = output
            result = compile_document(source, objective, chosen, not no_verify, report, progress, not no_certify)
            if output is not None:
                progress(f"writing {output}")
                result.save(output)
                written = [file for file in (data_file(output), output) if file.exists()]
            if page is not None:
                progress(f"drawing {page}")
                _draw(source, result, report, (model.name, output.name if output else "plain"), page)
    except ModelError as error:
        _fail(str(error), BAD_INPUT)
    except VerificationError as error:
        _fail(f"{error}; nothing was written", DIFFERENT)
    terminal.show(report, read, written, explain, dry_run)
    if json_file is not None:
        _write_json(report.to_dict(), json_file)
    if strict and not report.steps:
        _fail("nothing to do", NOTHING_TO_DO)


@main.command("verify")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--inputs", type=click.Path(path_type=Path), metavar="FILE.npz", help="Arrays by input name: further inputs.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the whole result for machines (- for stdout)."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def verify_command(a: Path, b: Path, inputs: Path | None, json_file: Path | None, quiet: bool) -> None:
    """Say whether two .onnx files compute the same, and if not, where they part.

    \b
    Exit codes:  0  equal, to rounding
                 1  different
                 2  bad input or usage, or nothing can be said
    """
    from repcompiler.equivalence import UNDECIDED, verify
    from repcompiler.errors import ModelError
    from repcompiler.terminal import Terminal

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    terminal = Terminal(quiet, str(json_file) == "-")
    try:
        _check_targets(None, [json_file], [path for path in (a, b, inputs) if path is not None], force=False)
        with terminal.progress() as progress:
            result = verify(a, b, None if inputs is None else _arrays(inputs), progress=progress)
    except ModelError as error:
        _fail(str(error), BAD_INPUT)
    terminal.show_verdict(result)
    if json_file is not None:
        _write_json(result.to_dict(), json_file)
    if result.verdict == UNDECIDED:
        _fail(result.summary(), BAD_INPUT)
    sys.exit(DONE if result.equal else DIFFERENT)


@main.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where to write it: .html, .svg, .txt, .json, .dot, or a copy of AFTER (.onnx); without, text on stdout.",
)
@click.option("--no-verify", is_flag=True, help="Do not compare what the two compute.")
def diff_command(before: Path, after: Path, output: Path | None, no_verify: bool) -> None:
    """Show which part of BEFORE became which part of AFTER, two .onnx files."""
    from repcompiler.errors import ModelError
    from repcompiler.graphdiff.graph_diff import diff

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    try:
        if output is not None:
            _check_targets(None, [output], [before, after], False)
        found = diff(before, after, verify=not no_verify)
        if output is None:
            click.echo(found.to_text())
        else:
            found.save(output)
    except ModelError as error:
        _fail(str(error), BAD_INPUT)


@main.command("passes")
def passes_command() -> None:
    """List the passes, each with its equation."""
    from repcompiler.passes import PASSES

    for rule in PASSES:
        summary, _, rest = rule.doc.partition("\n")
        click.secho(rule.name, bold=True)
        click.echo(f"    {summary}\n")
        click.echo("\n".join(line for line in rest.splitlines() if line.startswith("    ")) + "\n")


def _arrays(path: Path) -> dict[str, Any]:
    """What an .npz file holds, by name."""
    import numpy as np

    from repcompiler.errors import ModelError

    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # whatever the decoder trips over
        raise ModelError(f"{path}: not an .npz file of arrays") from error


def _draw(source: Any, result: Any, report: Any, titles: tuple[str, str], page: Path) -> None:
    """Write the page of --report."""
    from repcompiler.graphdiff.graph_diff import of_compilation

    of_compilation(source, result, report, titles).to_html(page)


def _check_targets(output: Path | None, reports: list[Path | None], read: list[Path], force: bool) -> None:
    """Raise ModelError if what is to be written cannot be, or would overwrite what is read."""
    from repcompiler.backends.onnx_file import check_target, data_file
    from repcompiler.errors import ModelError

    ours = {file.resolve() for file in read}
    for file in (file for file in reports if file is not None and str(file) != "-"):
        check_target(file)
        if file.resolve() in (*ours, output and output.resolve()):
            raise ModelError(f"{file}: the report would overwrite a model")
    if output is not None:
        check_target(output)
        targets = [output, data_file(output)] if len(read) > 1 else [output]
        for target in targets:
            if target.resolve() in ours and not force:
                raise ModelError(
                    f"{output}: would overwrite {target}, which belongs to the input: give another name, or --force"
                )


def _write_json(content: dict[str, Any], path: Path) -> None:
    text = json.dumps(content, indent=1)
    if str(path) == "-":
        click.echo(text)
        return
    try:
        path.write_text(text + "\n")
    except OSError as error:
        _fail(f"{path}: cannot be written ({error.strerror})", BAD_INPUT)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(one_line(f"repc: {message}"), err=True)
    sys.exit(code)
