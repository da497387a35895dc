"""Stopped at any stage: one line, an exit code of its own, the old output whole, and nothing left beside it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from repcompiler.cli import main

OLD = b"the old output"
STAGES = {
    "loading": "repcompiler.frontends.onnx_file._check",
    "rewriting": "repcompiler.rewriter.Rewriter._visit",
    "running the source": "repcompiler.frontends.onnx.OnnxDocument.run",
    "writing the result": "repcompiler.onnx_wire.Tensor.write",
    "moving it": "repcompiler.backends.onnx_file.Draft.publish",
}
BODY = "c = Conv(x, w_8x4x3x3)  y = BatchNormalization(c, g_8, b_8, m_8, var_8)"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_at_any_stage(small, tmp_path, monkeypatch, stage, number, code):
    reached = []

    def interrupted(*arguments, **options):
        reached.append(stage)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(STAGES[stage], interrupted)
    target = tmp_path / "plain.onnx"
    target.write_bytes(OLD)
    before = signal.getsignal(number)
    result = CliRunner().invoke(main, [str(small), "-o", str(target)])
    assert reached
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("repc: interrupted; " if code == 130 else "repc: terminated; ")
    assert len(result.stderr.splitlines()) == 1
    assert target.read_bytes() == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "plain.onnx"]
    assert signal.getsignal(number) is before


def test_a_signal_while_files_are_moved_waits_for_both(small, tmp_path, monkeypatch):
    moved = []
    replace = os.replace

    def interrupted(source, target):
        if Path(target).parent == tmp_path:
            moved.append(target)
            os.kill(os.getpid(), signal.SIGTERM)
        replace(source, target)

    monkeypatch.setattr("repcompiler.backends.onnx_file.INLINE_LIMIT", 100)
    monkeypatch.setattr("repcompiler.backends.onnx_file.os.replace", interrupted)
    result = CliRunner().invoke(main, [str(small), "-o", str(tmp_path / "plain.onnx")])
    assert result.exit_code == 143
    assert len(moved) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "plain.onnx", "plain.onnx.data"}
    onnx.checker.check_model(tmp_path / "plain.onnx", full_check=True)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
from repcompiler.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("external", [False, True])
def test_a_file_that_cannot_grow(model, tmp_path, external):
    """As on a full disk: the write itself fails, somewhere in the middle."""
    source, target = tmp_path / "model.onnx", tmp_path / "plain.onnx"
    onnx.save(model(BODY), source, save_as_external_data=external, location="model.data", size_threshold=0)
    target.write_bytes(OLD)
    before = sorted(path.name for path in tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, source, "-o", target, "--no-verify"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "plain.onnx: cannot be written" in line
    assert target.read_bytes() == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == before


KILLED = """
import os, signal, sys
from repcompiler import onnx_wire
onnx_wire.Tensor.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from repcompiler.cli import main
main(sys.argv[1:])
"""


def test_killed_while_writing(small, tmp_path):
    target = tmp_path / "plain.onnx"
    target.write_bytes(OLD)
    done = subprocess.run([sys.executable, "-c", KILLED, small, "-o", target], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == OLD


def test_what_nothing_was_prepared_for_ends_in_one_line(small, tmp_path, monkeypatch):
    def broken(*arguments):
        raise KeyError("a mistake")

    monkeypatch.setattr("repcompiler.rewriter.Rewriter.run", broken)
    arguments = [str(small), "-o", str(tmp_path / "plain.onnx")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "KeyError: 'a mistake', test_interrupts.py line" in line
    monkeypatch.setenv("REPC_TRACEBACK", "1")
    assert isinstance(CliRunner().invoke(main, arguments).exception, KeyError)


def test_more_memory_than_there_is(small, tmp_path, monkeypatch):
    def greedy(*arguments):
        raise MemoryError("Unable to allocate 64.0 TiB")

    monkeypatch.setattr("repcompiler.rewriter.Rewriter.run", greedy)
    result = CliRunner().invoke(main, [str(small), "-o", str(tmp_path / "plain.onnx")])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "it needs more memory than there is (Unable to allocate 64.0 TiB)" in result.stderr
