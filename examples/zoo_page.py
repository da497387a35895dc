"""docs/zoo.md from the rows of the sweep."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from tables import table

Row = dict[str, Any]
FRONTENDS = ("torch", "onnx")
KINDS = ("Conv", "BatchNormalization", "Add")
NOISE = 0.03
"""How much slower counts, and at least twice what the source differs from itself in the same rounds."""
SAME = 1e-4
"""Of the largest output: where a result in onnxruntime must be, or within `MULTIPLE` of the source's own rounding."""
MULTIPLE = 64.0

HEAD = """# The zoo

The smallest network of every convolutional family of timm and torchvision (random weights, batch norm statistics as after
training) through both frontends: a torch module, and its ONNX export with every branch. Written by `make zoo`
([zoo_sweep.py](../examples/zoo_sweep.py)) from [zoo.jsonl](zoo.jsonl), which holds all figures.

Counts are of the ONNX files, the torch result exported as it stands; Conv / BN / Add. Latency: onnxruntime with its default
optimisations, one thread, files by turns, median ratio to the source. Deviation: largest error against the source in float64,
relative to the largest output; in brackets the source's own float32 rounding. timm's own conversion is
`timm.utils.reparameterize_model`, where it changes anything.
"""


def name(row: Row) -> str:
    return f"{row['source']} {row['name']}"


def slower(row: Row, kind: str, other: str) -> bool:
    """Whether a result is slower than another file of its row, by more than noise."""
    ratios = {"source": 1.0, **(row.get("latency") or {})}
    if kind not in ratios or other not in ratios:
        return False
    return bool(ratios[kind] > ratios[other] * (1 + max(NOISE, 2 * abs(ratios["again"] - 1))))


def errors(row: Row) -> dict[str, str]:
    return row.get("errors") or {}


def crashes(row: Row) -> list[str]:
    """What went wrong in the compiler, or in its process as a whole."""
    return [f"{stage}: {errors(row)[stage]}" for stage in (*FRONTENDS, "process") if stage in errors(row)]


def wrong(row: Row) -> list[str]:
    """Signs of a wrong model: verification failed, a rewrite was taken back, or onnxruntime says something else."""
    found = [f"{kind}: {errors(row)[kind]}" for kind in FRONTENDS if errors(row).get(kind, "").startswith("wrong")]
    for kind in FRONTENDS:
        part = row.get(kind) or {}
        found += [f"{kind}: {item['rule']} at {item['root']} was taken back" for item in part.get("reverted", [])]
        difference = (row.get("differences") or {}).get(kind, 0.0)
        if not difference <= max(SAME, MULTIPLE * (part.get("rounding") or 0.0)):
            found.append(f"{kind}: differs by {difference:.1e} in onnxruntime")
    return found


def behind(row: Row) -> list[str]:
    """Where timm's own conversion leaves fewer nodes of a kind, or is faster by more than noise."""
    counts, found = row.get("counts", {}), []
    for kind in FRONTENDS:
        for what in KINDS if {kind, "timm"} <= counts.keys() else ():
            left, converted = counts[kind][what], counts["timm"][what]
            if left > converted:
                found.append(f"{kind}: {left} {what}, timm {converted}")
        if slower(row, kind, "timm"):
            found.append(f"{kind}: {row['latency'][kind]:.2f}x, timm {row['latency']['timm']:.2f}x")
    return found


def listed(title: str, rows: Sequence[Row], reasons: Sequence[Sequence[str]]) -> Iterator[str]:
    """`title: how many`, and which."""
    found = [(row, reason) for row, reason in zip(rows, reasons, strict=True) if reason]
    yield f"* {title}: **{len(found)}**"
    yield from (f"    * {name(row)}: {'; '.join(reason)}" for row, reason in found)


