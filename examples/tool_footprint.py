"""Wall time and peak memory of whole processes on the same files: repc, onnxslim, onnxsim, and onnx-ir's load and save alone.

Prints Markdown.  The tools run by turns, several rounds, medians.  This process must stay small (no numpy, no torch): what a
child inherits before it starts its program counts towards the child's peak.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

NETWORKS = ("repvgg_a0", "resnet50", "mobileone_s0")
ROUNDS = 3
ZOO = str(Path(__file__).with_name("zoo.py"))
SCRIPTS = Path(sysconfig.get_path("scripts"))
FLOOR = "import onnx_ir, sys; onnx_ir.save(onnx_ir.load(sys.argv[1]), sys.argv[2])"
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024

TOOLS: dict[str, Sequence[str]] = {
    "`repc IN -o OUT`": (str(SCRIPTS / "repc"), "IN", "-o", "OUT"),
    "`repc --no-certify IN -o OUT`": (str(SCRIPTS / "repc"), "--no-certify", "IN", "-o", "OUT"),
    "`repc --no-certify --no-verify IN -o OUT`": (str(SCRIPTS / "repc"), "--no-certify", "--no-verify", "IN", "-o", "OUT"),
    "`onnxslim IN OUT`": (str(SCRIPTS / "onnxslim"), "IN", "OUT"),
    "`onnxsim IN OUT`": (str(SCRIPTS / "onnxsim"), "IN", "OUT"),
    "onnx-ir, load and save": (sys.executable, "-c", FLOOR, "IN", "OUT"),
}


def measure(command: list[str]) -> tuple[float, float]:
    """(seconds, peak MB) of a process from its start to its end.  Raises RuntimeError where it fails; errors stay on stderr."""
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=silent)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss * MAXRSS_UNIT / 1e6


def rows(network: str) -> list[str]:
    """One Markdown row a tool."""
    with TemporaryDirectory() as folder:
        files = {"IN": f"{folder}/in.onnx", "OUT": f"{folder}/out.onnx"}
        subprocess.run([sys.executable, ZOO, network, files["IN"]], check=True, capture_output=True)
        runs: dict[str, list[tuple[float, float]]] = {tool: [] for tool in TOOLS}
        for turn in range(-1, ROUNDS):
            for tool, command in TOOLS.items():
                measured = measure([files.get(word, word) for word in command])
                if turn >= 0:
                    runs[tool].append(measured)
    medians = {tool: [median(column) for column in zip(*pairs, strict=True)] for tool, pairs in runs.items()}
    return [f"| {network} | {tool} | {seconds:.2f} s | {peak:.0f} MB |" for tool, (seconds, peak) in medians.items()]


def main() -> None:
    print("| network | whole process | wall time | peak memory |\n| --- | --- | ---: | ---: |", flush=True)
    for network in NETWORKS:
        print("\n".join(rows(network)), flush=True)


if __name__ == "__main__":
    main()
