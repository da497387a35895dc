"""A linear region is one convolution, whatever it is made of; its outline tells the size before any weight is computed."""

import numpy as np
import pytest

from repcompiler import structure
from repcompiler.interpreter import run
from repcompiler.ops import AvgPool, Concat, Frame, Pad, Select, Subsample, Sum
from repcompiler.outline import outline
from repcompiler.passes import PASSES
from repcompiler.region import HORIZON, Scope, convolution, regions
from repcompiler.rewriter import ViewRule
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, relu

VIEWS = {op: rule.view for rule in PASSES if isinstance(rule, ViewRule) for op in rule.shows}
Add, Sub = Sum((1, 1)), Sum((1, -1))
rng = np.random.default_rng(0)
conv1, conv3, wide = random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 8, 4, 3)
norm, grouped = random_batch_norm(rng, 4), random_conv(rng, 4, 4, 3, padding=1, groups=4)
POOL = AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9)


def two_ways(x):
    inner = conv3(x)
    return Add(conv1(inner), norm(inner))


def shared_by_two_branches(x):
    one, two = norm(x), conv1(x)
    return Concat()(conv1(one), Add(one, conv1(two)), two)


BLOCKS = {
    "shared": shared_by_two_branches,
    "chain": lambda x: conv1(norm(conv3(x))),
    "sum": lambda x: Add(conv3(x), norm(x)),
    "difference": lambda x: Sub(conv3(x), Sub(x, conv1(x))),
    "concat": lambda x: wide(Concat()(conv3(x), x)),
    "split": lambda x: Concat()(Select((0, 1))(conv3(x)), Select((2, 3))(x)),
    "nested": lambda x: conv1(Add(norm(Add(conv3(x), POOL(x))), grouped(x))),
    "diamond on a diamond": two_ways,
    "strided": lambda x: Subsample((2, 2))(Add(grouped(x), Pad(((0, 0), (0, 0)))(x))),
}


def region_of(graph):
    scope = Scope(graph, VIEWS)
    return {region.source: region for region, _ in regions(graph.outputs[0], scope)}[graph.inputs[0]]


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("size", [(9, 6), (3, 4)])
def test_a_region_is_its_convolution(block, size):
    graph = build(block, x=(None, 4, None, None))
    merged = convolution(region_of(graph), VIEWS)
    plain = build(lambda x: merged(x), x=(None, 4, None, None))
    image = rng.standard_normal((2, 4, *size))
    (expected,), (actual,) = (run(g, {g.inputs[0]: image}).values() for g in (graph, plain))
    assert np.abs(expected - actual).max() < 1e-12


@pytest.mark.parametrize("name", [name for name in BLOCKS if name not in ("concat", "split")])
def test_the_outline_has_the_geometry_of_the_convolution(name):
    region = region_of(build(BLOCKS[name], x=(None, 4, None, None)))
    merged, sketch = convolution(region, VIEWS), outline(region, VIEWS)
    assert sketch.weight.shape == merged.weight.shape
    assert (sketch.stride, sketch.padding, sketch.dilation, sketch.groups) == (
        merged.stride,
        merged.padding,
        merged.dilation,
        merged.groups,
    )