def summary(rows: Sequence[Row]) -> Iterator[str]:
    both = sum(all(row.get(kind) for kind in FRONTENDS) for row in rows)
    yield f"* networks: **{len(rows)}**, of which {both} through both frontends"
    yield from listed(
        "crashed or did not end", rows, [[text for text in crashes(row) if ": wrong" not in text] for row in rows]
    )
    yield from listed("wrong", rows, [wrong(row) for row in rows])
    apart = [[kind for kind in FRONTENDS if (row.get(kind) or {}).get("verified", True) is None] for row in rows]
    yield from listed("not compared as a whole, each rewrite by itself", rows, apart)
    late = [[f"{kind} {row['latency'][kind]:.2f}x" for kind in FRONTENDS if slower(row, kind, "source")] for row in rows]
    yield from listed("slower than the source, over noise", rows, late)
    timm = sum("timm" in row.get("counts", {}) for row in rows)
    yield f"* timm's own conversion changes something: **{timm}**"
    yield from listed("of these, behind timm", rows, [behind(row) for row in rows])
    others = [
        [f"{stage}: {text}" for stage, text in errors(row).items() if stage not in (*FRONTENDS, "process")] for row in rows
    ]
    yield from listed("other tools failed (export, onnxruntime, timm)", rows, others)


LEFT = ["Conv / BN / Add (module)", "source", "torch", "onnx", "timm", "nodes", "M parameters", "M MACs"]
SPEED = ["latency", "source", "torch", "onnx", "timm", "deviation, torch", "deviation, onnx", "rewrites", "seconds to compile"]


def left(row: Row) -> list[str]:
    """What stands in the files, and what the torch frontend (or else the other) counts in the model."""
    counts, part = row.get("counts", {}), row.get("torch") or row.get("onnx") or {}
    shown = {kind: " / ".join(str(found[what]) for what in KINDS) for kind, found in counts.items()}
    return [
        f"{row['name']} ({row['family'].split('/')[0]})",
        *(shown.get(kind, "") for kind in ("source", *FRONTENDS, "timm")),
        " -> ".join(str(counts[kind]["nodes"]) for kind in ("source", "onnx") if kind in counts),
        *(" -> ".join(f"{number / 1e6:.1f}" for number in part.get(what, ())) for what in ("parameters", "macs")),
    ]


def speed(row: Row) -> list[str]:
    ratios, parts = row.get("latency") or {}, [row.get(kind) or {} for kind in FRONTENDS]
    deviations = [(part.get("deviation"), part.get("rounding")) for part in parts]
    return [
        row["name"],
        f"{ratios['milliseconds']:.1f} ms" if ratios else "",
        *(f"{ratios[kind]:.2f}x" if kind in ratios else "" for kind in (*FRONTENDS, "timm")),
        *("" if result is None else f"{result:.1e} ({own:.1e})" for result, own in deviations),
        " / ".join(str(sum(part["rewrites"].values())) if part else "-" for part in parts),
        " / ".join(f"{part['seconds']:.0f}" if part else "-" for part in parts),
    ]


def refusals(rows: Sequence[Row]) -> Iterator[str]:
    """Why what is left is left: by reason, in how many networks and how often."""
    times: Counter[str] = Counter()
    where: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        for reason, count in ((row.get("onnx") or row.get("torch") or {}).get("reasons") or {}).items():
            times[reason] += count
            where[reason].append(row["name"])
    lines = ([reason, str(len(where[reason])), str(count), where[reason][0]] for reason, count in times.most_common())
    yield from table(["reason (the commonest of each network)", "networks", "times", "for example"], lines)


def page(rows: Sequence[Row], machine: str) -> str:
    compilers = {row["versions"]["repcompiler"] for row in rows}
    packages = (
        ", ".join(f"{what} {number}" for what, number in rows[0]["versions"].items() if what != "repcompiler") if rows else ""
    )
    parts = [HEAD, f"{machine}; {packages}; source of the compiler {', '.join(sorted(compilers))}.\n", *summary(rows), ""]
    for source in dict.fromkeys(row["source"] for row in rows):
        mine = [row for row in rows if row["source"] == source]
        parts += [f"## {source}\n", *table(LEFT, map(left, mine)), "", *table(SPEED, map(speed, mine)), ""]
    return "\n".join([*parts, "## Refusals\n", *refusals(rows), ""])
