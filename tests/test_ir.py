from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.ir import Graph, Node, Value
from repcompiler.ops import Constant, Identity, Opaque, Scale, Sum
from repcompiler.printer import render
from repcompiler.testing import build, opaque, relu

DEPTH = 20_000


@pytest.fixture
def graph():
    """x -> a -> b -> y, and x -> y."""
    return build(lambda x: Sum((1, 1))(Identity()(relu(x)), x), x=(None, 4))


def nodes_by_name(graph):
    return {node.output.name: node for node in graph.nodes}


def deep():
    """A chain of `DEPTH` operations."""
    graph, double = Graph(), Scale(np.full(1, 2.0), np.zeros(1))
    value = Value("x", (None, 1))
    graph.inputs.append(value)
    for index in range(DEPTH):
        value, before = Value(f"v{index}", (None, 1)), value
        graph.add(double, [before], [value])
    graph.outputs.append(value)
    return graph


# -- what `check` catches ------------------------------------------------------------------------------------------------


def define_twice(graph):
    node = nodes_by_name(graph)["y"]
    graph.add(Identity(), [graph.inputs[0]], [node.output])


def claim_another_producer(graph):
    nodes = nodes_by_name(graph)
    nodes["y"].output.producer = nodes["relu1"]


def forget_a_use(graph):
    [x] = graph.inputs
    x.uses.popitem()


def miscount_a_use(graph):
    [x] = graph.inputs
    x.uses[nodes_by_name(graph)["y"]] = 2


def keep_a_stale_use(graph):
    node = nodes_by_name(graph)["relu1"]
    graph.outputs[0].uses[node] = 1


def keep_a_stale_use_of_an_input(graph):
    unread = Value("z", (None, 4))
    graph.inputs.append(unread)
    unread.uses[nodes_by_name(graph)["y"]] = 1


def forget_a_parameter(graph):
    node = nodes_by_name(graph)["relu1"]
    node.parameters = (Value("weight", (4,)),)


def lose_a_producer(graph):
    del graph.nodes[nodes_by_name(graph)["identity1"]]
    [x] = graph.inputs
    x.uses.pop(nodes_by_name(graph)["relu1"], None)
    graph.nodes.pop(nodes_by_name(graph)["relu1"])


def close_a_cycle(graph):
    nodes = nodes_by_name(graph)
    first, last = nodes["relu1"], nodes["identity1"]
    graph.inputs[0].uses.pop(first)
    first.inputs = (last.output,)
    last.output.uses[first] = 1


def read_oneself(graph):
    node = nodes_by_name(graph)["relu1"]
    graph.inputs[0].uses.pop(node)
    node.inputs = (node.output,)
    node.output.uses[node] = 1


def lose_an_output(graph):
    graph.outputs.append(Value("z"))
    graph.outputs[-1].producer = Node(relu, (), (graph.outputs[-1],))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (define_twice, "%y is not defined by exactly one node"),
        (claim_another_producer, "%y is not defined by exactly one node"),
        (forget_a_use, "recorded uses of %x"),
        (miscount_a_use, "recorded uses of %x"),
        (keep_a_stale_use, "recorded uses of %y"),
        (keep_a_stale_use_of_an_input, "recorded uses of %z"),
        (forget_a_parameter, "recorded uses of %weight"),
        (lose_a_producer, "%identity1 has lost its producer, which has left the graph"),
        (close_a_cycle, "cycle"),
        (read_oneself, "cycle"),
        (lose_an_output, "%z has lost its producer, which has left the graph"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_check_catches_every_broken_invariant(graph, damage, message):
    graph.check()
    damage(graph)
    with pytest.raises(ValueError, match=message):
        graph.check()


# -- order ---------------------------------------------------------------------------------------------------------------


def test_producers_come_before_users_and_otherwise_in_the_order_they_were_added():
    graph = Graph()
    x, a, b, c, d = (Value(name) for name in "xabcd")
    graph.inputs.append(x)
    graph.add(Sum((1, 1)), [c, b], [d])
    graph.add(relu, [x], [a])
    graph.add(relu, [x], [b])
    graph.add(relu, [b], [c])
    graph.outputs.append(d)
    assert [node.output.name for node in graph.topological()] == ["b", "c", "d", "a"]
    graph.check()


def test_a_node_is_ordered_after_what_computes_its_parameters():
    graph = Graph()
    x, weight, y = Value("x"), Value("weight"), Value("y")
    graph.add(relu, [x], [y], [weight])
    graph.add(Constant(np.zeros(1)), [], [weight])
    assert [node.output.name for node in graph.topological()] == ["weight", "y"]


def test_deep_graph_is_ordered_checked_and_taken_apart_without_recursion():
    graph = deep()
    graph.check()
    assert len(graph.topological()) == DEPTH
    last = graph.outputs.pop().producer
    assert last is not None
    assert len(graph.detach(last)) == DEPTH
    assert not graph.nodes
    assert not graph.inputs[0].uses
    graph.check()


def test_every_node_of_a_deep_graph_can_be_replaced():
    graph = deep()
    for index, node in enumerate(graph.topological()[:-1]):
        graph.replace(node, node.inputs[0] if index % 2 else Identity()(node.inputs[0]))
    graph.check()
    assert len(graph.nodes) == DEPTH // 2 + 1


# -- replacing -----------------------------------------------------------------------------------------------------------


def test_replacing_expression_inherits_the_output_value(graph):
    node = nodes_by_name(graph)["y"]
    gone, added = graph.replace(node, relu(relu(graph.inputs[0])))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4])
          %y/1 = Relu(%x) : [...]
          %y = Relu(%y/1) : [...]
          return %y
    """)
    assert [node.output.name for node in gone] == ["y", "identity1", "relu1"]
    assert [node.output.name for node in added] == ["y/1", "y"]
    assert graph.outputs[0] is node.output
    graph.check()


def test_replacing_value_takes_over_every_use(graph):
    nodes = nodes_by_name(graph)
    gone, added = graph.replace(nodes["identity1"], nodes["relu1"].output)
    assert ([node.output.name for node in gone], added) == (["identity1"], [])
    assert graph.forwarded == {nodes["identity1"].output: nodes["relu1"].output}
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4])
          %relu1 = Relu(%x) : [...]
          %y = Add(%relu1, %x) : [...]
          return %y
    """)
    graph.check()


