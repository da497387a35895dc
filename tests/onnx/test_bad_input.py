"""Bad input: one clear line, exit code 2, and the folder as it was."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from repcompiler import onnx_wire
from repcompiler.cli import main

BN = "y = BatchNormalization(c, g_8, b_8, m_8, var_8)"
OLD = b"the old output"


def save(path, proto):
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"once upon a time", "not an ONNX"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10", "not an ONNX"),
        (b"PK\x03\x04\x14\x00\x00\x00\x08\x00", "not an ONNX"),
        (b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00}", "not an ONNX"),
        (np.random.default_rng(0).bytes(4096), "not an ONNX"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "it has no operator set or no graph"),
    ],
    ids=["empty", "text", "PNG", "zip", "pickle", "random", "a message without a graph"],
)
def test_what_is_no_onnx_file(rejects, tmp_path, content, message):
    source, target = tmp_path / "model.onnx", tmp_path / "plain.onnx"
    source.write_bytes(content)
    target.write_bytes(OLD)
    rejects(message, source, "-o", target)


def test_what_is_no_file(rejects, tmp_path):
    rejects("nowhere.onnx: no such file", tmp_path / "nowhere.onnx", "-o", tmp_path / "plain.onnx")
    rejects(f"{tmp_path}: not a file", tmp_path, "-o", tmp_path / "plain.onnx")


def test_a_file_cut_short_anywhere(rejects, small, tmp_path):
    whole = small.read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in (*range(1, 40), *range(40, len(whole) - 1, len(whole) // 23), len(whole) - 1):
        cut.write_bytes(whole[:length])
        rejects("cut short", cut, "-o", tmp_path / "plain.onnx")


def unsorted(graph):
    first, second = graph.node
    reordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (second, first)]
    del graph.node[:]
    graph.node.extend(reordered)


def cyclic(graph):
    graph.node[0].input[0] = "y"


def undeclared(graph):
    graph.node[0].input[0] = "nowhere"


def defined_twice(graph):
    graph.node.append(graph.node[0])


def named_twice(graph):
    graph.initializer.append(graph.initializer[0])


def unknown_operator(graph):
    graph.node[0].op_type = "Convolve"


def unknown_attribute(graph):
    graph.node[0].attribute.append(onnx.helper.make_attribute("colour", "red"))


def without_output(graph):
    graph.output[0].name = "nowhere"


def too_few_bytes(graph):
    graph.initializer[0].raw_data = b"1234"


def nan(graph):
    array = onnx.numpy_helper.to_array(graph.initializer[0]).copy()
    array.flat[3] = np.nan
    graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, graph.initializer[0].name))


def infinity(graph):
    graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.full(8, np.inf, "f"), graph.initializer[1].name))


def negative_variance(graph):
    graph.initializer[4].CopyFrom(onnx.numpy_helper.from_array(np.linspace(-1, 1, 8, dtype="f"), graph.initializer[4].name))


def zero_variance_without_eps(graph):
    graph.initializer[4].CopyFrom(onnx.numpy_helper.from_array(np.zeros(8, "f"), graph.initializer[4].name))
    graph.node[1].attribute.append(onnx.helper.make_attribute("epsilon", 0.0))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unsorted, "topologically sorted"),
        (cyclic, "topologically sorted"),
        (undeclared, "not a valid ONNX model: Nodes in a graph must be topologically sorted"),
        (defined_twice, "'c' has been used as output names multiple times"),
        (named_twice, "'w_8x4x3x3' has been used as graph input names multiple times"),
        (unknown_operator, "not a valid ONNX model: No Op registered for Convolve"),
        (unknown_attribute, "not a valid ONNX model: Unrecognized attribute: colour"),
        (without_output, "not a valid ONNX model: Graph output 'nowhere'"),
        (too_few_bytes, "'w_8x4x3x3' cannot be read"),
        (nan, "Conv 'c': its weight 'w_8x4x3x3' contains NaN or infinity"),
        (infinity, "BatchNormalization 'y': its weight 'g_8' contains NaN or infinity"),
        (negative_variance, "BatchNormalization 'y': var + eps is not positive in 4 of its channels"),
        (zero_variance_without_eps, "BatchNormalization 'y': var + eps is not positive in 8 of its channels"),
    ],
)
def test_what_is_no_valid_model(rejects, model, tmp_path, damage, message):
    source, target = tmp_path / "model.onnx", tmp_path / "plain.onnx"
    target.write_bytes(OLD)
    proto = model(f"c = Conv(x, w_8x4x3x3) {BN}")
    damage(proto.graph)
    rejects(message, save(source, proto), "-o", target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing/plain.onnx", "there is no folder"),
        ("model.onnx/plain.onnx", "there is no folder"),
        ("taken", "it is a folder"),
        ("x" * 300 + ".onnx", "cannot be written (File name too long)"),
    ],
)
def test_where_nothing_can_be_written(rejects, small, tmp_path, target, message):
    (tmp_path / "taken").mkdir()
    rejects(message, small, "-o", tmp_path / target)


def test_a_folder_that_does_not_allow_it(rejects, small, tmp_path, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked)  # root may write anywhere
    rejects(f"the folder {locked} does not allow it", small, "-o", locked / "plain.onnx")


def test_a_disk_that_fills_up_leaves_the_old_output(rejects, small, tmp_path, monkeypatch):
    def full(file, *parts):
        file.write(b"half a mod")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_wire, "write", full)
    target = tmp_path / "plain.onnx"
    target.write_bytes(OLD)
    rejects("plain.onnx: cannot be written (No space left on device)", small, "-o", target)


def test_the_input_is_not_overwritten(rejects, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.onnx").symlink_to(small)
    for target in (small, "model.onnx", "./model.onnx", f"../{tmp_path.name}/model.onnx", "link.onnx"):
        rejects("which belongs to the input: give another name, or --force", small, "-o", target)
    rejects("which belongs to the input: give another name, or --force", "link.onnx", "-o", small)
    rejects("the report would overwrite a model", small, "-o", "plain.onnx", "--json", "model.onnx")
    rejects("the report would overwrite a model", small, "-o", "plain.onnx", "--json", "plain.onnx")


def test_with_force_the_input_is_overwritten(small):
    assert CliRunner().invoke(main, [str(small), "-o", str(small), "--force"]).exit_code == 0
    assert [node.op_type for node in onnx.load(small).graph.node] == ["Conv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say where to write the result"),
        (["-o", "p.onnx", "--passes", "fold_everything"], "no pass is named fold_everything; there are eliminate_dead_nodes,"),
        (["-o", "p.onnx", "--skip", "fold_batch_norm,nothing"], "no pass is named nothing"),
        (["-o", "p.onnx", "--json", "missing/report.json"], "there is no folder missing"),
    ],
)
def test_what_is_asked_wrongly(rejects, small, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    rejects(message, small, *arguments)


@pytest.mark.parametrize("arguments", [["--objective", "speed"], ["--colour"], ["another.onnx"]])
def test_what_is_no_option(small, tmp_path, arguments):
    result = CliRunner().invoke(main, [str(small), "-o", str(tmp_path / "plain.onnx"), *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


@pytest.mark.parametrize("content", [b"", b"once upon a time", None], ids=["empty", "text", "unsorted"])
def test_a_process_of_its_own_says_the_same(small, tmp_path, content):
    if content is None:
        proto = onnx.load(small)
        unsorted(proto.graph)
        content = proto.SerializeToString()
    small.write_bytes(content)
    command = [sys.executable, "-m", "repcompiler", str(small), "-o", str(tmp_path / "plain.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"repc: {small}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]
