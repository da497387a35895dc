from inspect import cleandoc
from itertools import permutations, product

import numpy as np
import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.ops import Concat, Conv, Pad, Scale, SpaceToDepth, Subsample
from repcompiler.passes import PASSES
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.pad_to_conv import pad_to_conv
from repcompiler.passes.recognise_space_to_depth import recognise_space_to_depth
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, deviations, random_conv, random_linear, relu

EVEN = (None, 3, 12, 18)
PLACES = [*product(range(2), repeat=2)]
OTHER = "its parts are not the pixels at each place of a square block, once"
RULES = [recognise_space_to_depth, *(rule for rule in PASSES if rule.name in ("identity_to_dirac", "batch_norm_to_conv"))]


def focus(x, places=((0, 0), (1, 0), (0, 1), (1, 1)), block=2):
    return Concat()(*(Subsample((block, block), first if any(first) else ())(x) for first in places))


def test_pixels_at_all_places_of_a_block_are_space_to_depth():
    graph = build(lambda x: focus(x, PLACES), x=EVEN)
    check_pass(RULES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 3, 12, 18])
          %y = SpaceToDepth(%x) : [?, 12, 6, 9]
          return %y
    """)


@pytest.mark.parametrize("order", [*permutations(range(4))][1::5], ids=str)
def test_in_any_order_with_a_choice_of_channels(order):
    graph = build(lambda x: focus(x, [PLACES[place] for place in order]), x=EVEN)
    check_pass(RULES, graph)
    assert [node.op.kind for node in graph.topological()] == ["SpaceToDepth", "Select"]


def test_a_block_of_three():
    graph = build(lambda x: focus(x, [*product(range(3), repeat=2)], 3), x=EVEN)
    check_pass(RULES, graph)
    assert [node.op for node in graph.nodes] == [SpaceToDepth(3, "DCR")]


def test_rows_that_several_slices_share_are_read_once():
    def shared(x):
        rows = [Subsample((2, 1), first)(x) for first in ((), (1, 0))]
        return Concat()(*(Subsample((1, 2), first)(row) for first in ((), (0, 1)) for row in rows))

    graph = build(shared, x=EVEN)
    assert len(graph.nodes) == 7
    check_pass(RULES, graph)
    assert [node.op.kind for node in graph.topological()] == ["SpaceToDepth", "Select"]


@pytest.mark.parametrize(
    ("places", "block"),
    [
        (PLACES[:3], 2),
        ([*PLACES[:3], PLACES[0]], 2),
        (PLACES, 3),
        ([*product(range(3), repeat=2)][:4], 3),
    ],
)
def test_other_places_than_each_once_are_refused(places, block):
    log = check_pass(RULES, build(lambda x: focus(x, places, block), x=(None, 3, 12, 18)))
    assert log.declined[0].reason == OTHER


@pytest.mark.parametrize("last", [Pad(((0, -1), (0, -1))), Pad(((-1, 1), (-1, 1))), Pad(((1, -1), (1, -1)))], ids=str)
def test_a_part_that_is_cropped_or_padded_behind_is_refused(last):
    def parts(x):
        return Concat()(*(Subsample((2, 2), first)(x) for first in PLACES[:3]), Subsample((2, 2))(last(x)))

    log = check_pass([*RULES, pad_to_conv], build(parts, x=EVEN))
    assert OTHER in [declined.reason for declined in log.declined]


@pytest.mark.parametrize("stride", [(2, 1), (1, 2)])
def test_a_block_that_is_not_square_is_refused(stride):
    places = [*product(*map(range, stride))]
    graph = build(lambda x: Concat()(*(Subsample(stride, first)(x) for first in places)), x=EVEN)
    assert check_pass(RULES, graph).declined[0].reason == OTHER


def test_a_part_that_adds_channels_up_is_refused():
    def parts(x):
        pixels = [Subsample((2, 2), first if any(first) else ())(x) for first in PLACES]
        total = Conv(np.ones((3, 3, 1, 1)), np.zeros(3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
        return Concat()(*pixels[:3], total(pixels[3]))

    log = check_pass(RULES, build(parts, x=EVEN))
    assert OTHER in [declined.reason for declined in log.declined]


def test_fully_connected_layers_side_by_side_are_refused(rng):
    graph = build(lambda x: Concat()(*(random_linear(rng, 3, 3)(x) for _ in PLACES)), x=(None, 3))
    assert check_pass([recognise_space_to_depth, linear_to_conv], graph).declined[0].reason == OTHER


def test_parts_that_are_scaled_are_refused(rng):
    def scaled(x):
        parts = [Subsample((2, 2), first if any(first) else ())(x) for first in PLACES]
        return Concat()(Scale(np.array([2.0, 1, 1]), np.zeros(1))(parts[0]), *parts[1:])

    log = check_pass(RULES, build(scaled, x=EVEN))
    assert "its parts are more than the pixels at the places of a block" in [declined.reason for declined in log.declined]


@pytest.mark.parametrize("objective", ["plain", "latency", "macs", "params"])
def test_focus_and_a_padded_conv_are_one_conv_whatever_the_size(rng, objective):
    conv = random_conv(rng, 12, 8, 3, padding=1)
    before, graph = (build(lambda x: relu(conv(focus(x))), x=(None, 3, None, None)) for _ in range(2))
    Rewriter(graph, PASSES, OBJECTIVES[objective]).run()
    assert [str(node.op) for node in graph.topological()] == ["Conv 3->8 6x6", "Relu"]
    for size in ((12, 18), (2, 4), (6, 2), (2, 2)):
        assert max(deviation.worst for deviation in deviations(before, graph, size)) < 1e-12
