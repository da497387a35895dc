from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repcompiler.ops import Clip, ClipChannels, Relu, Sum
from repcompiler.passes.merge_clips import merge_clips
from repcompiler.testing import build, check_pass, relu

CLIPS = st.builds(Clip, st.sampled_from([-inf, -2.0, 0.0, 0.5]), st.sampled_from([0.5, 1.0, 6.0, inf])) | st.just(Relu())


def merged(first, second):
    graph = build(lambda x: second(first(x)), x=(None, 4, None))
    check_pass(merge_clips, graph)
    return [node.op for node in graph.topological()]


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (Relu(), Clip(-inf, 6.0), Clip(0.0, 6.0)),
        (Clip(-inf, 6.0), Relu(), Clip(0.0, 6.0)),
        (Clip(0.0, inf), Clip(-inf, 6.0), Clip(0.0, 6.0)),
        (Relu(), Relu(), Relu()),
        (Clip(-1.0, inf), Relu(), Relu()),
        (Clip(-2.0, -1.0), Clip(0.0, 6.0), Clip(0.0, 0.0)),
    ],
)
def test_two_clips_are_one(first, second, result):
    assert merged(first, second) == [result]


@given(CLIPS, CLIPS)
def test_any_two_clips_are_one(first, second):
    assert len(merged(first, second)) == 1


def test_a_clip_that_something_else_reads_stays():
    graph = build(lambda x: Sum((1, 1))(r := relu(x), Clip(-inf, 6.0)(r)), x=(None, 4, None))
    assert not check_pass(merge_clips, graph).steps


def test_bounds_of_each_channel_stay():
    graph = build(lambda x: relu(ClipChannels(np.arange(4.0), np.full(4, inf))(x)), x=(None, 4, None))
    assert not check_pass(merge_clips, graph).steps
