"""What is traced whole, what is traced around, and what is refused with a word on what to do."""

import pytest
import torch
from torch import fx, nn
from torch_blocks import Residual, pair

import repcompiler
from repcompiler import ModelError


def test_random_numbers_are_drawn_each_time_and_not_while_tracing(plain):
    class Noise(nn.Module):
        def forward(self, x):
            return x + 1e-30 * torch.randn(1, dtype=torch.float64)

    assert plain(nn.Sequential(*pair(), Noise(), *pair())) == "Conv2d Noise Conv2d"


def test_training_mode_is_refused_naming_eval():
    with pytest.raises(ModelError, match=r"\.eval\(\)"):
        repcompiler.compile(pair().train(), torch.randn(1, 4, 5, 5))


def test_a_norm_in_training_mode_or_without_statistics_stays(exactly, calls):
    still = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert calls(exactly(still)[0]) == "Conv2d BatchNorm2d"
    model = pair().eval()
    model[1].train()
    assert calls(repcompiler.compile(model, torch.randn(2, 4, 5, 5))) == "Conv2d BatchNorm2d"


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize(("where", "what"), [("0.weight", "NaN"), ("0.bias", "NaN"), ("1.running_mean", "NaN")])
def test_weights_that_are_not_finite_are_refused_by_name(where, what, example):
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).eval()
    model.state_dict()[where].view(-1)[1] = float("nan")
    with pytest.raises(ModelError, match=f"'{where.split('.')[0]}' has {what}"):
        repcompiler.compile(model, torch.randn(1, 4, 5, 5) if example else None)


def test_a_norm_by_a_negative_variance_is_refused_by_name():
    model = pair().eval()
    model[1].running_var[2] = -1.0
    with pytest.raises(ModelError, match="'1' normalises by the root"):
        repcompiler.compile(model, torch.randn(1, 4, 5, 5))


def test_hooks_run_as_they_did(exactly, calls):
    seen = []
    model = nn.Sequential(*pair(), nn.ReLU(), *pair()).eval()
    model[3].register_forward_hook(lambda module, args, output: seen.append(len(args)))
    result = repcompiler.compile(model, torch.randn(1, 4, 5, 5))
    assert calls(result) == "Conv2d ReLU Conv2d BatchNorm2d"
    seen.clear()
    result(torch.randn(1, 4, 5, 5))
    assert seen == [1]


def test_hooks_on_the_model_itself_run_as_they_did(calls):
    model = nn.Sequential(Residual()).eval()
    model.register_forward_hook(lambda module, args, output: output + 1)
    x = torch.randn(1, 4, 5, 5)
    result = repcompiler.compile(model, x)
    assert calls(result) == "Sequential Conv2d"
    torch.testing.assert_close(result(x), model(x))


def test_a_forward_replaced_on_the_object_is_what_runs(calls):
    model = nn.Sequential(*pair(), nn.Conv2d(4, 4, 1)).eval()
    model[2].forward = lambda x: x * 2
    x = torch.randn(1, 4, 5, 5)
    result = repcompiler.compile(model, x)
    assert calls(result) == "Conv2d Conv2d"
    torch.testing.assert_close(result(x), model(x))


def test_arguments_with_a_default_and_no_example_keep_it(calls):
    class Options(Residual):
        def forward(self, x, mask=None, scale=False, *rest, **more):
            y = super().forward(x)
            if mask is not None:
                y = y * mask
            return y * 2 if scale else y

    model = Options().eval()
    x = torch.randn(1, 4, 5, 5)
    result = repcompiler.compile(model, x)
    assert calls(result) == "Conv2d"
    torch.testing.assert_close(result(x), model(x))
    masked = repcompiler.compile(model, {"x": x, "mask": torch.rand(1, 1, 5, 5)})
    assert calls(masked) == "Conv2d mul"
    mask = torch.rand(1, 1, 5, 5)
    torch.testing.assert_close(masked(x, mask), model(x, mask))


def test_a_method_chosen_for_forward_is_traced(exactly, calls):
    class Chooses(Residual):
        """As FasterNet's partial convolution."""

        def __init__(self, how):
            super().__init__()
            self.forward = getattr(self, f"forward_{how}")

        def forward_doubled(self, x):
            return (self.wide(x) + self.narrow(x)) * 2

    assert calls(exactly(Chooses("doubled"))[0]) == "Conv2d"
    replaced = Residual()
    replaced.forward = lambda x: -x
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(repcompiler.compile(replaced.eval(), x)(x), -x)


