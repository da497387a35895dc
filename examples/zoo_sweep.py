"""Every convolutional family of timm and torchvision through both frontends: `make zoo` writes docs/zoo.md.

    python examples/zoo_sweep.py                                     what has no row for these versions yet
    python examples/zoo_sweep.py --only repvgg_a0,resnet18 --again   these networks, whatever there is
    python examples/zoo_sweep.py --family byobnet,resnet/seresnet    these modules or families
    python examples/zoo_sweep.py --page                              the page alone

Rows are kept in docs/zoo.jsonl as they come: it may be stopped at any time and goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from zoo_families import Entry, families
from zoo_measure import Row
from zoo_page import page

ROOT = Path(__file__).parents[1]
ROWS, PAGE = ROOT / "docs" / "zoo.jsonl", ROOT / "docs" / "zoo.md"
MEASURE = Path(__file__).with_name("zoo_measure.py")
COMPILER = ("repcompiler", "passes")
PACKAGES = ("torch", "timm", "torchvision", "onnx", "onnxruntime")
LARGEST = 150_000_000
"""Parameters; a family whose smallest network has more is left out."""
SECONDS = 300.0


def versions() -> dict[str, str]:
    """Of the packages, and of this compiler's source."""
    digest = sha256()
    for part in COMPILER:
        for file in sorted((ROOT / part).rglob("*.py")):
            digest.update(file.read_bytes())
    return {"repcompiler": digest.hexdigest()[:10], **{name: version(name) for name in PACKAGES}}


def load() -> dict[tuple[str, str], Row]:
    """The newest row of each network."""
    lines = ROWS.read_text().splitlines() if ROWS.exists() else []
    return {(row["source"], row["name"]): row for row in map(json.loads, lines)}


def measure(entry: Entry, seconds: float, compiler: Path = ROOT) -> Row:
    """The row of one network, from a process of its own that may crash, hang or want too much."""
    start = time.perf_counter()
    row: Row = {"source": entry.source, "family": entry.family, "name": entry.name}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "row.json"
        command = [sys.executable, "-W", "ignore", str(MEASURE), entry.source, entry.name, str(file)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder, "PYTHONPATH": str(compiler)}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            _, said = process.communicate(timeout=seconds)
            end = "" if process.returncode == 0 else f"exit {process.returncode}: {last_line(said)}"
        except subprocess.TimeoutExpired:
            end = f"not done after {seconds:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        row |= json.loads(file.read_text()) if file.exists() else {}
    if end:
        row["errors"] = {**row.get("errors", {}), "process": end}
    return {**row, "total": time.perf_counter() - start}


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing said"])[-1][:200]


def outcome(row: Row) -> str:
    """One line while the sweep runs."""
    ratios = row.get("latency", {})
    times = ", ".join(f"{kind} {ratios[kind]:.2f}x" for kind in ("torch", "onnx", "timm") if kind in ratios)
    errors = "; ".join(f"{stage}: {error}" for stage, error in row.get("errors", {}).items())
    return f"{row['source']} {row['name']}: {times} {errors}".strip()


def sweep(entries: Iterable[Entry], again: bool, seconds: float, jobs: int) -> None:
    """Measure what has no row of these versions, with the compiler as it is now, whatever is edited meanwhile."""
    rows, current = load(), versions()
    missing = [entry for entry in entries if again or rows.get((entry.source, entry.name), {}).get("versions") != current]
    missing.sort(key=lambda entry: ((entry.source, entry.name) in rows, entry.parameters))  # the new first, most rows early
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, ROWS.open("a") as file, TemporaryDirectory() as compiler:
        for part in COMPILER:
            shutil.copytree(ROOT / part, Path(compiler) / part, symlinks=True)
        task = progress.add_task("", total=len(missing))
        with ThreadPoolExecutor(jobs) as pool:  # of threads: each only waits for a process
            for done in as_completed([pool.submit(measure, entry, seconds, Path(compiler)) for entry in missing]):
                row = {**done.result(), "versions": current}
                print(json.dumps(row), file=file, flush=True)
                progress.console.print(outcome(row), markup=False, highlight=False)
                progress.update(task, description=row["name"], advance=1)


def tidy() -> list[Row]:
    """One row a network, in order; not while a sweep is running."""
    rows = sorted(load().values(), key=lambda row: (row["source"], row["family"], row["name"]))
    temporary = ROWS.with_suffix(".tmp")
    temporary.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    temporary.replace(ROWS)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="networks, separated by commas")
    parser.add_argument("--family", default="", help="modules or families, separated by commas")
    parser.add_argument("--again", action="store_true", help="also what has a row")
    parser.add_argument("--page", action="store_true", help="write the page from the rows there are (no sweep may be running)")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time, a core each; latencies disturb each other")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one network")
    arguments = parser.parse_args()
    only, family = ([name for name in text.split(",") if name] for text in (arguments.only, arguments.family))
    try:
        if not arguments.page:
            entries = families(family, only)
            small = [entry for entry in entries if entry.parameters <= LARGEST]
            sweep(small, arguments.again, arguments.seconds, arguments.jobs)
    finally:
        PAGE.write_text(page(tidy(), f"{platform.machine()}, {os.cpu_count()} cores"))


if __name__ == "__main__":
    main()
