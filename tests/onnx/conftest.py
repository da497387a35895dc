"""ONNX models in ONNX's own text form, and what onnxruntime says they compute.

    model("c = Conv(x, w_8x4x3x3)  y = BatchNormalization(c, g_8, b_8, m_8, var_8)")
    model("y = Slice(x, [1,1], [-1,-1], [2,3])")

`x` is the input and `y` the output.  A name that ends in a shape is a random weight of that shape (`k_scalar` is a single
number, `var_...` is positive); a list or a number among the operands is a constant of integers, or of one float.
"""

import re

import ml_dtypes  # noqa: F401 - bfloat16 for numpy
import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

import repcompiler
from repcompiler.backends.onnx_file import Draft
from repcompiler.cli import main
from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.passes import PASSES
from repcompiler.runtime import session

WEIGHT = re.compile(r"\b([a-z]+)_(scalar|\d+(?:x\d+)*)\b")
LITERAL = re.compile(r"<[^>]*>|(?<=[ ,(])\[([-\d,]+)\]|(?<=[ ,])(-?\d+\.\d+)(?=[,)])")
NUMPY = {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16"}
FOLDS = [rule.name for rule in PASSES if rule.name != "replace_batch_norm"]
"""What is left of a norm stays one, so that it is seen whether it was folded."""
SIZES = ((2, 13, 18, 9), (1, 7, 10, 5), (1, 3, 3, 3), (1, 2, 1, 2))
"""Extents of free axes: batch, then spatial; odd, not square, then so small that everything is border."""


def parse(body, *, x="N,4,H,W", y="", dtype="float", inputs="", outputs="", opset=17, ir=8, imports="", listed=False, **arrays):
    """The model of a body of nodes.  `y` has the rank of `x` unless its shape is given.

    `inputs`, `outputs`: further ones in text form; `arrays`: further initializers by name; `listed`: the initializers are
    also listed as inputs.
    """

    def literal(match):
        integers, number = match.groups()
        if integers is None and number is None:
            return match[0]
        name = f"literal{len(arrays)}"
        arrays[name] = np.array(integers.split(","), np.int64) if integers else np.array(number, NUMPY[dtype])
        return name

    body = LITERAL.sub(literal, body)
    y = y or ",".join(f"y{axis}" for axis, _ in enumerate(x.split(",")))
    signature = ", ".join(filter(None, [f"{dtype}[{x}] x", inputs]))
    results = ", ".join(filter(None, [f"{dtype}[{y}] y", outputs]))
    imported = f'["" : {opset}{imports}]'
    proto = onnx.parser.parse_model(f"<ir_version: {ir}, opset_import: {imported}> g ({signature}) => ({results}) {{ {body} }}")
    rng = np.random.default_rng(0)
    for name, kind, extents in dict.fromkeys((match[0], match[1], match[2]) for match in WEIGHT.finditer(body)):
        shape = () if extents == "scalar" else tuple(map(int, extents.split("x")))
        array = rng.uniform(0.3, 2.0, shape) if kind.startswith("var") else rng.standard_normal(shape)
        arrays.setdefault(name, np.asarray(array).astype(NUMPY[dtype]))
    for name, array in arrays.items():
        tensor = onnx.numpy_helper.from_array(np.asarray(array), name)
        proto.graph.initializer.append(tensor)
        if listed:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    onnx.checker.check_model(proto)
    return proto


def run(proto, feeds):
    """The outputs by onnxruntime, its optimisations off."""
    return session(proto.SerializeToString(), threads=1).run(None, feeds)


def feeds_of(proto, size, given):
    """Random arrays for the inputs that are not `given`, free axes of extent `size`."""
    rng = np.random.default_rng(1)
    constants = {tensor.name for tensor in proto.graph.initializer}
    feeds = dict(given)
    for value in proto.graph.input:
        if value.name not in constants and value.name not in given:
            dims = value.type.tensor_type.shape.dim
            free = [size[0], 4, *size[1:]] if len(dims) > 2 else size
            shape = [dim.dim_value or free[axis] for axis, dim in enumerate(dims)]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            integer = dtype.kind in "iub"
            feeds[value.name] = (rng.integers(0, 2, shape) if integer else rng.standard_normal(shape)).astype(dtype)
    return feeds


def cases(proto, given):
    """(feeds, outputs) at each of `SIZES` that the model can take; it must take the first."""
    seen = set()
    for size in SIZES:
        feeds = feeds_of(proto, size, given)
        shapes = tuple(array.shape for array in feeds.values())
        if shapes in seen:
            continue
        seen.add(shapes)
        try:
            yield feeds, run(proto, feeds)
        except Exception:
            if size is SIZES[0]:
                raise


def assert_close(actual, expected):
    """Equal to rounding: 64 times the distance between neighbouring numbers, at the scale of the output."""
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        assert got.shape == want.shape
        if want.dtype.kind in "iubOSU":
            np.testing.assert_array_equal(got, want)
            continue
        finite = np.isfinite(want)
        np.testing.assert_array_equal(got[~finite], want[~finite])
        numbers = want[finite].astype(np.float64)
        error = np.abs(got[finite].astype(np.float64) - numbers).max(initial=0.0)
        eps = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10}[want.dtype.name]
        assert error <= 64 * eps * np.abs(numbers).max(initial=1.0)


