"""Files that mean harm: one clear line and exit code 2, or a result, soon; never a traceback."""

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from repcompiler import runtime
from repcompiler.cli import main

CONV = "c = Conv(x, w_8x4x3x3)  y = BatchNormalization(c, g_8, b_8, m_8, var_8)"
EVIL = "a\nb\x1b[31mred\r\t\x07[bold]"
PARTS = {
    "w_8x4x3x3": [(), (8,), (8, 4), (8, 4, 3), (8, 4, 3, 3, 3), (0, 4, 3, 3), (8, 0, 3, 3), (8, 4, 0, 3)],
    "g_8": [(), (1,), (0,), (8, 4), (8, 1, 1)],
}


@pytest.fixture
def survives(tmp_path):
    """Compile a model that may be anything; the exit code, after what must hold of any end."""

    def check(proto, *arguments):
        path, target = tmp_path / "model.onnx", tmp_path / "plain.onnx"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        result = CliRunner().invoke(main, [str(path), "-o", str(target), "--explain", *arguments])
        assert result.exit_code in (0, 2), result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert len(result.stderr.splitlines()) == (result.exit_code == 2)
        assert "a mistake in repc" not in result.stderr
        assert not any(letter < " " and letter != "\n" for letter in result.output)
        assert not list(tmp_path.glob(".repc-*"))
        assert target.exists() == (result.exit_code == 0)
        target.unlink(missing_ok=True)
        return result

    return check


def replaced(proto, name, array):
    initializer = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    initializer.CopyFrom(onnx.numpy_helper.from_array(np.asarray(array), name))
    return proto


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in PARTS.items() for shape in shapes])
def test_weights_of_any_shape(model, survives, name, shape):
    survives(replaced(model(CONV, x="1,4,6,5"), name, np.ones(shape, "f")))


GEOMETRY = [
    *({"group": number} for number in (0, -1, 3)),
    *({"strides": numbers} for numbers in ([0, 0], [-1, 1], [1, 1, 1], [1 << 60] * 2)),
    *({"dilations": numbers} for numbers in ([0, 0], [-1, 1], [1 << 40] * 2)),
    *({"kernel_shape": numbers} for numbers in ([-3, 3], [5, 5], [3])),
    *({"pads": numbers} for numbers in ([1], [-5] * 4, [1 << 40] * 4, [1 << 20] * 4)),
    {"auto_pad": "WHAT"},
]


@pytest.mark.parametrize("attributes", GEOMETRY, ids=str)
def test_convolutions_of_any_geometry(model, survives, attributes):
    proto = model(CONV, x="1,4,6,5")
    proto.graph.node[0].attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    survives(proto)


@pytest.mark.parametrize(
    "body",
    [
        "t = SpaceToDepth<blocksize=0>(x)  y = Conv(t, w_8x4x1x1)",
        "t = SpaceToDepth<blocksize=1048576>(x)  y = Conv(t, w_8x4x1x1)",
        "t = Transpose<perm=[0,0,9,-1]>(x)  y = Conv(t, w_8x4x1x1)",
        "t = Slice(x, [0], [4], [1], [0])  y = Conv(t, w_8x4x1x1)",
        "t = Slice(x, [0,1], [4], [1], [1])  y = Conv(t, w_8x4x1x1)",
        "t = Concat<axis=99>(x, x)  y = Conv(t, w_8x8x1x1)",
        "t = Reshape(x, [-1,-1,-5])  y = Conv(t, w_8x4x1x1)",
        "s, t = Split<axis=1>(x, [3,3])  y = Add(s, t)",
        "s, t = Split<axis=1>(x, [-1,5])  y = Add(s, t)",
        "t = Gather<axis=1>(x, [9,-9,0,1])  y = Conv(t, w_8x4x1x1)",
        "t = AveragePool<kernel_shape=[1048576,1048576], count_include_pad=1>(x)  y = Conv(t, w_8x4x1x1)",
        "t = Pad(x, [0,0,1048576,1048576,0,0,0,0])  y = Conv(t, w_8x4x3x3)",
        "c = Conv(x, w_8x4x1x1)  y = Conv(c, v_8x5x1x1)",
        "s = Conv<dilations=[1073741824,1073741824], pads=[1,1,1,1]>(x, w_8x4x3x3)  t = Conv(x, v_8x4x3x3)  y = Add(s, t)",
    ],
)
def test_operations_that_make_no_sense(survives, body):
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,6,5] x) => (float[a,b,c,d] y) {{ {literals(body)} }}'
    )
    rng = np.random.default_rng(0)
    for name in ("w_8x4x1x1", "w_8x8x1x1", "w_8x4x3x3", "v_8x4x3x3", "v_8x5x1x1"):
        if name in body:
            array = rng.standard_normal([int(size) for size in name[2:].split("x")]).astype("f")
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    survives(proto)