SHUFFLED = {
    "concat": BLOCKS["concat"],
    "split": BLOCKS["split"],
    "depthwise halves": lambda x: Concat()(*(random_conv(rng, 2, 2, k, padding=k // 2, groups=2)(h(x)) for k, h in HALVES)),
    "dense halves": lambda x: Concat()(*(random_conv(rng, 2, 3, k, padding=k // 2)(half(x)) for k, half in HALVES)),
    "copies": lambda x: random_conv(rng, 8, 4, 1)(Select((0, 0, 1, 1, 2, 2, 3, 3))(x)),
    "multiplied": lambda x: random_conv(rng, 8, 4, 1)(Select(tuple(range(8)))(random_conv(rng, 4, 8, 3, groups=4)(x))),
}
HALVES = ((3, Select((0, 1))), (5, Select((2, 3))))


@pytest.mark.parametrize("block", SHUFFLED.values(), ids=SHUFFLED)
def test_where_zero_blocks_may_be_found_the_outline_is_no_larger_than_the_plainest_form(block):
    region = region_of(build(block, x=(None, 4, None, None)))
    plainest, sketch = structure.grouped(convolution(region, VIEWS)), outline(region, VIEWS)
    assert sketch.kernel_size == plainest.kernel_size
    assert sketch.out_channels == plainest.out_channels
    assert sketch.weight.shape[1] <= plainest.weight.shape[1]


def test_without_a_convolution_there_is_no_outline():
    assert outline(region_of(build(lambda x: Select((1, 0))(Select((3, 2))(x)), x=(None, 4, None, None))), VIEWS) is None


def sources(graph):
    return [region.source.name for region, _ in regions(graph.outputs[0], Scope(graph, VIEWS))]


def test_a_region_ends_at_an_activation():
    assert sources(build(lambda x: conv1(relu(conv3(x))), x=(None, 4, None, None))) == ["y", "relu1"]


def test_a_region_ends_where_its_inside_is_read_from_outside():
    def block(x):
        inner = conv3(x)
        return {"y": conv1(inner), "z": relu(inner)}

    assert sources(build(block, x=(None, 4, None, None))) == ["y", "conv1"]


def test_branches_share_only_what_nothing_outside_of_them_reads():
    def block(read):
        def network(x):
            one, two = norm(x), conv1(x)
            parts = {"y": wide(Concat()(Add(conv3(one), two), Sub(one, two)))}
            return {**parts, "z": relu(two)} if read else parts

        return network

    assert sources(build(block(read=False), x=(None, 4, None, None))) == ["y", "concat1", "x"]
    assert sources(build(block(read=True), x=(None, 4, None, None))) == ["y", "concat1"]


def framed(expand, value=None):
    """FMEN's block (Du et al., 2022): a pointwise layer whose result is read as it is, and surrounded by its bias."""
    feature, ones = random_conv(rng, 6, 6, 3), ((1, 1), (1, 1))
    return lambda x: Sum((1, -1))(feature(Frame(ones, expand.bias if value is None else value)(e := expand(x))), e)


@pytest.mark.parametrize("reduce", [False, True])
def test_a_frame_of_what_a_pointwise_layer_makes_of_zero_is_padding_whoever_else_reads_the_layer(reduce):
    block, last = framed(random_conv(rng, 4, 6, 1)), random_conv(rng, 6, 4, 1)
    graph = build(lambda x: Sum((1, 1))(last(block(x)), x) if reduce else block(x), x=(None, 4, None, None))
    check_pass(PASSES, graph, "macs")
    assert [str(node.op) for node in graph.topological()] == [f"Conv 4->{4 if reduce else 6} 3x3"]


@pytest.mark.parametrize(
    ("expand", "value"),
    [
        ({"kernel_size": 1}, np.zeros(6)),
        ({"kernel_size": 1, "stride": 1, "padding": 1}, None),
        ({"kernel_size": 3, "padding": 1}, None),
    ],
    ids=["another value", "padded already", "more than a pixel"],
)
def test_any_other_frame_ends_a_region(expand, value):
    graph = build(framed(random_conv(rng, 4, 6, **expand), value), x=(None, 4, None, None))
    frame = next(node for node in graph.nodes if isinstance(node.op, Frame))
    scope = Scope(graph, {})
    assert [region.source for region, _ in regions(frame.output, scope, shared=True)] == [frame.output]


def test_a_framed_layer_that_is_read_outside_of_the_region_ends_it():
    expand, feature = random_conv(rng, 4, 6, 1), random_conv(rng, 6, 6, 3)

    def block(x):
        e = expand(x)
        return {"y": Sum((1, 1))(feature(Frame(((1, 1), (1, 1)), expand.bias)(e)), e), "z": relu(e)}

    graph = build(block, x=(None, 4, None, None))
    assert not check_pass([rule for rule in PASSES if rule.name == "merge_parallel_branches"], graph).steps


def test_a_region_is_no_longer_than_the_horizon():
    def block(x):
        for _ in range(2 * HORIZON):
            x = conv1(x)
        return x

    assert len(sources(build(block, x=(None, 4, None, None)))) == HORIZON + 1


def test_branches_on_different_inputs_are_no_region():
    graph = build(lambda x, z: conv1(Add(conv3(x), conv3(z))), x=(None, 4, None, None), z=(None, 4, None, None))
    assert sources(graph) == ["y", "sum1"]
