"""Which values of two graphs belong together, and what says so."""

import numpy as np
import pytest

from repcompiler.alignment import align
from repcompiler.fingerprints import close, fingerprints, same_values
from repcompiler.interpreter import trace
from repcompiler.ir import Graph, Value
from repcompiler.ops import Sum
from repcompiler.testing import build, random_batch_norm, random_conv, relu

SHAPE = (1, 4, 8, 7)


def names(found, *, how=None):
    return {one.name: other.name for one, other in found.found.items() if how in (None, found.how[one])}


def prints(*graphs):
    image = np.random.default_rng(1).standard_normal(SHAPE)
    return tuple(fingerprints(trace(graph, {graph.inputs[0]: image})) for graph in graphs)


def renamed(graph, prefix):
    for value in (*graph.inputs, *(value for node in graph.nodes for value in node.outputs)):
        value.name = prefix + value.name
    return graph


@pytest.fixture
def twins():
    """Two graphs of two parallel convolutions that look alike; in the second one they stand the other way round."""
    rng = np.random.default_rng(0)
    one, other = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 3, padding=1)
    difference = Sum((1, -1))
    first, second = (
        build(lambda x, pair=pair: difference(*(conv(x) for conv in pair)), x=SHAPE) for pair in ((one, other), (other, one))
    )
    return first, renamed(second, "_")


def test_a_name_says_more_than_a_place(twins):
    first, second = twins
    values = {value.name: value for node in second.nodes for value in node.outputs}
    values["_conv1"].name, values["_conv2"].name = "conv2", "conv1"
    assert names(align(first, second, {}), how="name") == {"conv1": "conv1", "conv2": "conv2"}


def test_a_place_among_several_alike_is_a_guess_that_values_correct(twins):
    first, second = twins
    assert names(align(first, second, {}), how="guess") == {"conv1": "_conv1", "conv2": "_conv2"}
    found = align(first, second, {}, prints(first, second))
    assert names(found, how="structure").items() >= {"conv1": "_conv2", "conv2": "_conv1"}.items()
    assert names(found, how="guess") == {}


def test_a_name_that_an_exporter_counts_up_means_nothing():
    rng = np.random.default_rng(0)
    conv, norm = random_conv(rng, 4, 4, 3, padding=1), random_batch_norm(rng, 4)
    first, second = build(lambda x: relu(conv(relu(x))), x=SHAPE), build(lambda x: norm(relu(norm(x))), x=SHAPE)
    for graph in (first, second):
        for index, value in enumerate(value for node in graph.nodes for value in node.outputs):
            value.name = f"add_{index}"
    found = align(first, second, {})
    assert names(found, how="name") == {"x": "x"}


def test_each_value_is_in_one_pair(twins):
    first, second = twins
    found = align(first, second, {first.inputs[0]: second.inputs[0]}, prints(first, second))
    assert len(set(found.found.values())) == len(found.found) == 4
    assert found.how[first.inputs[0]] == "given"


def test_fingerprints_tell_values_apart_but_not_their_rounding():
    rng = np.random.default_rng(0)
    array = rng.standard_normal(SHAPE)
    others = [array * 1.001, -array, array[..., ::-1], np.roll(array, 1, 1), array.reshape(1, 4, 7, 8)]
    of = lambda *arrays: list(fingerprints((Value(""), each) for each in arrays).values())  # noqa: E731
    [own, rounded, *rest] = of(array, array.astype(np.float32), *others)
    assert close(own, rounded)
    assert not any(close(own, other) for other in rest)
    assert of(np.zeros(SHAPE), np.ones(3, np.int64), np.full(2, np.nan)) == []


def test_of_equal_values_the_last_ones_are_paired():
    array = np.random.default_rng(0).standard_normal(SHAPE)
    first, second = ([Value(f"{side}{index}") for index in range(3)] for side in "ab")
    sides = [fingerprints((value, array) for value in values) for values in (first, second)]
    assert same_values(*sides) == [(first[2], second[2])]
    assert same_values(sides[0], {}) == []


def test_graphs_with_nothing_in_common_have_their_inputs_alone():
    made = Graph()
    made.inputs = made.outputs = [Value("other", SHAPE)]
    conv = random_conv(np.random.default_rng(0), 4, 4, 3)
    assert names(align(build(lambda x: relu(conv(x)), x=SHAPE), made, {})) == {"x": "other"}
