"""What `repc` shows: a table, what was rewritten, the measured deviation; progress on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from repcompiler.equivalence import VerifyResult
from repcompiler.errors import one_line
from repcompiler.report import Report

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


class Terminal:
    """Results on stdout, progress on stderr, colours only where a person looks."""

    def __init__(self, quiet: bool, stdout_taken: bool = False) -> None:
        self.quiet = quiet
        self.out = Console(stderr=stdout_taken, highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """A function that shows what is being done, on a terminal."""
        if self.quiet or not self.err.is_terminal:
            yield lambda message: None
            return
        with self.err.status("") as status:
            yield lambda message: status.update(Text(message))

    def show(self, report: Report, before: Sequence[Path], after: Sequence[Path], explain: bool, costs: bool = False) -> None:
        """The whole result: what was done, and the files that were read and written, the model itself last.

        `explain`: why what is left is left.  `costs`: what each rewrite costs that adds arithmetic.
        """
        if self.quiet:
            return
        self.out.print(_table(report, before, after))
        for rule, count in report.counts().items():
            self._line(f"{count:>6} x {rule}")
        if not report.steps:
            self._line("nothing to rewrite")
        for line in report.mistakes():
            self._line(line, "yellow")
        for line in report.dearer() if costs else ():
            self._line(line)
        if explain and report.remaining:
            self._line("linear operations still next to each other:")
            for line in report.explanation():
                self._line(line)
        if verdicts := report.verdicts():
            self._line(verdicts)
        if report.verification is None:
            self._line("not verified (--no-verify)")
        else:
            self._line(report.verification.summary(), "green" if report.verification.checked else "yellow")
        if report.timing is not None:
            self._line(str(report.timing), "yellow" if report.timing.slower else "green")
        if after:
            self._line(f"written: {after[-1]}" + "".join(f", its weights beside it: {file}" for file in after[:-1]))

    def show_verdict(self, result: VerifyResult) -> None:
        """How two models compare: the figures of each output, the probes, where they part, the verdict last."""
        if self.quiet:
            return
        for note in result.notes:
            self._line(note, "yellow")
        self.out.print(_deviations(result))
        self._line(f"run on {', '.join(result.probes)}")
        if result.different and len(result.different) < len(result.probes):
            self._line(f"different on {', '.join(result.different)}", "red")
        if located := result.difference or result.unlocated:
            self._line(str(located), "red")
        self._line(result.summary(), "green" if result.equal else "red" if result.different else "yellow")

    def _line(self, text: str, style: str = "") -> None:
        """One line as it is; what the terminal has no letters for, by their numbers."""
        encoding, text = self.out.encoding, "\n".join(one_line(line, len(line)) for line in text.split("\n"))
        self.out.print(Text(text.encode(encoding, "backslashreplace").decode(encoding), style=style))


def _deviations(result: VerifyResult) -> Table:
    """Largest number and rounding of the first model; how far off the second is as it runs and in float64, also in units."""
    table = Table()
    table.add_column("output")
    for column in ("largest", "rounding", "deviation", "units", "float64", "units"):
        table.add_column(column, justify="right")
    for output in result.outputs:
        scale, own, deviation = (f"{number:.2e}" for number in (output.scale, output.source, output.result))
        run, exact = (Text(f"{units:.2g}", style="" if output.equal else "red") for units in output.units)
        exactly = ("", "") if output.exact is None else (f"{output.exact:.2e}", exact)
        table.add_row(Text(output.name), scale, own, deviation, run, *exactly)
    return table


def _table(report: Report, read: Sequence[Path], written: Sequence[Path]) -> Table:
    table = Table()
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("", justify="right")
    rows = report.rows()
    for index, (what, before, after) in enumerate(rows):
        change = f"{after / before:.2f}x" if before and after else ""
        table.add_row(Text(what), short(before), short(after), change, end_section=index == len(rows) - 6)
    if written:
        old, new = (sum(file.stat().st_size for file in files) for files in (read, written))
        table.add_row("file size", f"{short(old)}B", f"{short(new)}B", f"{new / old:.2f}x")
    return table


def short(number: int) -> str:
    """1361451008 as 1.36 G."""
    for unit, letter in UNITS:
        if abs(number) >= 10 * unit:
            return f"{number / unit:.1f} {letter}"
        if abs(number) >= unit:
            return f"{number / unit:.2f} {letter}"
    return str(number)
