"""Laws that planted mistakes showed to be missing (examples/mutate_algebra.py): of form, where the function stays the same."""

from dataclasses import replace
from math import gcd

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler import algebra
from repcompiler.testing import random_conv

law = settings(max_examples=150, deadline=None, derandomize=True, database=None)
axis = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
"""(taps, dilation, stride)"""


def conv(rng, *axes, groups=1, channels=4):
    taps, dilation, stride = zip(*axes, strict=True)
    return random_conv(rng, channels, channels, taps, dilation=dilation, stride=stride, groups=groups, bias=False)


def lattice(steps):
    """The coarsest lattice that holds taps at these steps."""
    return gcd(*steps) or 1


@law
@given(axis, axis, st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
def test_composed_taps_lie_on_the_coarsest_lattice_that_holds_them(first, second, groups1, groups2):
    rng = np.random.default_rng(0)
    merged = algebra.compose(conv(rng, first, groups=groups1), conv(rng, second, groups=groups2))
    (k1, d1, s1), (k2, d2, _) = first, second
    steps = [d1] * (k1 > 1) + [d2 * s1] * (k2 > 1)
    [taps], [dilation] = merged.kernel_size, merged.dilation
    assert dilation == lattice(steps)
    assert taps == 1 + ((k1 - 1) * d1 + (k2 - 1) * d2 * s1) // dilation


@law
@given(axis, axis, st.integers(0, 3), st.integers(0, 3))
def test_added_taps_lie_on_the_coarsest_lattice_that_holds_them(first, second, before1, before2):
    rng = np.random.default_rng(0)
    (k1, d1, stride), (k2, d2, _) = first, second
    size = 40
    one, other = (replace(conv(rng, (k, d, stride)), padding=((p, p),)) for k, d, p in ((k1, d1, before1), (k2, d2, before2)))
    behind = other.extent[0] - one.extent[0] + 2 * before1 - before2  # so that the results are of one size
    merged = algebra.add(one, replace(other, padding=((before2, behind),)), [size])
    steps = [d1] * (k1 > 1) + [d2] * (k2 > 1) + [abs(before1 - before2)]
    [taps], [dilation] = merged.kernel_size, merged.dilation
    ends = [-before1, (k1 - 1) * d1 - before1, -before2, (k2 - 1) * d2 - before2]
    assert dilation == lattice(steps)
    assert taps == 1 + (max(ends) - min(ends)) // dilation
