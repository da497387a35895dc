"""Random networks of fixed seeds through the compiler, and a few that the fuzzer's own parts are held against."""

import numpy as np
import pytest
import torch
from fuzz_check import Unfit, judge
from fuzz_graphs import plan
from fuzz_network import network
from fuzz_onnx import model
from fuzz_plans import Plan, Step
from fuzz_settings import Settings, feeds, settings
from fuzz_shrink import minimal
from fuzz_torch import trace

from repcompiler.algebra import scale_outputs
from repcompiler.passes import fold_batch_norm
from repcompiler.runtime import session

SEEDS, PARTS = 120, 8


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("part", range(PARTS))
def test_random_networks_come_out_right(part):
    for seed in range(part, SEEDS, PARTS):
        assert not judge(plan(seed), settings(seed)).findings, f"python examples/fuzz.py --seed {seed}"


def test_seed_alone_gives_the_network():
    assert str(plan(7)) == str(plan(7))
    assert str(plan(7)) != str(plan(8))


@pytest.mark.parametrize("seed", range(6))
def test_both_forms_of_a_plan_are_the_same_network(seed):
    drawn = plan(seed)
    sample = feeds(drawn, seed)[0]
    truth = trace(drawn, sample)
    source = model(drawn, [tuple(value.shape) for value in truth], 20)
    results = session(source.SerializeToString()).run(None, {f"x{index}": array for index, array in enumerate(sample)})
    with torch.no_grad():
        outputs = network(drawn)(*(torch.from_numpy(array).double() for array in sample))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for result, output, value in zip(results, outputs, drawn.outputs, strict=True):
        np.testing.assert_allclose(output, truth[value], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(result, truth[value], rtol=1e-3, atol=1e-3)


WEIGHT = np.random.default_rng(0).normal(size=(4, 4, 1, 1))
BLOCK = Plan(
    ((2, 4, 5, 6),),
    (
        Step("activation", (0,), {"name": "relu", "style": 1}),
        Step("conv", (1,), {"weight": WEIGHT, "bias": None, "stride": (1, 1), "pads": ((0, 0), (0, 0)),
                            "dilation": (1, 1), "groups": 1, "style": 1}),
        Step("batch_norm", (2,), {"gamma": np.arange(1.0, 5.0), "beta": np.ones(4), "mean": np.zeros(4), "var": np.ones(4),
                                  "eps": 0.0, "rank": 4, "style": 1}),
        Step("activation", (3,), {"name": "abs", "style": 1}),
    ),
    (4,),
)  # fmt: skip


@pytest.mark.parametrize("form", ["onnx", "torch"])
@pytest.mark.parametrize("verify", [True, False])
def test_wrong_rewrite_is_found_and_its_network_made_small(monkeypatch, form, verify):
    how = Settings(form, "plain", verify, seed=1)
    assert judge(BLOCK, how).findings == []

    def wrong(op, t, s):
        return scale_outputs(op, t, 1.01 * s)

    monkeypatch.setitem(fold_batch_norm.result.__globals__, "scale_outputs", wrong)
    assert {kind for kind, _ in judge(BLOCK, how).findings} == {"wrong"}
    smaller, _ = minimal(BLOCK, how, "wrong")
    assert [step.kind for step in smaller.steps] == ["conv", "batch_norm"]


def test_plan_that_does_not_run_is_no_finding():
    too_large = Plan(BLOCK.inputs, (Step("reshape", (0,), {"shape": (7, 11)}),), (1,))
    with pytest.raises(Unfit):
        judge(too_large, settings(0))
