"""What is said first, and of single operations: how sure it is, what was refused and taken back, how long both take."""

import json

import onnx
import pytest
from onnx import numpy_helper

import repcompiler
from repcompiler.document import Comparison
from repcompiler.graphdiff.contents import of
from repcompiler.graphdiff.summary import Bar, Gauge, Verdict, bars, verdict


def notes(diff):
    """Of each operation of the result that something is said of: what the page has of it."""
    _, after = json.loads(of(diff)["data"])["boxes"]
    return {name: [tuple(note) for note in said] for name, *_, said in after if isinstance(said, list)}


def test_a_refused_rewrite_tells_its_reason_where_it_was_refused(refused):
    report = repcompiler.Report()
    diff = repcompiler.diff(refused, repcompiler.compile(refused, report=report), report=report)
    [reason] = {line.reason for line in report.remaining}
    assert notes(diff) == {"y": [("why it stays", f"{reason} (merge_sequential_convs)")]}
    assert reason in diff.to_html()


def test_a_rewrite_that_was_taken_back_says_so_at_its_place(blocks, wrong_merge):
    path, report = blocks(blocks=1), repcompiler.Report()
    plain = repcompiler.compile(path, report=report, certify=False)
    diff = repcompiler.diff(path, plain, report=report)
    taken_back = {root for rule, root in report.reverted}
    assert taken_back
    for root in taken_back:
        assert ("taken back", "merge_parallel_branches: the result differed with it") in notes(diff)[root]
        assert f"taken back: merge_parallel_branches at '{root}'" in diff.to_text()


def test_a_timing_is_the_first_bar(compiled):
    diff, report = compiled(blocks=1)
    report.timing = Comparison(0.004, 0.003, slower=False)
    assert bars(diff)[0] == Bar("latency, measured here", 4.0, 3.0, "ms")
    assert (bars(diff)[0].words, bars(diff)[0].change) == ("4 ms \N{RIGHTWARDS ARROW} 3 ms", "\N{MINUS SIGN}25 %")
    report.timing = Comparison(0.003, 0.004, slower=True)
    assert "slower, so the model was left as it was" in diff.to_html()


def test_a_rewrite_with_a_verdict_of_its_own_tells_it(blocks, compiled):
    diff, report = compiled(blocks=1)
    page = diff.to_html()
    assert report.verdicts()
    assert report.verdicts() in page
    for step in report.steps:
        assert f"{step.rule}: {step.certificate}" in page
    path, silent = blocks(blocks=1), repcompiler.Report()
    plain = repcompiler.compile(path, report=silent, certify=False)
    assert "each rewrite by itself" not in repcompiler.diff(path, plain, report=silent).to_html()


def test_files_that_compute_the_same_are_equal_with_figures(blocks, tmp_path):
    path = blocks()
    onnx.save(repcompiler.compile(path), tmp_path / "plain.onnx")
    found = verdict(repcompiler.diff(path, tmp_path / "plain.onnx"))
    assert found.state == "equal"
    assert [(gauge.what, gauge.allowed) for gauge in found.gauges] == [("as they run", 8), ("both in float64", 2)]
    assert all(0 < gauge.off < gauge.allowed for gauge in found.gauges)
    assert len(found.probes) == 7


def test_files_that_differ_say_where_they_part(blocks, tmp_path):
    path = blocks(blocks=2)
    model = onnx.load(path)
    [kernel] = [tensor for tensor in model.graph.initializer if tensor.name == "block1/w3"]
    kernel.CopyFrom(numpy_helper.from_array(1.001 * numpy_helper.to_array(kernel), kernel.name))
    diff = repcompiler.diff(path, model)
    found = verdict(diff)
    assert found.state == "different"
    assert "they part at 'block1/conv3'" in found.parting
    assert of(diff)["parting"] == f"b{diff.before.places['block1/conv3']}"
    assert found.parting in diff.to_text()


@pytest.mark.parametrize("verify", [True, False])
def test_what_was_not_run_is_not_called_equal(blocks, verify):
    path = blocks()
    model = onnx.load(path)
    if verify:
        model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    found = verdict(repcompiler.diff(path, model, verify=verify))
    assert (found.state, found.title) == ("unknown", "Not compared")
    assert ("the first model has 1 input" in found.words) is verify


def test_what_is_off_without_bound_is_drawn_and_written():
    gauge = Gauge("as they run", float("inf"), 8.0)
    assert (gauge.words, gauge.width) == ("∞ of 8", 100)
    assert (Gauge("", 2345.0, 8.0).words, Gauge("", 0.123, 8.0).words) == ("2.35 k of 8", "0.12 of 8")
    [written] = Verdict("different", "They differ", "", (gauge,)).to_dict()["gauges"]
    assert json.loads(json.dumps(written, allow_nan=False))["off"] is None
