"""An operation of the interpreter against what torch computes in float64."""

import numpy as np
import pytest

from repcompiler.interpreter import evaluate

EXTENTS = (7, 10, 6)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def image(rng):
    return lambda axes, channels=4: rng.normal(size=(2, channels, *EXTENTS[:axes]))


@pytest.fixture
def assert_means():
    """Assert that an operation makes of arrays what is expected, of the shape that it says."""

    def check(op, x, expected):
        [actual] = evaluate(op, [x])
        assert actual.shape == expected.shape
        assert np.allclose(actual, expected.numpy(), rtol=0, atol=1e-12)
        assert op.infer_shape([x.shape]) == tuple(expected.shape)
        assert op.infer_shape([(None, *x.shape[1:])]) == (None, *expected.shape[1:])

    return check
