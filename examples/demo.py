"""What repc does, on one network: `make demo`.

Builds a MobileOne-S0 as it is trained, exports it with every branch and batch norm, compiles the file with `repc`, which
verifies its result, and measures both files by turns in onnxruntime.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from latency import compare
from mobileone import MobileOne, export_training_form, settle_batch_norms

FOLDER = Path("demo")
SIZE = 224


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    trained, plain, page = (FOLDER / f"mobileone_s0.{ending}" for ending in ("onnx", "plain.onnx", "html"))

    print(f"1. MobileOne-S0 in its training form, random weights and batch norm statistics -> {trained}")
    torch.manual_seed(0)
    export_training_form(settle_batch_norms(MobileOne()), trained)

    print(f"2. repc {trained} -o {plain} --report {page}", flush=True)
    subprocess.run([sys.executable, "-m", "repcompiler", str(trained), "-o", str(plain), "--report", str(page)], check=True)

    print("3. onnxruntime, its own optimisations on, one thread, one image, both files by turns")
    before, after = compare([trained, plain], {"image": (1, 3, SIZE, SIZE)})
    print(f"   before {before.milliseconds:.1f} ms, after {after.milliseconds:.1f} ms: {1 / after.ratio:.1f} times as fast")
    print(f"   {page} shows both side by side, what was rewritten, and why: open it in a browser")


if __name__ == "__main__":
    main()
