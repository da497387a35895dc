from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.ir import Value
from repcompiler.ops import Constant, Opaque
from repcompiler.passes.fold_constants import fold_constants
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, opaque

add = opaque("Add", np.add)


def constant(name, array):
    return Value(name, array.shape, constant=lambda: array)


def computed(graph, op, name, *operands):
    """A node whose result depends on parameters alone, as a frontend marks it."""
    array = op.evaluate([operand.constant() for operand in operands])[0]
    value = constant(name, array)
    graph.add(op, operands, [value])
    return value


def generated_weight(rng, op=None):
    """y = x + op(v g), the last two of them parameters."""
    graph = build(lambda x: {}, x=(None, 4))
    v, g = constant("v", rng.normal(size=(3, 4))), constant("g", rng.normal(size=(3, 1)))
    product = computed(graph, opaque("Mul", np.multiply), "product", v, g)
    weight = computed(graph, op or opaque("ReduceSum", lambda array: array.sum(0)), "weight", product)
    y = Value("y")
    graph.add(add, [graph.inputs[0], weight], [y])
    graph.outputs.append(y)
    return graph


def test_expression_of_parameters_becomes_a_parameter(rng):
    graph = generated_weight(rng)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4])
          %product = Mul(%v, %g) : [3, 4]
          %weight = ReduceSum(%product) : [4]
          %y = Add(%x, %weight) : [...]
          return %y
    """)
    log = check_pass(fold_constants, graph, "latency")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4])
          %weight = Constant() : [4]
          %y = Add(%x, %weight) : [...]
          return %y
    """)
    assert [step.root for step in log.steps] == ["weight"]


def test_only_the_end_of_the_expression_is_computed(rng):
    graph = generated_weight(rng)
    [weight] = [node.output for node in graph.nodes if node.output.name == "weight"]
    expected = weight.constant()
    check_pass(fold_constants, graph)
    [op] = [node.op for node in graph.nodes if isinstance(node.op, Constant)]
    assert np.array_equal(op.array, expected)


@pytest.mark.parametrize("objective", ["latency", "macs", "params", "plain"])
def test_folding_pays_under_every_objective(rng, objective):
    assert len(check_pass(fold_constants, generated_weight(rng), objective).steps) == 1


def test_constant_larger_than_its_sources_is_refused(rng):
    tile = Opaque("Tile", lambda arrays: [np.tile(arrays[0].sum(0), (1000, 1))])
    graph = generated_weight(rng, tile)
    graph.inputs[0].shape = (1000, 4)
    log = check_pass(fold_constants, graph)
    assert [step.root for step in log.steps] == []
    assert log.declined[0].reason == "the constant would be larger than the parameters it is computed from"


def test_constant_as_large_as_its_sources_is_folded_whatever_its_size(rng):
    graph = build(lambda x: {}, x=(None, 600))
    weight = computed(graph, opaque("Neg", np.negative), "weight", constant("w", rng.normal(size=600)))
    y = Value("y")
    graph.add(add, [graph.inputs[0], weight], [y])
    graph.outputs.append(y)
    assert len(check_pass(fold_constants, graph, "latency").steps) == 1


def test_expression_that_is_an_output_of_the_graph_folds_in_place(rng):
    graph = generated_weight(rng)
    graph.outputs.append(next(node.output for node in graph.nodes if node.output.name == "product"))
    check_pass(fold_constants, graph)
    assert {node.output.name: node.op.kind for node in graph.nodes} == {
        "product": "Constant",
        "weight": "Constant",
        "y": "Add",
    }


def test_what_depends_on_an_input_is_left_alone(rng):
    graph = build(lambda x: add(x, x), x=(None, 4))
    log = check_pass(fold_constants, graph)
    assert not log.steps
    assert not log.declined
