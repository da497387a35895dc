"""What cannot be traced is called, and what is inside it is compiled as far as nothing more is done with it than to call it."""

import pytest
import torch
from torch import fx, nn
from torch_blocks import Residual, pair

import repcompiler
from repcompiler import ModelError


class Undecided(nn.Module):
    """Decides in Python on what the tensors hold, and calls its children."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.last = Residual()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        if x.mean() > 100:
            x = -x
        return self.last(x)


def test_what_cannot_be_traced_is_called_and_its_children_are_compiled(plain):
    model = nn.Sequential(*pair(), Undecided(Residual(), Residual()), *pair())
    assert plain(model) == "Conv2d Undecided Conv2d Conv2d Conv2d Conv2d"
    assert plain(model, example=False) == "Conv2d Undecided Conv2d Conv2d Conv2d Conv2d"


def test_a_model_whose_own_forward_cannot_be_traced_is_called_from_a_graph(exactly, calls):
    result, report = exactly(Undecided(Residual()))
    assert isinstance(result, fx.GraphModule)
    assert calls(result) == "Undecided Conv2d Conv2d"
    assert report.verification.checked


def test_untraceable_inside_untraceable_is_opened_too(plain):
    assert plain(Undecided(Undecided(Residual()))).count("Conv2d") == 3


def test_a_shared_child_of_an_untraceable_module_stays_shared(exactly):
    block = Residual()
    result, _ = exactly(nn.Sequential(Undecided(block, block)))
    leaf = result.get_submodule("0")
    assert leaf.blocks[0] is leaf.blocks[1]


def test_a_child_that_its_parent_does_more_with_than_call_is_left(plain):
    class Reads(Undecided):
        def forward(self, x):
            if x.mean() > 100:
                x = x * self.last.wide[0].weight.mean()
            return self.last(x)

    assert plain(nn.Sequential(Reads())) == "Reads"


def test_a_child_that_may_be_none_is_compiled(plain):
    class Optional(Undecided):
        def forward(self, x):
            if x.mean() > 100:
                x = -x
            return x if self.last is None else self.last(x)

    assert plain(nn.Sequential(Optional())) == "Optional Conv2d"


class Counted(Residual):
    """What others may read of it."""

    def __init__(self):
        super().__init__()
        self.limit, self.runs = 100, 0

    def set_limit(self, limit):
        self.limit = limit


class Counting(Counted):
    def forward(self, x):
        self.runs += 1
        return super().forward(x)


class Asks(nn.Module):
    """Reads a number from its child, and has a method, which calling it does not run, that does more."""

    def __init__(self, child):
        super().__init__()
        self.child = child

    def forward(self, x):
        return self.child(x) if x.mean() < self.child.limit else -self.child(x)

    def set_limit(self, limit):
        self.child.set_limit(limit)


class Calls(Asks):
    def forward(self, x):
        self.set_limit(50)
        return super().forward(x)


class Runs(Asks):
    def forward(self, x):
        return self.child(x) * (1 if x.mean() > 100 else self.child.runs)


def test_a_child_that_its_parent_reads_fixed_numbers_from_is_compiled(plain):
    assert plain(nn.Sequential(Asks(Counted()))) == "Asks Conv2d"


@pytest.mark.parametrize("model", [Calls(Counted()), Runs(Counting())])
def test_a_child_whose_numbers_change_is_left(exactly, calls, model):
    assert calls(exactly(nn.Sequential(*pair(), model))[0]) == f"Conv2d {type(model).__name__}"


def test_a_module_that_nothing_in_can_be_traced_is_refused():
    class Never(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match=r"Never cannot be traced.*control flow.*export"):
        repcompiler.compile(Never().eval(), torch.ones(3))