def literals(body):
    """Lists among the operands as constants."""
    while (start := body.find(", [")) >= 0:
        stop = body.index("]", start)
        numbers = body[start + 3 : stop]
        name = f"l{start}_{len(body)}"
        count = numbers.count(",") + 1
        body = f"{name} = Constant<value = int64[{count}] {{{numbers}}}>() " + body[:start] + f", {name}" + body[stop + 1 :]
    return body


DIMS = ([1 << 60], [1 << 31, 1 << 31, 3, 3], [-8, 4, 3, 3], [1 << 33] * 3, [0, 4, 3, 3], [0, 1 << 62, 1 << 62])


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_gigantic_and_negative_extents(model, survives, dims):
    proto = model(CONV, x="1,4,6,5")
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(dims)
    assert survives(proto).exit_code == 2
    proto = model("y = Relu(x)", x="1,4,6,5")
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, dims))
    survives(proto)


@pytest.mark.parametrize("bytes_", [b"", b"1", b"1234", bytes(100_000)], ids=len)
@pytest.mark.parametrize("name", ["w_8x4x3x3", "g_8"])
def test_data_of_another_length(model, survives, name, bytes_):
    proto = model(CONV, x="1,4,6,5")
    next(tensor for tensor in proto.graph.initializer if tensor.name == name).raw_data = bytes_
    assert survives(proto).exit_code == 2


@pytest.mark.parametrize("kind", [*TensorProto.DataType.values(), 99])
def test_weights_of_any_type(model, survives, kind):
    proto = model(CONV, x="1,4,6,5")
    proto.graph.initializer[0].data_type = kind
    assert survives(proto).exit_code == (0 if kind in (TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32) else 2)
    size = {2: 1, 3: 1, 9: 1, 7: 8, 11: 8, 14: 8, 10: 2, 16: 2, 15: 16}.get(kind, 4)
    proto.graph.initializer[0].raw_data = bytes(288 * size)
    survives(proto)


