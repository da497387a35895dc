"""How many bytes are needed at once, counted by hand in maps."""

import numpy as np
import pytest

from repcompiler.liveness import peak_of_graph
from repcompiler.ops import Concat, Relu, Select, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.remove_residual import remove_residual
from repcompiler.testing import build, check_pass, random_conv

MAP = 4 * 4 * 7 * 5
IMAGE = (1, 4, 7, 5)
Add = Sum((1, 1))


def maps(graph):
    return peak_of_graph(graph, lambda value: value.typical or value.shape) / MAP


@pytest.fixture
def layer():
    rng = np.random.default_rng(0)
    return lambda inputs=4, outputs=4: random_conv(rng, inputs, outputs, 3, padding=1)


def test_a_chain_needs_what_one_layer_reads_and_makes(layer):
    first, second, third = layer(4, 8), layer(8, 4), layer()
    assert maps(build(lambda x: third(second(first(x))), x=IMAGE)) == 3


def test_an_activation_writes_over_what_nobody_reads_any_more(layer):
    first, second = layer(), layer()
    assert maps(build(lambda x: second(Relu()(first(x))), x=IMAGE)) == 2

    def read_again(x):
        y = first(x)
        return Concat()(Relu()(y), y)

    assert maps(build(read_again, x=IMAGE)) == 4


def test_what_is_skipped_stays_until_it_is_added(layer):
    first, second = layer(), layer()
    graph = build(lambda x: Add(second(Relu()(first(x))), x), x=IMAGE)
    assert maps(graph) == 3
    check_pass(PASSES, graph)
    assert maps(graph) == 4  # of x two channels, beside the block's own: with signs unknown


def test_results_stay_and_what_nobody_reads_goes(layer):
    first, second, third = layer(), layer(), layer()

    def network(x):
        y = first(x)
        return {"y": y, "z": third(second(y))}

    assert maps(build(network, x=IMAGE)) == 3
    assert maps(build(lambda x: first(Select((0, 1, 2, 3))(x)), x=IMAGE)) == 2


def test_an_input_is_there_from_the_start(layer):
    first, second = layer(), layer()
    assert maps(build(lambda x, late: Add(second(first(x)), late), x=IMAGE, late=IMAGE)) == 3


def test_a_removed_skip_connection_says_what_its_block_takes_at_once(layer):
    first, second = layer(), layer()
    graph = build(lambda x: Add(second(Relu()(first(x))), x), x=IMAGE)
    (step,) = check_pass([remove_residual, identity_to_dirac], graph).steps
    assert step.activations == (3 * MAP, 4 * MAP)
