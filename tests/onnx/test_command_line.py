"""What `repc` prints, writes and exits with."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version

import onnx
import pytest
from click.testing import CliRunner

import repcompiler
from repcompiler import backends, compiler, passes
from repcompiler.cli import main
from repcompiler.rewriter import Rule

REPVGG = """
    three = Conv<pads=[1,1,1,1]>(x, w_4x4x3x3)  a = BatchNormalization(three, g_4, b_4, m_4, var_4)
    one = Conv(x, v_4x4x1x1)  b = BatchNormalization(one, h_4, c_4, n_4, var_4)
    d = BatchNormalization(x, i_4, d_4, o_4, var_4)
    e = Add(a, b)  f = Add(e, d)  y = Relu(f)
"""
"""A RepVGG block: 3x3, 1x1 and identity branches, each with its batch norm."""


@pytest.fixture
def block(model, tmp_path):
    path = tmp_path / "block.onnx"
    onnx.save(model(REPVGG), path)
    return path


@pytest.fixture
def plain(tmp_path):
    return tmp_path / "plain.onnx"


def repc(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def kinds(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def test_a_block_becomes_plain(block, plain):
    shown = repc(block, "-o", plain).stdout
    assert kinds(plain) == ["Conv", "Relu"]
    for line in ("BatchNormalization", "operators", "parameters", "multiply-accumulates", "file size", "2 x fold_batch_norm"):
        assert line in shown
    assert "deviation" in shown
    assert f"written: {plain}" in shown


def test_compile_may_be_named(block, plain):
    repc("compile", block, "-o", plain)
    assert kinds(plain) == ["Conv", "Relu"]


def test_two_runs_write_the_same_bytes(block, plain):
    written = []
    for _ in range(2):
        command = [sys.executable, "-m", "repcompiler", str(block), "-o", str(plain), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("", "")
        written.append(plain.read_bytes())
    assert written[0] == written[1]


def test_no_torch_is_imported(block, plain):
    program = (
        f"import sys; from repcompiler.cli import main; main([{str(block)!r}, '-o', {str(plain)!r}], standalone_mode=False)"
    )
    check = "; assert not {'torch', 'onnxscript', 'scipy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", program + check], check=True, capture_output=True)


RESIDUAL = """
    r = Relu(x)  c = Conv<pads=[1,1,1,1]>(r, w_6x4x3x3)  a = Relu(c)
    d = Conv<pads=[1,1,1,1]>(a, v_4x6x3x3)  y = Add(d, r)
