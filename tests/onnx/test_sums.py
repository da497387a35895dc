"""Sums and means of several values, and over an axis along which values lie side by side: what torch.stack is exported as."""

import onnx
import pytest
import torch
from torch import nn

import repcompiler
from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.ops import Identity, Opaque, Scale, Sum

BRANCHES = """c = Conv<pads=[1,1,1,1]>(x, w_4x4x3x3) a = BatchNormalization(c, g_4, b_4, m_4, var_4)
    d = Conv(x, v_4x4x1x1) b = BatchNormalization(d, h_4, s_4, n_4, vars_4)"""


def sides(axis, rank=5):
    """Three branches side by side along a new axis, counted from the end in some places."""
    new = f"i = Unsqueeze(a, [{axis - rank}]) j = Unsqueeze(b, [{axis}]) k = Unsqueeze(x, [{axis}])"
    return f"{new} s = Concat<axis={axis - rank}>(i, j, k)"


OLD = "i = Unsqueeze<axes=[2]>(a) j = Unsqueeze<axes=[2]>(b) k = Unsqueeze<axes=[2]>(x) s = Concat<axis=2>(i, j, k)"
ALONE = "i = Unsqueeze(a, [1]) s = Concat<axis=1>(i)"
TWICE = "i = Unsqueeze(a, [1]) s = Concat<axis=1>(i, i)"


def case(name, body, *others, **options):
    return pytest.param(body, *others, options, id=name)


@pytest.mark.parametrize("axis", range(5))
@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean"])
def test_branches_that_are_stacked_to_be_reduced_are_one_convolution(expect, kind, axis):
    expect(f"{BRANCHES} {sides(axis)} y = {kind}<keepdims=0>(s, [{axis}])", "Conv", {"opset": 18})


@pytest.mark.parametrize(
    ("body", "options"),
    [
        case("axes as an attribute", f"{OLD} y = ReduceSum<axes=[2], keepdims=0>(s)", opset=11),
        case("the mean, too", f"{OLD} y = ReduceMean<axes=[-3], keepdims=0>(s)", opset=11),
        case("the axis from the end", f"{sides(1)} y = ReduceSum<keepdims=0>(s, [-4])"),
        case("extents that are known", f"{sides(0)} y = ReduceSum<keepdims=0>(s, [0])", x="2,4,5,7"),
        case("one value twice", f"{TWICE} t = ReduceSum<keepdims=0>(s, [1]) y = Add(t, b)"),
        case("a stack of one", f"{ALONE} t = ReduceSum<keepdims=0>(s, [1]) y = Add(b, t)"),
        case("its mean", f"{ALONE} t = ReduceMean<axes=[1], keepdims=0>(s) y = Add(b, t)"),
        case("Mean", "y = Mean(a, b, x)"),
        case("Mean of one value twice", "t = Mean(a, a) y = Sum(t, b, x)"),
        case("Mean of one", "t = Mean(a) y = Add(b, t)"),
        case("Sum", "y = Sum(a, b, x, a)"),
    ],
)
def test_however_it_is_said(expect, body, options):
    expect(f"{BRANCHES} {body}", "Conv", options)


@pytest.mark.parametrize(
    ("body", "becomes"),
    [
        ("p = GlobalAveragePool(x) y = Mean(a, b, p)", "Add Conv GlobalAveragePool Mul"),
        ("p = GlobalAveragePool(x) y = Sum(a, p, b)", "Add Conv GlobalAveragePool"),
        ("p = GlobalAveragePool(x) q = Sigmoid(a) y = Mean(p, q, k_4x1x1)", "Conv GlobalAveragePool Mean Sigmoid"),
    ],
)
def test_terms_that_broadcast_are_added_to_those_that_merge(expect, body, becomes):
    expect(f"{BRANCHES} {body}", becomes, {})


def lifted(proto):
    """What the algebra knows each result as, by its name."""
    return {node.output.name: node.op for node in OnnxDocument.open(proto).lift().nodes}


LEFT = [
    case("the axis stays", f"{sides(1)} y = ReduceSum(s, [1])", y="N,1,C,H,W"),
    case("the axis of a mean stays", f"{OLD} y = ReduceMean<axes=[2]>(s)", opset=11, y="N,C,1,H,W"),
    case("another axis", f"{sides(1)} y = ReduceSum<keepdims=0>(s, [2])"),
    case("two axes", f"{sides(1)} y = ReduceMean<axes=[1,2], keepdims=0>(s)", y="N,H,W"),
    case("all axes", f"{sides(1)} r = ReduceSum<keepdims=0>(s) y = Add(x, r)"),
    case("no new axis", "s = Concat<axis=1>(a, b) y = ReduceSum<keepdims=0>(s, [1])", y="N,H,W"),
    case(
        "side by side along another axis",
        "i = Unsqueeze(a, [1]) j = Unsqueeze(b, [1]) s = Concat<axis=2>(i, j) y = ReduceSum<keepdims=0>(s, [1])",
    ),
    case(
        "an axis each in another place",
        "p = Flatten(a) q = Transpose(p) i = Unsqueeze(p, [0]) j = Unsqueeze(q, [1]) k = Transpose<perm=[1,2,0]>(j)"
        " s = Concat<axis=0>(i, k) y = ReduceSum<keepdims=0>(s, [0])",
        x="1,4,5,7",
        y="N,C",
    ),
    case(
        "two new axes",
        "i = Unsqueeze(a, [0,1]) j = Unsqueeze(b, [0,1]) s = Concat<axis=0>(i, j) y = ReduceSum<keepdims=0>(s, [0])",
        y="I,N,C,H,W",
    ),
    case(
        "a constant that is given the axis",
        "i = Unsqueeze(a, [0]) j = Unsqueeze(k_2x4x5x7, [0]) s = Concat<axis=0>(i, j) y = ReduceMean<axes=[0], keepdims=0>(s)",
        x="2,4,5,7",
    ),
    case(
        "a constant that has it",
        "i = Unsqueeze(a, [0]) s = Concat<axis=0>(i, k_1x2x4x5x7) y = ReduceSum<keepdims=0>(s, [0])",
        x="2,4,5,7",
    ),
    case("Mean with a constant", "y = Mean(a, k_4x1x1)"),
    case("Sum with a constant", "y = Sum(a, b, k_4x1x1)"),
    case(
        "integers",
        "e = Cast<to=7>(a) f = Cast<to=7>(b) i = Unsqueeze(e, [0]) j = Unsqueeze(f, [0]) s = Concat<axis=0>(i, j)"
        " r = ReduceSum<keepdims=0>(s, [0]) y = Cast<to=1>(r)",
    ),
]


