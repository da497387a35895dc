"""Compare the latency of ONNX files in onnxruntime as a user runs them: its own graph optimisations on, one thread."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime


@dataclass(frozen=True)
class Latency:
    milliseconds: float
    """Median of one run."""
    ratio: float
    """Median over rounds of (this file's run / the first file's run in the same round): a busy machine slows both."""


def compare(files: Sequence[Path], shapes: Mapping[str, Sequence[int]], rounds: int = 60, warm_up: int = 5) -> list[Latency]:
    """The files by turns, one run each a round, in an order that rotates; `shapes`: the shape of each input by name."""
    onnxruntime.set_default_logger_severity(3)  # the exporter's own leftovers are warned about, which is no news here
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]) for file in files]
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    times = np.empty((rounds, len(sessions)))
    for turn in range(-warm_up, rounds):
        for step in range(len(sessions)):
            index = (turn + step) % len(sessions)
            start = time.perf_counter()
            sessions[index].run(None, feeds)
            if turn >= 0:
                times[turn, index] = time.perf_counter() - start
    return [Latency(1e3 * median(column), median(column / times[:, 0])) for column in times.T]
