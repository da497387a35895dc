"""What README.md shows is so: its commands and Python run, its links lead somewhere, its exit codes are the program's."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import timm
import torch
from torch import nn

import repcompiler
from repcompiler import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line for block in blocks("sh") for line in block.splitlines() if line and not line.startswith(("pip ", "make ", "#"))
]


class Block(nn.Module):
    """BN(3x3) + BN(1x1) + BN(x)."""

    def __init__(self):
        super().__init__()
        self.conv3 = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.conv1 = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return (self.conv3(x) + self.conv1(x) + self.norm(x)).relu()


@pytest.fixture
def block():
    torch.manual_seed(0)
    module = Block().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight.data, part.bias.data, part.running_mean):
                tensor.normal_()
            part.running_var.uniform_(0.5, 2.0)
    return module


@pytest.fixture
def folder(block, tmp_path, monkeypatch):
    """A working directory with `model.onnx`, the block in its training form."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPC_CACHE", str(tmp_path / "cache"))
    conv3, conv1, norm = block.conv3, block.conv1, block.norm
    weights = {"w3": conv3[0].weight, "w1": conv1[0].weight}
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w3"], ["c3"], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Conv", ["x", "w1"], ["c1"]),
    ]
    for source, bn in (("c3", conv3[1]), ("c1", conv1[1]), ("x", norm)):
        names = [f"{source}.{name}" for name in ("gamma", "beta", "mean", "var")]
        weights |= dict(zip(names, (bn.weight, bn.bias, bn.running_mean, bn.running_var), strict=True))
        nodes.append(onnx.helper.make_node("BatchNormalization", [source, *names], [f"{source}.norm"], epsilon=bn.eps))
    nodes.append(onnx.helper.make_node("Add", ["c3.norm", "c1.norm"], ["sum"]))
    nodes.append(onnx.helper.make_node("Add", ["sum", "x.norm"], ["merged"]))
    nodes.append(onnx.helper.make_node("Relu", ["merged"], ["y"]))
    shape = ["batch", 4, "height", "width"]
    graph = onnx.helper.make_graph(
        nodes,
        "block",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(tensor.detach().numpy(), name) for name, tensor in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "model.onnx")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(folder, command):
    program, *arguments = shlex.split(command, comments=True)
    assert program == "repc"
    done = subprocess.run([sys.executable, "-m", "repcompiler", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if "-o" in arguments:
        plain = onnx.load(arguments[arguments.index("-o") + 1])
        assert [node.op_type for node in plain.graph.node] == ["Conv", "Relu"]


def test_python_runs(folder, block):
    scope = {"model": block, "image": torch.randn(1, 4, 8, 9)}
    plain = {}
    for index, code in enumerate(blocks("python")):
        exec(compile(code, f"README.md, block {index}", "exec"), scope)
        plain[index] = scope["plain"]
    module, proto = plain.values()
    image = scope["image"]
    with torch.no_grad():
        torch.testing.assert_close(module(image), block(image))
    for file in (proto, onnx.load("from_torch.onnx")):
        assert [node.op_type for node in file.graph.node] == ["Conv", "Relu"]
    assert scope["report"].verification.equal


def test_explanation_is_what_is_printed():
    report = repcompiler.Report()
    repcompiler.compile(timm.create_model("mobilenetv2_050").eval(), report=report, verify=False)
    assert blocks("text") == ["\n".join(report.explanation()) + "\n"]


def test_verdicts_are_what_is_printed(folder):
    broken = onnx.load("model.onnx")
    (pads,) = (attribute for attribute in broken.graph.node[0].attribute if attribute.name == "pads")
    pads.ints[:] = [0, 1, 2, 1]
    onnx.save(broken, "broken.onnx")
    onnx.save(repcompiler.compile("model.onnx"), "plain.onnx")
    for block in blocks("console"):
        command, _, shown = block.partition("\n")
        program = [sys.executable, "-m", "repcompiler", *shlex.split(command)[2:]]
        printed = subprocess.run(program, capture_output=True, text=True).stdout
        assert unnumbered(printed) == unnumbered(shown)


def unnumbered(text):
    """Without what rounding decides: the last digits of all numbers but counts and places."""
    return re.sub(r"\d\.\d+(e[-+]\d+)?", "", re.sub(r"(\d\.?\d*(e[-+]\d+)?) times", "times", text))


def test_exit_codes_are_the_programs():
    codes = {int(code): meaning for code, meaning in re.findall(r"(\d) ([a-z ,]+)[;`u]", README.split("Exit codes: ")[1][:200])}
    assert codes[cli.DONE].startswith("done")
    assert codes[cli.DIFFERENT].startswith("the result failed verification")
    assert codes[cli.BAD_INPUT].startswith("bad input")
    assert codes[cli.NOTHING_TO_DO].startswith("nothing to do")


def test_make_targets_and_extras_exist():
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z]+)", " ".join([*blocks("sh"), *re.findall(r"`[^`]*`", README)]))) <= set(targets)
    assert set(re.findall(r"'\.\[(\w+)\]'", README)) <= set(extras)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)#]+)", prose) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_table_is_what_was_measured():
    table = README.split("<!-- measured by examples/zoo_table.py -->\n")[1].split("<!-- end -->")[0]
    assert table.count("\n") == 7
    assert table in (ROOT / "docs" / "benchmarks.md").read_text()