@pytest.mark.parametrize(("body", "options"), LEFT)
def test_what_is_no_sum_of_them_is_left_alone(check, model, operators, body, options):
    proto = model(f"{BRANCHES} {body}", **options)
    known = lifted(proto)
    assert isinstance(known.get("r", known["y"]), Opaque)
    result, _ = check(proto)
    kinds = {"ReduceSum", "ReduceMean", "Mean", "Sum"}
    assert kinds.intersection(operators(result).split()) == kinds.intersection(operators(proto).split()) != set()


def test_a_mean_is_a_sum_and_a_scale_that_are_one_node_of_the_document(model):
    graph = OnnxDocument.open(model(f"{BRANCHES} y = Mean(a, b, a)")).lift()
    scale = graph.outputs[0].producer
    (addition,) = scale.parts
    assert isinstance(scale.op, Scale)
    assert scale.op.scale == pytest.approx(1 / 3)
    assert addition.op == Sum((1, 1, 1))
    assert [value.name for value in addition.inputs] == ["a", "b", "a"]
    assert addition.origin is None


def test_a_stack_of_one_is_the_value_itself(model):
    assert lifted(model(f"{BRANCHES} {ALONE} y = ReduceMean<axes=[1], keepdims=0>(s)"))["y"] == Identity()


SMOOTH = "p = Elu(a) q = Elu(b) i = Unsqueeze(p, [2]) j = Unsqueeze(q, [2]) s = Concat<axis=2>(i, j)"


@pytest.mark.parametrize(
    ("body", "becomes"),
    [
        (f"{SMOOTH} y = ReduceSum<keepdims=0>(s, [2])", "Concat Conv Conv Elu Elu ReduceSum Unsqueeze Unsqueeze"),
        ("p = Elu(a) q = Elu(b) y = Mean(p, q)", "Conv Conv Elu Elu Mean"),
    ],
)
def test_where_nothing_merges_it_stays_as_it_was_written(expect, body, becomes):
    expect(f"{BRANCHES} {body}", becomes, {})


@pytest.mark.parametrize(
    ("body", "becomes"),
    [
        (f"{SMOOTH} t = ReduceMean<axes=[2], keepdims=0>(s)", "Add Conv Conv Conv Elu Elu"),
        ("p = Elu(a) q = Elu(b) t = Mean(p, q)", "Add Conv Conv Conv Elu Elu"),
    ],
)
def test_the_factor_of_a_mean_goes_on_without_its_sum(expect, body, becomes):
    expect(f"{BRANCHES} {body} y = Conv(t, r_4x4x1x1)", becomes, {})


def test_a_stack_that_something_else_reads_stays(check, model, operators):
    proto = model(f"{BRANCHES} {sides(1)} z = Relu(s) y = ReduceSum<keepdims=0>(s, [1])", outputs="float[N,K,C,H,W] z")
    assert lifted(proto)["y"] == Sum((1, 1, 1))
    result, _ = check(proto)
    assert "Concat" in operators(result)
    result, _ = check(proto, objective="latency")
    assert "Concat" in operators(result)


def test_a_value_of_the_stack_that_something_else_reads_stays(check, model):
    proto = model(f"{BRANCHES} {sides(1)} z = Relu(i) y = ReduceSum<keepdims=0>(s, [1])", outputs="float[N,K,C,H,W] z")
    check(proto)


class Stacked(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.join = join
        self.wide = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.narrow = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return torch.relu(self.join([self.wide(x), self.narrow(x), self.norm(x)]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize(
    "join",
    [lambda xs: torch.stack(xs).sum(0), lambda xs: torch.stack(xs, -1).mean(-1), lambda xs: torch.stack(xs, 1).sum(dim=1)],
    ids=["sum", "mean of the last axis", "sum of the second axis"],
)
def test_a_stacked_block_that_torch_exported_is_one_convolution(tmp_path, operators, join, dynamo):
    torch.manual_seed(0)
    block, path = Stacked(join), tmp_path / "block.onnx"
    block.train()(torch.randn(8, 4, 9, 7) + 1)
    torch.onnx.export(block.eval(), (torch.randn(2, 4, 9, 7),), path, dynamo=dynamo, verbose=False)
    report = repcompiler.Report()
    result = repcompiler.compile(onnx.load(path), report=report)
    assert operators(result) == "Conv Relu"
    assert report.verification.checked
    assert not report.reverted