def operators(proto):
    """The kinds of the nodes, sorted, as one string."""
    return " ".join(sorted(node.op_type for node in proto.graph.node if node.op_type != "Constant"))


def check(proto, given=None, **options):
    """Compile, and hold the lifted graph and the result against onnxruntime on every size.  Returns (result, report).

    `given`: arrays for inputs that cannot be random.
    """
    given = given or {}
    before = proto.SerializeToString(deterministic=True)
    report = repcompiler.Report()
    example = feeds_of(proto, SIZES[0], given) if given else None
    result = repcompiler.compile(proto, example, report=report, **{"objective": "plain", "passes": FOLDS, **options})
    assert proto.SerializeToString(deterministic=True) == before, "the input was changed"
    onnx.checker.check_model(result, full_check=True)
    document = OnnxDocument.open(proto)
    for feeds, expected in cases(proto, given):
        reference = [array.astype(want.dtype) for array, want in zip(document.run_reference(feeds), expected, strict=True)]
        assert_close(reference, expected)
        assert_close(run(result, feeds), expected)
    return result, report


@pytest.fixture(autouse=True)
def _second_opinion(monkeypatch):
    """Whatever is written passes ONNX's checker with full checks, and loads in onnxruntime, where the source does."""
    publish, save = Draft.publish, OnnxDocument.save
    fit = {}

    def opened(path):
        return all(node.domain in ("", "ai.onnx") for node in onnx.load(path, load_external_data=False).graph.node)

    def checked(draft):
        if fit.get("source") and opened(draft.path):
            onnx.checker.check_model(draft.path, full_check=True)
            session(str(draft.path), threads=1)
        publish(draft)

    def saved(document, path):
        fit["source"] = _is_fit(document.given)
        save(document, path)

    monkeypatch.setattr(Draft, "publish", checked)
    monkeypatch.setattr(OnnxDocument, "save", saved)


def _is_fit(given):
    """Whether a source itself passes full checks, and loads."""
    try:
        onnx.checker.check_model(given, full_check=True)
        session(str(given) if not isinstance(given, onnx.ModelProto) else given.SerializeToString(), threads=1)
    except Exception:
        return False
    return True


@pytest.fixture(name="model")
def _model():
    return parse


@pytest.fixture(name="check")
def _check():
    return check


@pytest.fixture(name="operators")
def _operators():
    return operators


@pytest.fixture(name="run")
def _run():
    return run


@pytest.fixture(name="assert_close")
def _assert_close():
    return assert_close


@pytest.fixture
def expect():
    """Compiled, a body of nodes has these operators, and computes the same."""

    def compiled(body, becomes, options):
        checked = {key: options[key] for key in ("given", "objective") if key in options}
        result, report = check(parse(body, **{key: options[key] for key in options if key not in checked}), **checked)
        assert operators(result) == becomes
        assert report.verification.checked
        assert not report.reverted

    return compiled


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def rejects(tmp_path):
    """Assert that `repc` says in one line what is wrong, and touches nothing."""

    def check(message, *arguments):
        before = contents(tmp_path)
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == 2, result.output
        assert isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("repc: ")
        assert message in line
        assert contents(tmp_path) == before

    return check


@pytest.fixture
def small(tmp_path):
    """A valid file."""
    path = tmp_path / "model.onnx"
    onnx.save(parse("c = Conv(x, w_8x4x3x3)  y = BatchNormalization(c, g_8, b_8, m_8, var_8)"), path)
    return path
