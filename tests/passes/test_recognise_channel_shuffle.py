import pytest

from repcompiler.ops import Conv, Identity, Reshape, Select, Transpose
from repcompiler.passes import PASSES
from repcompiler.passes.recognise_channel_shuffle import recognise_channel_shuffle
from repcompiler.testing import build, check_pass, random_conv

SWAP = Transpose((0, 2, 1, 3, 4))


def shuffled(x, split, swap=SWAP, flatten=(0, 6, 5, 7)):
    return Reshape(flatten)(swap(Reshape(split)(x)))


@pytest.mark.parametrize(
    ("shape", "split", "flatten"),
    [
        ((2, 6, 5, 7), (2, 2, 3, 5, 7), (2, 6, 5, 7)),
        ((None, 6, 5, 7), (0, 2, 3, 5, 7), (0, 6, 5, 7)),
        ((None, 6, 5, 7), (-1, 3, 2, 5, 7), (-1, 6, 5, 7)),
        (("batch", 6, 5, 7), (0, 2, -1, 5, 7), (0, -1, 5, 7)),
        (("batch", 6, 5, 7), (0, 3, 2, 35), (0, 6, 5, 7)),
        (("batch", 6, 5), (0, 3, 2, 5), (0, 6, 5)),
        (("batch", 6), (0, 3, 2), (0, 6)),
    ],
)
def test_reshape_transpose_reshape_is_an_order_of_channels(shape, split, flatten):
    swap = Transpose((0, 2, 1, *range(3, len(split))))
    graph = build(lambda x: shuffled(x, split, swap, flatten), x=shape)
    check_pass(recognise_channel_shuffle, graph)
    (node,) = graph.topological()
    assert isinstance(node.op, Select)
    assert sorted(node.op.index) == list(range(6))


def test_axes_that_stay_at_the_end_may_have_any_extents():
    split, flatten = Reshape((0, 2, 3), tail=2), Reshape((0, 6), tail=2)
    graph = build(lambda x: flatten(SWAP(split(x))), x=(None, 6, None, None))
    check_pass(recognise_channel_shuffle, graph)
    assert [node.op for node in graph.topological()] == [Select((0, 3, 1, 4, 2, 5))]


def test_axes_that_only_the_first_reshape_keeps_may_become_channels():
    split, flatten = Reshape((0, 2, 3), tail=2), Reshape((0, -1, 1), tail=1)
    log = check_pass(recognise_channel_shuffle, build(lambda x: flatten(SWAP(split(x))), x=(None, 6, 5, 7)))
    assert "no exchange" in log.declined[0].reason


@pytest.mark.parametrize("before", [True, False])
def test_a_shuffle_beside_a_conv_becomes_an_order_of_its_rows_or_columns(rng, before):
    conv = random_conv(rng, 6, 6, 3, padding=1)

    def block(x):
        split = (0, 2, 3, 5, 7)
        return shuffled(conv(x), split) if before else conv(shuffled(x, split))

    graph = build(block, x=(None, 6, 5, 7))
    check_pass(PASSES, graph, "latency")
    assert [type(node.op) for node in graph.topological()] == [Conv]


def test_a_shuffle_and_its_inverse_cancel():
    graph = build(lambda x: shuffled(shuffled(x, (0, 2, 3, 5, 7)), (0, 3, 2, 5, 7)), x=(None, 6, 5, 7))
    check_pass(PASSES, graph, "latency")
    (node,) = graph.topological()
    assert isinstance(node.op, Identity)  # it gives the output its name


@pytest.mark.parametrize(
    ("shape", "split", "swap", "flatten", "reason"),
    [
        ((None, 6, 5, 7), (0, 2, 3, 5, 7), Transpose((0, 1, 2, 4, 3)), (0, 6, 5, 7), "no exchange"),
        ((None, 6, None, 7), (0, 2, 3, 5, 7), SWAP, (0, 6, 5, 7), "not known"),
        (None, (0, 2, 3, 5, 7), SWAP, (0, 6, 5, 7), "extents are not known"),
        ((2, 6, 5, 7), (1, 12, 5, 1, 7), SWAP, (2, 6, 5, 7), "not known"),
        ((None, 6, 5, 7), (0, 2, 3, 5, 7), SWAP, (0, 6, 7, 5), "do not come out"),
        ((None, 6, 5, 7), (0, 5, 6, 1, 7), SWAP, (0, 6, 5, 7), "mixes"),
    ],
)
def test_anything_else_is_refused(shape, split, swap, flatten, reason):
    graph = build(lambda x: shuffled(x, split, swap, flatten), x=shape)
    from repcompiler.cost import OBJECTIVES
    from repcompiler.rewriter import Rewriter

    log = Rewriter(graph, (recognise_channel_shuffle,), OBJECTIVES["plain"]).run()
    assert not log.steps
    assert reason in log.declined[0].reason