def test_modules_that_a_forward_makes_are_the_functions_they_call(plain):
    class Makes(Residual):
        def forward(self, x):
            return nn.LeakyReLU(0.1)(super().forward(x)) * nn.Softmax(dim=1)(nn.AdaptiveAvgPool2d(1)(x))

    assert plain(Makes()) == "Conv2d leaky_relu adaptive_avg_pool2d softmax mul"


def test_structured_inputs_and_outputs_pass_through(calls):
    class Structured(Residual):
        def forward(self, pair, factor):
            first, second = pair
            return {"sum": super().forward(first) * factor["by"], "rest": [second, None]}

    model = Structured().eval()
    example = ((torch.randn(1, 4, 5, 5), torch.randn(2, 3)), {"by": torch.rand(1)})
    report = repcompiler.Report()
    result = repcompiler.compile(model, example, report=report)
    assert report.verification.checked
    assert calls(result).split().count("Conv2d") == 1
    torch.testing.assert_close(result(*example)["sum"], model(*example)["sum"])


def test_a_graph_module_is_used_as_it_is(exactly, calls):
    graph = fx.symbolic_trace(nn.Sequential(Residual(), nn.ReLU()).eval())
    assert calls(exactly(graph)[0]) == "Conv2d ReLU"


def test_leaves_of_a_graph_module_are_traced(plain):
    class Leaves(fx.Tracer):
        def is_leaf_module(self, m, module_qualified_name):
            return isinstance(m, Residual) or super().is_leaf_module(m, module_qualified_name)

    model = nn.Sequential(Residual(), nn.ReLU()).eval()
    assert plain(fx.GraphModule(model, Leaves().trace(model))) == "Residual ReLU Conv2d"


@pytest.mark.filterwarnings("ignore")
def test_a_program_of_torch_export_is_compiled(same):
    model = nn.Sequential(Residual(), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).double().eval()
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
    result = repcompiler.compile(program, x)
    called = [node.target for node in result.graph.nodes if node.op.startswith("call")]
    assert torch.ops.aten.batch_norm.default not in called
    assert torch.ops.aten.conv2d.default not in called
    same(model(x[:1]), result(x[:1]))


def test_the_model_must_run_on_its_examples():
    with pytest.raises(ModelError, match="does not run on the example inputs"):
        repcompiler.compile(pair().eval(), torch.randn(1, 5, 7, 7))
    with pytest.raises(ModelError, match="do not fit"):
        repcompiler.compile(pair().eval(), (torch.randn(1, 4, 7, 7), torch.randn(1)))


def test_a_trace_that_computes_something_else_is_refused():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.calls = nn.Conv2d(4, 4, 1), [0.0]

        def forward(self, x):
            return self.conv(x) * (2.0 if type(x) is torch.Tensor else 1.0)

    with pytest.raises(ModelError, match=r"something else when torch\.fx traces it"):
        repcompiler.compile(Counts().eval(), torch.randn(1, 4, 7, 7))


def test_tracing_leaves_nothing_on_the_modules():
    class Caches(nn.Module):
        def __init__(self):
            super().__init__()
            self.cache = {}

        def forward(self, x):
            self.cache["x"] = self.last = x
            return x if x.mean() > 100 else -x

    result = repcompiler.compile(nn.Sequential(*pair(), Caches()).eval(), torch.randn(1, 4, 5, 5), verify=False)
    leaf = result.get_submodule("2")
    assert leaf.cache == {}
    assert not hasattr(leaf, "last")


def test_a_model_that_keeps_what_it_computed_with_gradients_can_be_compiled(randomise):
    class Keeps(nn.Module):
        """Of the last run, in a dictionary of its own."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.cache = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), {}

        def forward(self, x):
            self.cache["bias"] = self.conv.bias * 2
            return self.norm(self.conv(x))

    model = randomise(Keeps())
    x = torch.randn(1, 4, 9, 10)
    expected = model(x)
    assert not model.cache["bias"].is_leaf
    torch.testing.assert_close(repcompiler.compile(model, x)(x), expected, rtol=1e-5, atol=1e-5)
