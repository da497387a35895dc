"""Both graphs are cut into rows: every box in one, counterparts in the same, none larger than a person can take in."""

import numpy as np
import pytest

from repcompiler.alignment import align
from repcompiler.graphdiff.layout import _laid, picture
from repcompiler.graphdiff.model import draw
from repcompiler.graphdiff.regions import links
from repcompiler.graphdiff.rows import MOST, cut, fold
from repcompiler.ir import Graph, Value
from repcompiler.ops import Sum
from repcompiler.testing import build, random_conv, relu


def graph(reads):
    """Operation i reads those that `reads(i)` names; 0 is the input."""
    made = Graph()
    values = [Value("x", (1, 4, 8, 8))]
    made.inputs = [*values]
    for index, sources in enumerate(reads, 1):
        values.append(Value(f"node{index}", (1, 4, 8, 8)))
        made.add(Sum((1,) * len(sources)), [values[source] for source in sources], [values[-1]])
    made.outputs = [values[-1]]
    return made


def linked(before, after):
    return links(before, after, align(before.graph, after.graph, {}))


CHAIN = [[index] for index in range(300)]
LADDER = [list(range(index + 1)) for index in range(60)]
"""Every step reads all steps before it: nowhere is there a place with one tensor alive."""


@pytest.mark.parametrize("reads", [CHAIN, LADDER, [[0]]], ids=["chain", "ladder", "one"])
def test_every_box_is_in_one_row(reads):
    before, after = (draw(graph(reads), title) for title in ("before", "after"))
    found = linked(before, after)
    rows = cut(before, after, found)
    assert sorted(place for row in rows for place in row.before) == list(range(len(before.boxes)))
    assert sorted(place for row in rows for place in row.after) == list(range(len(after.boxes)))
    assert max(row.size for row in rows) <= MOST
    other = {pair.before: pair.after for pair in found.pairs}
    assert all(sorted(map(other.__getitem__, row.before)) == sorted(row.after) for row in rows)


def test_a_row_reads_only_rows_above_it():
    drawing = draw(graph(LADDER), "a")
    rows = cut(drawing, drawing, linked(drawing, drawing))
    place = {box: index for index, row in enumerate(rows) for box in row.before}
    assert all(place[source] <= place[index] for index, box in enumerate(drawing.boxes) for source in box.reads)


def test_a_picture_shows_each_box_once_and_none_upon_another():
    drawing = draw(graph(LADDER[:6]), "a")
    shown = picture(drawing, range(len(drawing.boxes))).boxes
    assert sorted(box.place for box in shown if not box.port) == list(range(len(drawing.boxes)))
    corners = [(b.x - b.width / 2, b.x + b.width / 2, b.y - b.height / 2, b.y + b.height / 2) for b in shown]
    for index, (left, right, top, bottom) in enumerate(corners):
        for start, end, high, low in corners[:index]:
            assert right <= start or end <= left or bottom <= high or low <= top


def test_rows_that_repeat_are_one_block_whatever_their_channels():
    rng = np.random.default_rng(0)

    def stages(x):
        for inside, outside in ((4, 8), (8, 16), (16, 32)):
            x = relu(random_conv(rng, inside, outside, 3, padding=1)(x))
        return x

    before = draw(build(stages, x=(1, 4, 8, 8)), "before")
    after = draw(build(stages, x=(1, 4, 8, 8)), "after")  # other weights
    [start, stage] = fold(before, after, cut(before, after, linked(before, after)))
    assert (len(start.rows), start.repeats) == (1, ())
    assert (len(stage.rows), len(stage.repeats)) == (1, 2)


def test_blocks_that_differ_in_names_alone_are_laid_out_once():
    def blocks(name):
        made = graph(CHAIN[:6])
        for node in made.nodes:
            node.output.name = name + node.output.name
        return draw(made, name)

    _laid.cache_clear()
    first, second = (picture(drawing, range(len(drawing.boxes))) for drawing in (blocks("a"), blocks("b")))
    assert _laid.cache_info().misses == 1
    assert first.paths == second.paths
    assert first.boxes != second.boxes
