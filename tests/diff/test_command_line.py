"""`repc --report` and `repc diff`: what they write, refuse, and load."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from repcompiler.cli import main

ROOT = Path(__file__).parents[2]


def repc(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_a_compilation_writes_its_report_beside_the_result(blocks, tmp_path):
    repc(blocks(), "-o", tmp_path / "plain.onnx", "--report", tmp_path / "report.html")
    assert (tmp_path / "plain.onnx").exists()
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "merge_parallel_branches" in page


def test_a_dry_run_writes_its_report_alone(blocks, tmp_path):
    source = blocks()
    repc(source, "--dry-run", "--report", tmp_path / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, "report.html"]


def test_a_diff_is_written_in_the_form_that_its_name_ends_in(blocks, tmp_path):
    path = blocks()
    starts = {"html": "<!DOCTYPE html>", "svg": "<svg ", "json": "{", "dot": "digraph", "txt": path.name}
    for ending, start in starts.items():
        repc("diff", path, path, "-o", tmp_path / f"diff.{ending}")
        assert (tmp_path / f"diff.{ending}").read_text().startswith(start)
    assert json.loads((tmp_path / "diff.json").read_text())["verdict"] == "equal"


def test_a_diff_without_a_file_is_text(blocks):
    path = blocks()
    shown = repc("diff", path, path).stdout
    assert "operations are the same" in shown


def test_the_result_with_metadata_computes_the_same_and_names_what_went(blocks, tmp_path):
    path = blocks(blocks=1)
    repc(path, "-o", tmp_path / "plain.onnx")
    repc("diff", path, tmp_path / "plain.onnx", "-o", tmp_path / "annotated.onnx")
    annotated = onnx.load(tmp_path / "annotated.onnx")
    onnx.checker.check_model(annotated)
    [conv, relu] = annotated.graph.node
    told = {prop.key: prop.value for prop in conv.metadata_props}
    assert "block0/bn3" in json.loads(told["repcompiler.from"])
    assert list(relu.metadata_props) == []
    del conv.metadata_props[:]
    assert annotated.graph == onnx.load(tmp_path / "plain.onnx").graph


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_another_ending_is_refused_and_nothing_written(blocks, tmp_path, ending):
    path = blocks()
    shown = repc("diff", path, path, "-o", tmp_path / f"diff.{ending}", code=2).stderr
    assert "a diff is written as .html" in shown
    assert not (tmp_path / f"diff.{ending}").exists()


def test_a_report_does_not_replace_a_model(blocks, tmp_path):
    path = blocks()
    for arguments in (("diff", path, path, "-o", path), (path, "-o", tmp_path / "plain.onnx", "--report", path)):
        assert "would overwrite a model" in repc(*arguments, code=2).stderr


def test_a_file_that_is_no_model_is_bad_input(blocks, tmp_path):
    (tmp_path / "no.onnx").write_text("no")
    assert repc("diff", blocks(), tmp_path / "no.onnx", code=2).stderr.startswith("repc: ")


def test_the_page_and_its_layout_are_loaded_for_a_report_alone(blocks, tmp_path):
    code = (
        "import sys; from repcompiler.cli import main; main(sys.argv[1:], standalone_mode=False); "
        "print('LOADED', *{name.split('.')[0] for name in sys.modules})"
    )
    command = [sys.executable, "-c", code, blocks(), "-q", "-o", tmp_path / "plain.onnx"]
    run = lambda *more: subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: E731
    assert {"jinja2", "graphlay", "torch"} & set(run().stdout.split()) == set()
    loaded = set(run("--force", "--report", tmp_path / "report.html").stdout.split())
    assert {"jinja2", "graphlay"} <= loaded
    assert "torch" not in loaded