def test_value_may_take_over_from_a_node_whose_user_already_reads_it(graph):
    nodes = nodes_by_name(graph)
    graph.replace(nodes["identity1"], graph.inputs[0])
    assert nodes["y"].inputs == (graph.inputs[0], graph.inputs[0])
    assert graph.inputs[0].uses[nodes["y"]] == 2
    assert "relu1" not in nodes_by_name(graph)
    graph.check()


def test_value_takes_over_as_a_parameter_too():
    graph = Graph()
    x, weight, same, y = Value("x"), Value("weight"), Value("same"), Value("y")
    graph.inputs.append(x)
    identity = graph.add(Identity(), [weight], [same])
    node = graph.add(relu, [x], [y], [same])
    graph.outputs.append(y)
    graph.replace(identity, weight)
    assert node.parameters == (weight,)
    graph.check()


def test_output_of_the_graph_cannot_become_another_value(graph):
    with pytest.raises(ValueError, match="y is an output of the graph"):
        graph.replace(nodes_by_name(graph)["y"], graph.inputs[0])


def test_removing_takes_producers_that_only_it_read_and_leaves_those_with_an_effect():
    effect = Opaque("Print", lambda arrays: arrays, effect=True)
    graph = build(lambda x: relu(effect(relu(x))), x=(None, 4))
    last = graph.outputs.pop().producer
    graph.replace(last, None)
    assert list(nodes_by_name(graph)) == ["relu1", "print1"]
    graph.check()


def test_parameters_of_a_node_that_went_are_free():
    graph = Graph()
    x, weight, y, z = Value("x"), Value("weight"), Value("y"), Value("z")
    graph.inputs.append(x)
    graph.add(relu, [x], [y], [weight])
    other = graph.add(relu, [x], [z], [weight])
    graph.outputs.append(z)
    graph.detach(nodes_by_name(graph)["y"])
    assert list(weight.uses) == [other]
    graph.check()


def test_new_values_have_names_of_their_own_and_the_type_of_what_they_compute(graph):
    node = nodes_by_name(graph)["y"]
    node.output.dtype = "float16"
    graph.replace(node, Sum((1, 1))(relu(relu(graph.inputs[0])), relu(graph.inputs[0])))
    names = [value.output.name for value in graph.nodes]
    assert len(set(names)) == len(names) == 4
    assert {value.output.dtype for value in graph.nodes} == {"float16"}


# -- what is asked of values -----------------------------------------------------------------------------------------------


def test_private_is_read_once_by_one_operand_and_handed_out_to_nobody(graph):
    nodes = nodes_by_name(graph)
    assert graph.is_private(nodes["relu1"].output)
    assert not graph.is_private(graph.inputs[0])
    assert not graph.is_private(nodes["y"].output)
    twice = build(lambda x: (lambda same: Sum((1, 1))(same, same))(relu(x)), x=(None, 4))
    assert not twice.is_private(nodes_by_name(twice)["relu1"].output)


def test_leaves_are_what_a_value_is_computed_from():
    x, weight, scale, product, y = (Value(name) for name in ("x", "weight", "scale", "product", "y"))
    graph = Graph()
    graph.add(opaque("Mul", np.multiply), [weight, scale], [product])
    graph.add(relu, [x], [y], [product])
    assert y.leaves() == {x, weight, scale}
    assert product.leaves() == {weight, scale}
    assert x.leaves() == {x}


def test_extents_behind_the_channels_are_numbers_or_unknown():
    assert Value("x", ("batch", 3, "height", 7)).spatial(2) == [None, 7]
    assert Value("x").spatial(3) == [None, None, None]
    assert Value("x").rank is None
    assert Value("x", ()).rank == 0
