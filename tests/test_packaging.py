"""The package as it is installed: the wheel is whole, and the command line stays light."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).parents[1]


def python(code, *arguments, cwd=ROOT):
    """Run code in a process of its own that finds this checkout; its standard output.  Fails where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(code, *arguments, cwd=ROOT):
    """Top-level modules that are in memory after running code (a deferred module counts once it has been executed)."""
    report = (
        "\nimport sys\nfrom importlib.util import _LazyModule\n"
        "print('LOADED', *{name.split('.')[0] for name, module in sys.modules.items() if type(module) is not _LazyModule})"
    )
    return set(python(code + report, *arguments, cwd=cwd).rpartition("LOADED")[2].split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the sources, with the setuptools that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("repcompiler", "passes"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=source, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture
def identity(tmp_path):
    """A small ONNX file."""
    nodes = [helper.make_node("Identity", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_the_wheel_holds_every_source_file(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {f"repcompiler/passes/{path.name}" for path in (ROOT / "passes").glob("*.py")}
    folders = (".", "frontends", "backends", "graphdiff")
    sources |= {
        path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / "repcompiler" / folder).glob("*.py")
    }
    assert sources - packed == set()
    assert "repcompiler/py.typed" in packed
    assert {f"repcompiler/graphdiff/page.{ending}" for ending in ("html.jinja", "css", "js")} <= packed
    assert not any(name.startswith("passes/") for name in packed)


def test_an_unpacked_wheel_works_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import sys; sys.path.insert(0, '.'); import repcompiler.passes as p; print(p.__file__, len(p.PASSES))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    file, count = done.stdout.split()
    assert Path(file).resolve() == (tmp_path / "repcompiler" / "passes" / "__init__.py").resolve()
    assert int(count) > 10


def test_passes_is_not_imported_from_the_root():
    code = "import sys\ntry:\n    import passes\nexcept ImportError as error:\n    print(error)"
    assert "import repcompiler.passes instead" in python(code)


def test_the_command_line_starts_without_torch_sympy_onnx_or_rich():
    assert loaded_by("import repcompiler.cli") & {"torch", "sympy", "onnx", "onnxruntime", "rich"} == set()


def test_compiling_an_onnx_file_imports_no_torch_no_sympy_and_no_networkx(identity):
    code = """
import sys
from repcompiler.cli import main
main([sys.argv[1], "-o", sys.argv[2]], standalone_mode=False)
"""
    loaded = loaded_by(code, identity, identity.with_name("plain.onnx"))
    assert "onnxruntime" in loaded
    assert loaded & {"torch", "sympy", "networkx"} == set()
    assert [node.op_type for node in onnx.load(identity.with_name("plain.onnx")).graph.node] == ["Relu"]
