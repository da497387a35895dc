"""Assertions of a forward, which pytest would write otherwise (PYTEST_DONT_REWRITE): recorded where they may not hold."""

import pytest
import torch
from torch import nn

import repcompiler


class Asserts(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        assert x.ndim == 4, "no batch"
        assert x.dim() == 4 and x.shape[1] == 4  # noqa: PT018
        assert not x.shape[2] == 1000  # noqa: SIM201
        assert x.shape[3] != 1000 and x.mean() < 1000  # noqa: PT018
        return self.wide(x) + self.narrow(x)


@pytest.mark.parametrize("example", [True, False])
def test_assertions_are_recorded_where_they_are_not_known_to_hold(example, exactly):
    model, _ = exactly(Asserts(), example=example)
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == 1
    for refused in (torch.zeros(1, 4, 1000, 2), torch.zeros(1, 4, 2, 1000), torch.zeros(1, 4, 2, 2) + 1000):
        with pytest.raises(AssertionError, match="an assertion of the model does not hold"):
            model(refused.double())


def test_one_of_two_that_may_hold_is_not_recorded_as_both(calls):
    class Either(Asserts):
        def forward(self, x):
            assert x.shape[2] > 8 or x.shape[3] > 2
            return self.wide(x) + self.narrow(x)

    model = nn.Sequential(Either()).eval()
    result = repcompiler.compile(model, torch.randn(1, 4, 9, 10))
    assert calls(result) == "Either"
    for shape in ((9, 1), (1, 9)):
        x = torch.randn(1, 4, *shape)
        torch.testing.assert_close(result(x), model(x))
    with pytest.raises(AssertionError):
        result(torch.randn(1, 4, 8, 2))