"""


def test_a_dry_run_says_what_each_block_costs(model, tmp_path):
    onnx.save(model(RESIDUAL), tmp_path / "block.onnx")
    shown = repc(tmp_path / "block.onnx", "--objective", "plain", "--dry-run").stdout
    pixels = 224 * 224  # of an input that leaves them open
    macs = f"{(216 + 216) * pixels:,} -> {(360 + 360) * pixels:,}"
    memory = f"{4 * (4 + 6 + 4) * pixels:,} -> {4 * (4 + 10) * pixels:,}"  # r, c, d; r and c' = [c; r], then c' and y
    costs = f"parameters 432 -> 720, multiply-accumulates {macs}, bytes of activations at once {memory}"
    assert f"remove_residual at 'y': {costs}\n" in shown
    options = ("--objective", "plain", "--json", tmp_path / "report.json")
    assert "remove_residual at" not in repc(tmp_path / "block.onnx", "-o", tmp_path / "plain.onnx", *options).stdout
    (step,) = json.loads((tmp_path / "report.json").read_text())["rewrites"]
    assert step["activations"] == [4 * 14 * pixels] * 2


def test_nothing_is_written_on_a_dry_run(block, plain):
    assert "fold_batch_norm" in repc(block, "--dry-run").stdout
    assert "written" not in repc(block, "--dry-run", "-o", plain).stdout
    assert [path.name for path in block.parent.iterdir()] == ["block.onnx"]


def test_quiet_prints_nothing(block, plain):
    result = repc(block, "-o", plain, "--quiet")
    assert (result.stdout, result.stderr) == ("", "")


def test_explain_says_what_was_left_and_why(model, block, plain):
    onnx.save(model("c = Conv(x, w_4x4x1x1) y = Mul(c, k_4x1x1)", outputs="float[a,b,c,d] c"), block)
    shown = repc(block, "-o", plain, "--explain").stdout
    head = "linear operations still next to each other:\n"
    assert f"{head}     1 x 'y' (Scale) after 'c' (Conv 4->4 1x1): 'c' is an output of the graph\n" in shown
    assert head not in repc(block, "-o", plain).stdout


def test_the_report_as_json(block, plain, tmp_path):
    repc(block, "-o", plain, "--json", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["before"]["operators"] == {"Conv": 2, "BatchNormalization": 3, "Add": 2, "Relu": 1}
    assert report["after"]["operators"] == {"Conv": 1, "Relu": 1}
    assert report["verification"]["checked"]
    assert report["verification"]["equal"]
    known = {"rule", "root", "label", "removed", "added", "saved", "parameters", "macs", "activations", "certificate"}
    assert known == report["rewrites"][0].keys()
    assert report["certificates"] == {"correctly rounded": len(report["rewrites"])}
    assert report["rewrites"][0]["certificate"]["verdict"] == "correctly rounded"
    assert report["remaining"] == []
    result = repc(block, "-o", plain, "--json", "-")
    assert json.loads(result.stdout) == report
    assert "operators" in result.stderr
    assert json.loads(repc(block, "-o", plain, "--json", "-", "--quiet").stdout) == report


def test_passes_are_chosen_by_name(block, plain):
    repc(block, "-o", plain, "--passes", "fold_batch_norm")
    assert sorted(kinds(plain)) == ["Add", "Add", "BatchNormalization", "Conv", "Conv", "Relu"]
    repc(block, "-o", plain, "--passes", " fold_batch_norm , merge_parallel_branches ", "--skip", "merge_parallel_branches")
    assert sorted(kinds(plain)) == ["Add", "Add", "BatchNormalization", "Conv", "Conv", "Relu"]
    repc(block, "-o", plain, "--skip", "batch_norm_to_conv")
    assert sorted(kinds(plain)) == ["Add", "BatchNormalization", "Conv", "Relu"]
    repc(block, "-o", plain, "--passes", "")
    assert kinds(plain) == kinds(block)


def test_every_pass_is_listed_with_its_equation():
    shown = repc("passes").stdout
    for rule in passes.PASSES:
        assert f"\n{rule.name}\n" in f"\n{shown}"
    assert "t (W x + b) + s  =  (t W) x + (t b + s)" in shown


def test_help_and_version():
    shown = " ".join(repc("--help").stdout.split())
    for text in ("repc model.onnx -o plain.onnx", "Exit codes", "compile", "passes"):
        assert text in shown
    shown = repc("compile", "--help").stdout
    for option in (
        "objective",
        "explain",
        "json",
        "dry-run",
        "passes",
        "skip",
        "no-verify",
        "simplify",
        "force",
        "strict",
        "quiet",
    ):
        assert f"--{option}" in shown
    assert version("repcompiler") in repc("--version").stdout


def test_strict_says_that_there_was_nothing_to_do(block, plain):
    assert repc(block, "-o", plain, "--strict").stderr == ""
    result = repc(plain, "-o", block.with_name("again.onnx"), "--strict", code=3)
    assert result.stderr == "repc: nothing to do\n"


def test_onnxsim_may_go_first(block, plain):
    repc(block, "-o", plain, "--simplify", "--passes", "")
    assert "BatchNormalization" not in kinds(plain)[:2]
    repc(block, "-o", plain, "--simplify")
    assert kinds(plain) == ["Conv", "Relu"]
    assert repc(block.with_name("nowhere.onnx"), "-o", plain, "--simplify", code=2).stderr.endswith(
        "nowhere.onnx: no such file\n"
    )


def test_unverified_on_request(block, plain):
    assert "not verified (--no-verify)" in repc(block, "-o", plain, "--no-verify").stdout
    assert kinds(plain) == ["Conv", "Relu"]


def test_names_that_look_like_markup_or_are_not_ascii(model, plain, tmp_path):
    source = tmp_path / "model.onnx"
    proto = model(
        "c = Conv(x, w_4x4x1x1) t = Thing(x) r = Mul(c, k_4x1x1) y = Add(r, t)".replace("Thing", "their.Thing"),
        imports=', "their" : 1',
    )
    proto.graph.node[1].op_type = "[/bold]"
    proto.graph.node[2].output[0] = proto.graph.node[3].input[0] = "[red]\N{GREEK SMALL LETTER PI}"
    onnx.save(proto, source)
    assert "1 x fold_batch_norm" in repc(source, "-o", plain, "--explain").stdout
    command = [sys.executable, "-m", "repcompiler", str(source), "-o", str(plain), "--explain"]
    subprocess.run(
        command, check=True, capture_output=True, env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    )


def test_a_reader_that_has_read_enough_is_no_mistake():
    """repc passes | head"""
    command = [sys.executable, "-m", "repcompiler", "passes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def wrong(rule, factor):
    """The rule with a mistake in it: the weight is off by a factor."""

    def result(**captures):
        term, *_ = rule.result(**captures)
        return replace(term, op=replace(term.op, weight=term.op.weight * factor))

    return Rule(rule.name, rule.doc, rule.patterns, result)


@pytest.fixture
def wrong_merge(monkeypatch):
    """merge_parallel_branches with a mistake of one in a thousand."""
    rules = tuple(wrong(rule, 1.001) if rule.name == "merge_parallel_branches" else rule for rule in passes.PASSES)
    monkeypatch.setattr(compiler, "PASSES", rules)
    return rules


def test_a_wrong_rewrite_is_found_and_taken_back_and_the_rest_is_kept(block, plain, wrong_merge):
    shown = repc(block, "-o", plain, "--no-certify").stdout
    assert "taken back: merge_parallel_branches at 'f' (the result differed with it)" in shown
    assert "2 x fold_batch_norm" in shown
    assert sorted(kinds(plain)) == ["Add", "Add", "BatchNormalization", "Conv", "Conv", "Relu"]
    report = repcompiler.Report()
    repcompiler.compile(block, certify=False, report=report)
    assert report.reverted == [("merge_parallel_branches", "e"), ("merge_parallel_branches", "f")]
    assert report.verification.equal
    assert "it was reverted: verification failed with it" in {declined.reason for declined in report.declined}
    assert {line.value: line.reason for line in report.remaining}["e"] == "it was reverted: verification failed with it"


def test_a_wrong_rewrite_is_refused_by_its_own_check_at_once(block, plain, wrong_merge):
    shown = repc(block, "-o", plain).stdout
    assert (
        "refused: merge_parallel_branches at 'e' (its own check failed: the results differ in a coefficient of 'x': " in shown
    )
    assert "taken back" not in shown
    assert "each rewrite by itself: 2 correctly rounded" in shown
    assert sorted(kinds(plain)) == ["Add", "Add", "BatchNormalization", "Conv", "Conv", "Relu"]


def test_where_the_model_does_not_run_a_wrong_rewrite_is_refused_by_its_own_check(block, plain, wrong_merge):
    proto = onnx.load(block)
    proto.opset_import.add(domain="their", version=1)
    proto.graph.node[-1].domain, proto.graph.node[-1].op_type = "their", "Activation"
    onnx.save(proto, block)
    shown = repc(block, "-o", plain, "--explain").stdout
    assert "'e' (Add) after 'a' (Conv 4->4 3x3), 'b' (Conv 4->4 1x1): its own check failed: the results differ" in shown
    assert "not verified" in shown
    assert kinds(plain).count("Add") == 2


def test_what_no_rewrite_explains_ends_with_exit_code_1_and_no_file(model, block, plain, monkeypatch):
    layers = [f"c{i} = Conv(r{i}, w_4x4x1x1) s{i} = Mul(c{i}, k_4x1x1) r{i + 1} = Relu(s{i})" for i in range(4)]
    onnx.save(model(f"r0 = Relu(x) {' '.join(layers)} y = Neg(r4)"), block)
    patch = backends.onnx.patch

    def lying(document, graph):
        patch(document, graph)
        document.graph[-1].replace_input_with(0, document.graph[-2].inputs[0])

    monkeypatch.setattr("repcompiler.frontends.onnx.patch", lying)
    monkeypatch.setattr(compiler, "REVERTS", 2)
    result = repc(block, "-o", plain, code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("repc: the result differs from the source: deviation ")
    assert result.stderr.endswith("; nothing was written\n")
    assert [path.name for path in block.parent.iterdir()] == ["block.onnx"]
    with pytest.raises(repcompiler.VerificationError):
        repcompiler.compile(block)
