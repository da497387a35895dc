"""Linear regions drawn by hypothesis, through all passes: what comes out computes the same, at every pixel of every size."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repcompiler.ops import AvgPool, Concat, Pad, Relu, Resize, Select, Subsample, Sum
from repcompiler.passes import PASSES
from repcompiler.testing import (
    build,
    check_pass,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_scale,
)

CHANNELS = 4
law = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@st.composite
def layers(draw):
    """An operation that keeps channels and extents, on any of its forms."""
    kind = draw(st.sampled_from(["conv", "norm", "scale", "pool", "choice", "identity", "relu"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    if kind == "conv":
        kernel = tuple(draw(st.sampled_from([1, 2, 3])) for _ in range(2))
        before = tuple(draw(st.integers(0, k - 1)) for k in kernel)
        padding = tuple((b, k - 1 - b) for k, b in zip(kernel, before, strict=True))
        groups = draw(st.sampled_from([1, 2, 4]))
        return random_conv(rng, CHANNELS, CHANNELS, kernel, padding=padding, groups=groups, bias=draw(st.booleans()))
    if kind == "norm":
        return random_batch_norm(rng, CHANNELS)
    if kind == "scale":
        return random_scale(rng, draw(st.sampled_from([1, CHANNELS])))
    if kind == "pool":
        return AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9)
    if kind == "choice":
        return Select(tuple(draw(st.permutations(range(CHANNELS)))))
    return Relu() if kind == "relu" else lambda x: x


@st.composite
def regions(draw):
    """Branches of layers on one value, added up or side by side, with a layer behind."""
    branches = draw(st.lists(st.lists(layers(), max_size=3), min_size=1, max_size=3))
    signs = (1, *(draw(st.sampled_from([1, -1])) for _ in branches[1:]))
    joined = draw(st.sampled_from([Sum(signs), Concat()])) if len(branches) > 1 else None
    behind = draw(st.lists(layers(), max_size=2)) if not isinstance(joined, Concat) else []
    last = draw(
        st.sampled_from(
            [
                None,
                Subsample((2, 1)),
                Pad(((1, 0), (0, 2))),
                Resize("nearest", "asymmetric", "floor", (2.0, 2.0)),
                random_conv_transpose(np.random.default_rng(0), CHANNELS, 3, 3, stride=2, padding=1),
            ]
        )
    )

    def region(x):
        terms = []
        for branch in branches:
            terms.append(x)
            for layer in branch:
                terms[-1] = layer(terms[-1])
        y = joined(*terms) if joined is not None else terms[0]
        for layer in behind:
            y = layer(y)
        return Relu()(y if last is None or isinstance(joined, Concat) else last(y))

    return region


@law
@given(regions(), st.sampled_from(["plain", "latency", "macs", "params"]))
@pytest.mark.parametrize("shape", [(None, CHANNELS, None, None), (2, CHANNELS, 5, 7)])
def test_random_regions_compute_the_same(shape, region, objective):
    check_pass(PASSES, build(region, x=shape), objective)
