"""Modules that the fuzzer found something wrong with, as small as it could make them."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler
from repcompiler.frontends import open_document
from repcompiler.probes import nudged


class Applied(nn.Module):
    """A function of the input, and of layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize("verify", [True, False])
def test_layers_made_of_nothing_have_the_type_of_what_they_read(verify, same):
    """Seed 248: a model without a parameter, in double precision."""
    model, x = Applied(lambda _, x: F.relu(x) + x).eval(), torch.randn(2, 4, 5, 6, dtype=torch.float64)
    report = repcompiler.Report()
    result = repcompiler.compile(model, x, objective="plain", verify=verify, report=report)
    assert report.counts()["remove_residual"] == 1
    assert not report.reverted
    same(model(x), result(x))


def test_scale_passes_a_reshape_that_keeps_all_the_last_extents(exactly):
    """Seed 464: to a batch size read from the value, and the extents there are."""
    _, report = exactly(
        Applied(
            lambda m, x: m.conv(m.norm(x).reshape(x.size(0), 4, x.size(2), x.size(3))),
            norm=nn.BatchNorm2d(4),
            conv=nn.Conv2d(4, 3, 1),
        )
    )
    assert sum(report.counts().values()) > 0


def test_rounding_of_a_model_in_double_precision_is_not_taken_for_a_mistake(randomise):
    """Seed 749: it is its own reference; what a norm of small variance makes of its rounding is beyond 32 eps."""
    model = randomise(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())).double()
    model[1].running_var.mul_(1e-12)
    model[1].running_mean.zero_()
    model[1].eps = 0.0
    report = repcompiler.Report()
    repcompiler.compile(model, report=report)
    assert report.counts() == {"fold_batch_norm": 1}
    assert not report.reverted


def test_choice_of_channels_of_a_value_of_unknown_shape_is_left_where_it_cannot_be_checked(same):
    """Seed 10094: without an example, a kernel that does not read all channels may become one behind a selection."""
    model, x = nn.Conv2d(6, 6, 3, padding=1, bias=False), torch.randn(2, 6, 5, 4)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[range(6), [2, 0, 2, 3, 4, 5], 1, 1] = 1.0
    model, x = Applied(lambda m, x: F.conv2d(x + x, m.conv.weight, None, 1, 1), conv=model).double().eval(), x.double()
    result = repcompiler.compile(model, objective="plain")
    same(model(x), result(x))


def test_an_image_that_a_slice_leaves_nothing_of_is_one_without_pixels_afterwards():
    """Seed 21528: two rows are cut off an image of one; then a frame is put around nothing."""
    conv = nn.Conv2d(4, 4, 1)
    model = Applied(lambda m, x: F.pad((m.conv(x) + x)[:, [1, 1, 2, 1]][:, :, 2:], (1, 1, 1, 1)), conv=conv).eval()
    result = repcompiler.compile(model, torch.randn(1, 4, 4, 3), objective="plain")
    for size in ((1, 1), (2, 3), (3, 1), (5, 4)):
        x = torch.randn(2, 4, *size)
        torch.testing.assert_close(result(x), model(x))


def test_what_a_layer_norm_makes_of_rounding_is_known_where_no_input_leads():
    """Seeds 6362, 9719 and 12126, in double precision: numbers that are equal, but for rounding, are told apart by it."""
    model = Applied(lambda m, x: F.layer_norm(m.conv(x) / 3, (7,)), conv=nn.Conv2d(4, 4, 1)).double().eval()
    nn.init.zeros_(model.conv.weight)
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    source = open_document(model, x)
    [feeds] = source.examples()
    [made] = source.run(feeds)
    assert (source.run(nudged(feeds))[0] == made).all()
    [again], [same] = source.run_again(feeds, 0), source.run_again(feeds, 0)
    assert 1e-15 < abs(again - made).max() < 1e-12
    assert (again == same).all()
