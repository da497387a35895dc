import numpy as np
import pytest

from repcompiler.joins import addition_tree
from repcompiler.ops import BatchNorm, Conv, Identity, Linear, Scale, Sum
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.pattern import Match, linear, linear_after, one_of
from repcompiler.region import Scope, regions
from repcompiler.testing import build, opaque, random_batch_norm, random_conv, random_linear, random_scale, relu

IMAGE = (None, 4, None, None)
VIEWS = {BatchNorm: batch_norm_to_conv.view, Scale: batch_norm_to_conv.view, Identity: identity_to_dirac.view}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def matches(pattern, graph, root="y"):
    [node] = [node for node in graph.nodes if node.output.name == root]
    return list(pattern.match_node(node, Match(), Scope(graph, VIEWS)))


def test_names_capture_operations_and_operands(rng):
    conv, norm = random_conv(rng, 4, 4, 1), random_batch_norm(rng, 4)
    graph = build(lambda x: norm(conv(x)), x=IMAGE)
    [match] = matches(BatchNorm.of(Conv.of("x", name="conv"), name="norm"), graph)
    assert match.captures == {"norm": norm, "conv": conv, "x": graph.inputs[0]}
    assert [value.name for value in match.interior] == ["conv1"]


def test_other_operations_do_not_match(rng):
    graph = build(lambda x: random_batch_norm(rng, 4)(relu(x)), x=IMAGE)
    assert not matches(BatchNorm.of(Conv.of("x")), graph)
    assert not matches(Linear.of("x"), graph)
    assert not matches(BatchNorm.of(BatchNorm.of("x")), build(lambda x: random_batch_norm(rng, 4)(x), x=IMAGE))


def test_any_of_several_operations_or_patterns(rng):
    graph = build(lambda x: random_scale(rng, 4)(random_linear(rng, 4, 4)(x)), x=(None, 4))
    assert matches(one_of(BatchNorm, Scale)(one_of(Conv, Linear)("x", name="linear"), name="norm"), graph)
    [match] = matches(Scale.of(Conv.of("x", name="op") | Linear.of("x", name="op")), graph)
    assert isinstance(match.captures["op"], Linear)


def test_a_name_stands_for_one_thing():
    multiply = opaque("Mul", np.multiply)
    square, product = build(lambda x: multiply(x, x), x=IMAGE), build(lambda x, z: multiply(x, z), x=IMAGE, z=IMAGE)
    assert len(matches(type(multiply).of("a", "a"), square)) == 1
    assert len(matches(type(multiply).of("a", "b"), square)) == 1
    assert not matches(type(multiply).of("a", "a"), product)


def test_operands_are_as_many_as_the_pattern_has_or_not_asked_about():
    three = build(lambda x: opaque("Concat", lambda *arrays: np.concatenate(arrays))(x, x, x), x=IMAGE)
    kind = type(relu)
    assert len(matches(kind.of(), three)) == 1
    assert len(matches(kind.of("a", "b", "c"), three)) == 1
    assert not matches(kind.of("a", "b"), three)


def test_region_is_found_at_every_length_back_to_a_value_that_is_read_twice(rng):
    def block(x):
        shared = random_conv(rng, 4, 4, 1)(x)
        return {"y": random_conv(rng, 4, 4, 1)(random_scale(rng, 4)(random_conv(rng, 4, 4, 1)(shared))), "z": relu(shared)}

    graph = build(block, x=IMAGE)
    found = list(regions(graph.outputs[0], Scope(graph, VIEWS)))
    assert [(region.source.name, len(region.steps)) for region, _ in found] == [
        ("y", 0),
        ("scale1", 1),
        ("conv2", 2),
        ("conv1", 3),
    ]
    assert [[value.name for value in interior] for _, interior in found] == [
        [],
        ["y"],
        ["y", "scale1"],
        ["y", "scale1", "conv2"],
    ]


def test_region_ends_where_no_pass_shows_the_operation_as_a_convolution(rng):
    graph = build(lambda x: random_conv(rng, 4, 4, 1)(relu(random_conv(rng, 4, 4, 1)(x))), x=IMAGE)
    assert [region.source.name for region, _ in regions(graph.outputs[0], Scope(graph, VIEWS))] == ["y", "relu1"]
    scaled = build(lambda x: random_scale(rng, 4)(x), x=IMAGE)
    assert len(list(regions(scaled.outputs[0], Scope(scaled, {})))) == 1


def test_sequence_has_a_convolution_in_it_somewhere(rng):
    pattern = linear_after(linear("x", name="first", least=1), name="second")
    two_scales = build(lambda x: random_scale(rng, 4)(random_batch_norm(rng, 4)(x)), x=IMAGE)
    assert not matches(pattern, two_scales)
    after_conv = build(lambda x: random_scale(rng, 4)(random_batch_norm(rng, 4)(random_conv(rng, 4, 4, 1)(x))), x=IMAGE)
    [match] = matches(pattern, after_conv)
    assert [type(op) for op in match.captures["first"].steps] == [Conv, BatchNorm]
    assert [type(op) for op in match.captures["second"].steps] == [Scale]


def test_addition_tree_is_flat_with_signs_in_reading_order():
    add, sub = Sum((1, 1)), Sum((1, -1))
    graph = build(lambda a, b, c, d, e: sub(add(a, sub(b, c)), sub(d, Sum((-1, 1))(e, a))), **dict.fromkeys("abcde", IMAGE))
    terms, additions = addition_tree(graph.outputs[0].producer, graph)
    assert [(sign, value.name) for sign, value in terms] == [(1, "a"), (1, "b"), (-1, "c"), (-1, "d"), (-1, "e"), (1, "a")]
    assert len(additions) == 4


def test_addition_that_is_read_twice_is_a_term():
    def twice(x, z):
        partial = Sum((1, 1))(x, z)
        return Sum((1, -1))(partial, relu(partial))

    graph = build(twice, x=IMAGE, z=IMAGE)
    terms, additions = addition_tree(graph.outputs[0].producer, graph)
    assert [(sign, value.name) for sign, value in terms] == [(1, "sum1"), (-1, "relu1")]
    assert additions == []


def test_pairs_of_terms_share_a_source_and_leave_the_rest_signed(rng):
    first, second = random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 1)
    graph = build(lambda x, z: Sum((1, -1, -1))(first(x), z, second(x)), x=IMAGE, z=IMAGE)
    [match] = matches(Sum.of(linear("x", name="first"), linear("x", name="second")), graph)
    assert match.captures["x"] is graph.inputs[0]
    one, other = match.captures["first"], match.captures["second"]
    assert (one.steps, one.negative, other.steps, other.negative) == ((first,), False, (second,), True)
    assert [value.name for value in match.rest] == ["z"]
    assert match.context(first(graph.inputs[0])).op == Sum((1, -1))


def test_two_plain_occurrences_of_a_value_are_no_branches():
    pattern = Sum.of(linear("x", name="first"), linear("x", name="second"))
    assert not matches(pattern, build(lambda x: Sum((1, 1))(x, x), x=IMAGE))


def test_terms_of_a_sum_are_regions():
    with pytest.raises(TypeError, match="matched as linear"):
        Sum.of("x", "y")