BOMB = "{}  r = ReduceMax<keepdims=0>(t)  y = Add(x, r)"
BOMBS = {
    "ConstantOfShape": "s = Constant<value_ints=[8192,8192,65536]>()  t = ConstantOfShape(s)",
    "Expand": "s = Constant<value_ints=[8192,8192,65536]>()  o = Constant<value_float=1.0>()  t = Expand(o, s)",
    "Tile": "s = Constant<value_ints=[1099511627776]>()  o = Constant<value_floats=[1.0]>()  t = Tile(o, s)",
    "OneHot": "i = Constant<value_ints=[0]>() d = Constant<value_int=1099511627776>() v = Constant<value_floats=[0.0,1.0]>() "
    "t = OneHot(i, d, v)",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_would_be_terabytes_is_not_computed(model, survives, kind):
    """It may need no more than single nodes may take, whatever is declared."""
    assert "not verified as a whole" in survives(model(BOMB.format(BOMBS[kind]), x="1,4,6,5", y="a,b,c,d")).stdout


def test_a_range_without_end(model, survives):
    bounds = "a = Constant<value = int64 {0}>() b = Constant<value = int64 {1099511627776}>() d = Constant<value = int64 {1}>()"
    proto = model(BOMB.format(f"{bounds} n = Range(a, b, d) t = Cast<to=1>(n)"), x="1,4,6,5", y="a,b,c,d")
    assert "Range 'n' has no end in sight" in survives(proto).stderr


def test_a_loop_without_end_is_stopped(model, survives, monkeypatch):
    monkeypatch.setattr(runtime, "SECONDS", 0.5)
    loop = """
        n = Constant<value_int=4611686018427387904>()  t = Constant<value = bool {1}>()
        y = Loop(n, t, x) <body = b (int64 i, bool k, float[a,b,c,d] v) => (bool l, float[a,b,c,d] u) {
            l = Identity(k)  u = Relu(v) }>
    """
    assert "a run takes longer than 0.5 seconds" in survives(model(loop)).stdout


def local(calls):
    """A model that calls F0; `calls` says which functions each function calls."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("their", 1)]

    def function(name, called):
        values = ["a", *(f"v{index}" for index in range(len(called) - 1)), "b"]
        nodes = [
            helper.make_node(kind, [values[index]], [values[index + 1]], domain="their") for index, kind in enumerate(called)
        ]
        return helper.make_function("their", name, ["a"], ["b"], nodes or [helper.make_node("Relu", ["a"], ["b"])], opsets)

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("F0", ["x"], ["y"], domain="their")], "g", value[:1], value[1:])
    functions = [function(name, called) for name, called in calls.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def test_functions_that_call_themselves_or_each_other_many_times(survives):
    assert "the local function 'F0' calls itself" in survives(local({"F0": ["F0"]})).stderr
    assert "calls itself" in survives(local({"F0": ["F1"], "F1": ["F2"], "F2": ["F0"]})).stderr
    explosive = {f"F{index}": [f"F{index + 1}"] * 4 for index in range(40)} | {"F40": []}
    assert "more than 100,000 are not compiled" in survives(local(explosive)).stderr
    assert survives(local({f"F{index}": [f"F{index + 1}"] for index in range(20)} | {"F20": []})).exit_code == 0


def test_a_million_nodes(model, survives):
    proto = model("y = Relu(x)")
    node = helper.make_node("Identity", ["x"], ["z"])
    whole = proto.SerializeToString() + b"\x3a" + varint(100_001 * (len(message := entry(node)))) + message * 100_001
    survives(whole)  # two graphs, which are merged
    proto.graph.node.extend([node] * 100_001)
    assert "it has 100,001 nodes or more" in survives(proto).stderr


def entry(node):
    encoded = node.SerializeToString()
    return b"\x0a" + varint(len(encoded)) + encoded


def varint(number):
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


@pytest.mark.parametrize("depth", [5, 40, 1000])
def test_branches_within_branches(survives, depth):
    """Deeper than protobuf nests, the message is built by hand."""
    leaf = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["o"])], "g", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, ["a"])]
    ).SerializeToString()
    output = helper.make_tensor_value_info("o", TensorProto.FLOAT, ["a"]).SerializeToString()

    def field(number, content):
        return varint(number << 3 | 2) + varint(len(content)) + content

    def branch(name, graph):
        return field(5, field(1, name) + field(6, graph) + b"\xa0\x01\x05")

    body = leaf
    for level in range(depth):
        result = b"o" if level < depth - 1 else b"y"
        branches = branch(b"then_branch", body) + branch(b"else_branch", leaf)
        node = field(1, field(1, b"b") + field(2, result) + field(4, b"If") + branches)
        body = node + field(2, b"g") + field(12, output)
    ends = [helper.make_tensor_value_info("x", 1, [1]), helper.make_tensor_value_info("b", 9, [])]
    graph = helper.make_graph([], "g", ends, [helper.make_tensor_value_info("y", 1, ["a"])]).SerializeToString()
    model = helper.make_model(onnx.GraphProto(), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.ClearField("graph")
    result = survives(model.SerializeToString() + field(7, node + graph))
    assert result.exit_code == (0 if depth == 5 else 2)


def test_names_of_any_letters(model, survives):
    proto = model(CONV)
    for node in proto.graph.node:
        node.name = EVIL
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = EVIL
    assert survives(proto).exit_code == 0
    proto.graph.node[0].input[1] = EVIL.replace("\n", "")
    assert "\\x1b[31mred" in survives(proto).stderr
    proto.graph.node[0].op_type = "n" * 100_000
    assert len(survives(proto).stderr) < 2000


@pytest.mark.parametrize("change", range(12))
def test_files_with_bytes_changed(model, survives, change):
    """Some three hundred files in all: bits flipped, pieces cut out, doubled and overwritten."""
    rng = np.random.default_rng(change)
    for _ in range(25):
        content = bytearray(model(CONV, x="1,4,6,5").SerializeToString())
        for _ in range(rng.integers(1, 5)):
            start = int(rng.integers(len(content) // 2 if rng.random() < 0.3 else min(len(content), 400)))
            length = int(rng.integers(1, 30))
            match rng.integers(4):
                case 0:
                    content[start] ^= 1 << int(rng.integers(8))
                case 1:
                    del content[start : start + length]
                case 2:
                    content[start:start] = content[start : start + length]
                case 3:
                    content[start : start + length] = rng.bytes(length)
        survives(bytes(content))
