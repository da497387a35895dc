"""What each rewrite's own check says and takes, and which mistakes it notices: `make certificates`, docs/certificates.md.

python examples/certificates.py              all networks
python examples/certificates.py repvgg_a0    some, printed and not written
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from mobileone import export_training_form
from rich.progress import track
from zoo import as_trained

import repcompiler
from repcompiler import rewriter
from repcompiler.certificate import Certificate, Certify, certify
from repcompiler.ir import Expr, Node
from repcompiler.ops import Conv
from repcompiler.pattern import Match
from repcompiler.refusal import Refusal
from repcompiler.sites import Term

PAGE = Path(__file__).parents[1] / "docs" / "certificates.md"
BEGIN, END = "<!-- printed by examples/certificates.py -->\n", "<!-- end -->\n"
NETWORKS = {
    "repvgg_a0": "latency",
    "mobileone_s0": "latency",
    "repghostnet_100": "latency",
    "fastvit_t8": "latency",
    "resnet50": "latency",
    "resnet18": "plain",
    "mobilenetv2_050": "plain",
}
"""And the objective that each is compiled for."""
MISTAKES = {"1e-3": 1e-3, "1e-6": 1e-6, "1e-9": 1e-9}
"""By which part one tap of the new kernel is off."""


@dataclass
class Row:
    """One network."""

    verdicts: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    tried: int = 0
    caught: Counter[str] = field(default_factory=Counter)


def measured(network: str, objective: str) -> Row:
    """Compile, and check every rewrite once as it is and once for each mistake."""
    row = Row()
    rng = np.random.default_rng(0)

    def check(root: Node, match: Match, part: Term, term: Term, need: Certify) -> Certificate | None:
        start = time.process_time()
        certificate = certify(root, match, part, term, Certify.ALL)
        if certificate is None:
            return None
        row.milliseconds.append(1e3 * (time.process_time() - start))
        row.verdicts[certificate.kind] += 1
        if isinstance(part, Expr) and isinstance(part.op, Conv) and certificate.kind != "sampled":
            tap = int(rng.choice(np.flatnonzero(part.op.weight)))
            row.tried += 1
            for name, relative in MISTAKES.items():
                row.caught[name] += notices(root, match, spoiled(part, tap, relative))
        return certificate

    with TemporaryDirectory() as folder, patch.object(rewriter, "certify", check):
        file = Path(folder) / "model.onnx"
        export_training_form(as_trained(network), file)
        repcompiler.compile(file, objective=objective, verify=False)
    return row


def spoiled(part: Expr, tap: int, relative: float) -> Expr:
    """The same with one tap of its kernel off."""
    assert isinstance(part.op, Conv)
    weight = np.array(part.op.weight, np.float64)
    weight.flat[tap] *= 1 + relative
    return replace(part, op=replace(part.op, weight=weight))


def notices(root: Node, match: Match, part: Expr) -> bool:
    """Whether this is refused."""
    try:
        certify(root, match, part, match.context(part), Certify.ALL)
    except Refusal:
        return True
    return False


def lines(rows: dict[str, Row]) -> Iterator[str]:
    """The table."""
    mistakes = " | ".join(f"off by {name}" for name in MISTAKES)
    yield f"| network | rewrites checked | verdicts | ms: median | 90 % | worst | one tap tried | {mistakes} |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: |" + " ---: |" * len(MISTAKES)
    for name, row in rows.items():
        cuts = quantiles(row.milliseconds, n=10)
        times = f"{cuts[4]:.1f} | {cuts[8]:.1f} | {max(row.milliseconds):.0f}"
        verdicts = ", ".join(f"{count} {kind}" for kind, count in row.verdicts.most_common())
        caught = " | ".join(f"{row.caught[mistake]}" for mistake in MISTAKES)
        kind = "" if NETWORKS.get(name, "latency") == "latency" else f" ({NETWORKS[name]})"
        yield f"| {name}{kind} | {len(row.milliseconds)} | {verdicts} | {times} | {row.tried} | {caught} |"


def main(names: Sequence[str]) -> None:
    rows = {name: measured(name, NETWORKS.get(name, "latency")) for name in track(names or list(NETWORKS))}
    text = "".join(f"{line}\n" for line in lines(rows))
    print(text)
    if not names:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    raise SystemExit(any(row.caught["1e-3"] < row.tried for row in rows.values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="*")
    main(parser.parse_args().network)
