"""Verification fails where it must, and nowhere else: one set of weights of what examples/verification.py runs with three."""

import pytest
from verification_mutants import MUTANTS
from verification_pairs import PAIRS

import repcompiler


@pytest.mark.parametrize("mutant", MUTANTS[::3], ids=lambda mutant: mutant.what)
def test_a_broken_model_is_caught(mutant):
    assert repcompiler.verify(*mutant.pair(seed=0), locate=False).verdict == "different"


@pytest.mark.parametrize("pair", PAIRS[::3], ids=lambda pair: f"{pair.network}, {pair.what}")
def test_a_model_that_is_equal_by_construction_passes(pair):
    assert repcompiler.verify(*pair.pair(seed=0)).verdict == "equal"
