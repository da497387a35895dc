"""Leaky ReLUs that a file writes out, and what only looks like one."""

import numpy as np
import pytest

WRITTEN = {
    "where it is positive": "t = Greater(x, 0.0) s = Mul(x, k_4x1x1) y = Where(t, x, s)",
    "where it is not negative": "t = GreaterOrEqual(x, 0.0) s = Mul(x, 0.3) y = Where(t, x, s)",
    "where it is negative": "t = Less(x, 0.0) s = Div(x, 4.0) y = Where(t, s, x)",
    "where it is not positive": "t = LessOrEqual(x, 0.0) s = Mul(x, k_1) y = Where(t, s, x)",
    "the larger of it and a part": "s = Mul(x, 0.3) y = Max(x, s)",
    "the smaller of it and a multiple": "s = Mul(x, 1.5) y = Min(s, x)",
    "the sum of its halves": "p = Relu(x) n = Neg(x) q = Relu(n) s = Mul(q, var_4x1x1) y = Sub(p, s)",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_leaky_relus_that_are_written_out_are_one_operator(name, model, check):
    result, _ = check(model(WRITTEN[name]))
    assert [node.op_type for node in result.graph.node] in (["LeakyRelu"], ["PRelu"])


OTHER = {
    "the other way round": "t = Greater(x, 0.0) s = Mul(x, 0.3) y = Where(t, s, x)",
    "by another number": "t = Greater(x, 0.5) s = Mul(x, 0.3) y = Where(t, x, s)",
    "by zeros that enlarge": "t = Greater(x, z) s = Mul(x, 0.3) y = Where(t, x, s)",
    "by another value": "e = Exp(x) t = Greater(e, 0.0) s = Mul(x, 0.3) y = Where(t, x, s)",
    "another multiple": "t = Greater(x, 0.0) e = Exp(x) s = Mul(e, 0.3) y = Where(t, x, s)",
    "a multiple and more": "t = Greater(x, 0.0) m = Mul(x, 0.3) s = Add(m, 0.1) y = Where(t, x, s)",
    "the larger of it and a multiple": "s = Mul(x, 1.5) y = Max(x, s)",
    "the smaller of it and a part": "s = Mul(x, 0.3) y = Min(x, s)",
    "slopes of rows": "t = Greater(x, 0.0) s = Mul(x, k_5x1) y = Where(t, x, s)",
}


@pytest.mark.parametrize("name", OTHER)
def test_what_is_no_leaky_relu_is_none(name, model, check):
    result, _ = check(model(OTHER[name], x="2,4,5,4", z=np.zeros((2, 1, 1, 1), np.float32)))
    assert not {"LeakyRelu", "PRelu"} & {node.op_type for node in result.graph.node}
