"""The same equations on numpy arrays and on torch tensors: equal weights, and gradients of the explicit branches."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from repcompiler import algebra
from repcompiler.ops import BatchNorm, Conv
from repcompiler.refusal import Refusal
from repcompiler.testing import random_batch_norm, random_conv, random_conv_transpose


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def live(op):
    """The operation on torch tensors that require gradients."""
    arrays = {
        name: torch.tensor(array, requires_grad=True) for name, array in vars(op).items() if isinstance(array, np.ndarray)
    }
    return replace(op, **arrays)


def parameters(*ops):
    return [value for op in ops for value in vars(op).values() if isinstance(value, torch.Tensor)]


def conv2d(op, x):
    assert all(before == after for before, after in op.padding)
    return F.conv2d(x, op.weight, op.bias, op.stride, [before for before, _ in op.padding], op.dilation, op.groups)


def batch_norm(op, x):
    """Written out: torch's own gives no gradient for the statistics."""
    gamma, beta, mean, var = (array.reshape(-1, 1, 1) for array in (op.gamma, op.beta, op.mean, op.var))
    return gamma * (x - mean) / (var + op.eps).sqrt() + beta


def squeeze_norm(first, norm):
    t, s = algebra.affine(norm, first.out_channels)
    return algebra.scale_outputs(first, t, s)


def sequence(rng):
    first = random_conv(rng, 6, 4, (2, 3), stride=(2, 1), dilation=(1, 2), padding=1, groups=2)
    return first, random_conv(rng, 4, 8, (3, 2), groups=4)


EQUATIONS = {
    "compose": (algebra.compose, sequence),
    "compose, diagonal first": (algebra.compose, lambda rng: (random_conv(rng, 4, 4, 1, groups=4), random_conv(rng, 4, 4, 3))),
    "compose, diagonal second": (algebra.compose, lambda rng: (random_conv(rng, 4, 4, 3), random_conv(rng, 4, 4, 1, groups=4))),
    "add": (
        lambda first, second: algebra.add(first, second, [None, None]),
        lambda rng: (
            random_conv(rng, 4, 4, 3, padding=2, dilation=2),
            random_conv(rng, 4, 4, (1, 3), padding=(0, 1), groups=4),
        ),
    ),
    "negate": (algebra.negate, lambda rng: (random_conv(rng, 4, 4, 3),)),
    "fold": (squeeze_norm, lambda rng: (random_conv(rng, 4, 6, 3, groups=2), random_batch_norm(rng, 6))),
    "fold, transposed": (squeeze_norm, lambda rng: (random_conv_transpose(rng, 4, 6, 3, groups=2), random_batch_norm(rng, 6))),
    "scale_inputs": (
        lambda op, norm: algebra.scale_inputs(op, norm.gamma),
        lambda rng: (sequence(rng)[0], random_batch_norm(rng, 6)),
    ),
}


@pytest.mark.parametrize(("equation", "operands"), EQUATIONS.values(), ids=EQUATIONS)
def test_numpy_and_torch_give_the_same_weights(rng, equation, operands):
    ops = operands(rng)
    one, other = equation(*ops), equation(*map(live, ops))
    assert {name for name, value in vars(one).items() if isinstance(value, np.ndarray)} == {"weight", "bias"}
    for name, value in vars(one).items():
        if not isinstance(value, np.ndarray):
            assert getattr(other, name) == value
            continue
        assert getattr(other, name).dtype == torch.float64
        assert np.allclose(getattr(other, name).detach().numpy(), value, rtol=0, atol=1e-13)


def assert_same_gradients(squeezed, explicit, ops):
    """Of a random weighting of the results, with respect to every parameter."""
    weighting = torch.tensor(np.random.default_rng(1).normal(size=tuple(explicit.shape)))
    assert torch.allclose(squeezed, explicit, rtol=0, atol=1e-10)
    both = [torch.autograd.grad((result * weighting).sum(), parameters(*ops)) for result in (squeezed, explicit)]
    for one, other in zip(*both, strict=True):
        assert other.abs().max() > 0
        assert torch.allclose(one, other, rtol=0, atol=1e-10)


def test_gradients_through_a_sum_are_those_of_the_branches(rng):
    large = live(random_conv(rng, 4, 4, 3, padding=1, groups=2))
    small, dilated = live(random_conv(rng, 4, 4, 1)), live(random_conv(rng, 4, 4, 3, padding=2, dilation=2))
    x = torch.tensor(rng.normal(size=(2, 4, 7, 6)))
    merged = algebra.add(algebra.add(large, small, [None, None]), algebra.negate(dilated), [None, None])
    explicit = conv2d(large, x) + conv2d(small, x) - conv2d(dilated, x)
    assert_same_gradients(conv2d(merged, x), explicit, [large, small, dilated])


def test_gradients_through_a_composition_are_those_of_the_sequence(rng):
    first, norm = live(random_conv(rng, 4, 6, 1, padding=1)), live(random_batch_norm(rng, 6))
    second = live(random_conv(rng, 6, 4, 3, stride=2, groups=2))
    x = torch.tensor(rng.normal(size=(2, 4, 7, 6)))
    merged = algebra.compose(squeeze_norm(first, norm), second)
    explicit = conv2d(second, batch_norm(norm, conv2d(first, x)))
    assert_same_gradients(conv2d(merged, x), explicit, [first, norm, second])


def test_gradients_through_a_folded_input_are_those_of_the_norm_before(rng):
    norm, conv = live(random_batch_norm(rng, 4)), live(random_conv(rng, 4, 6, 3, groups=2))
    x = torch.tensor(rng.normal(size=(2, 4, 7, 6)))
    t, s = algebra.affine(norm, 4)
    scaled = algebra.scale_inputs(conv, t)
    folded = replace(scaled, bias=scaled.bias + algebra.constant_response(conv, s))
    assert_same_gradients(conv2d(folded, x), conv2d(conv, batch_norm(norm, x)), [norm, conv])


def test_live_bias_is_never_taken_for_zero(rng):
    assert algebra.known_zero(np.zeros(3))
    assert not algebra.known_zero(np.array([0.0, 1e-300]))
    assert not algebra.known_zero(torch.zeros(3))
    first, second = random_conv(rng, 4, 4, 1, bias=False), random_conv(rng, 4, 4, 3, padding=1)
    assert algebra.compose(first, second).padding == second.padding
    with pytest.raises(Refusal, match="carries a bias"):
        algebra.compose(live(first), live(second))


def test_float16_and_bfloat16_weights_are_combined_in_float64():
    weight = np.ones((2, 2, 1, 1), ml_dtypes.bfloat16)
    conv = Conv(weight, np.zeros(2, np.float16), (1, 1), ((0, 0),) * 2, (1, 1), 1)
    norm = BatchNorm(*(np.ones(2, ml_dtypes.bfloat16) for _ in range(4)), 1e-5)
    for result in (
        algebra.compose(conv, conv),
        algebra.add(conv, conv, [None, None]),
        algebra.negate(conv),
        squeeze_norm(conv, norm),
    ):
        assert result.weight.dtype == result.bias.dtype == np.float64


@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_a_factor_is_copied_only_where_a_product_with_it_would_be_of_less_than_float64(make):
    half, single, double = (make([1.5], dtype=dtype) for dtype in _floats(make))
    assert algebra.factor(half).dtype == double.dtype
    assert algebra.factor(single) is single
    assert algebra.factor(double) is double


def _floats(make):
    library = np if make is np.asarray else torch
    return library.float16, library.float32, library.float64
