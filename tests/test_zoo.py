"""The sweep over the zoo: a network's row says what was done, a network that fails is one row, and the page counts them."""

import json
from collections import Counter

import pytest
import zoo_measure
import zoo_sweep
from zoo_families import Entry, build, families, names
from zoo_page import page

MINIATURES = ("test_resnet", "test_convnext")
"""timm's own miniatures: residual, and layer-scaled."""


@pytest.fixture(scope="module", params=MINIATURES)
def row(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo_measure, "ROUNDS", (2, 2))
        return measured(request.param, tmp_path_factory.mktemp(request.param))


def measured(name, folder):
    parts = {"source": "timm", "family": "test/test", "name": name}
    for part in zoo_measure.stages("timm", name, folder):
        parts |= part
    return json.loads(json.dumps(parts))


def test_network_goes_through_both_frontends(row):
    assert row["errors"] == {}
    for kind in ("torch", "onnx"):
        assert row[kind]["verified"]
        assert row[kind]["reverted"] == []
        assert row[kind]["macs"][1] <= row[kind]["macs"][0]
        assert row["differences"][kind] < 1e-5
        assert row["counts"][kind]["BatchNormalization"] == 0
        assert row["counts"][kind]["nodes"] <= row["counts"]["source"]["nodes"]


def test_timm_converts_what_it_knows():
    assert zoo_measure.timm_converts(build("timm", "test_resnet")) is None
    converted = zoo_measure.timm_converts(build("timm", "repghostnet_050"))
    assert len(list(converted.modules())) < len(list(build("timm", "repghostnet_050").modules()))


def test_statistics_and_constants_are_as_after_training():
    model, shape = zoo_measure.as_trained("timm", "test_convnext")
    assert shape == (1, 3, 160, 160)
    for parameter in model.parameters():
        assert parameter.std(correction=0) > 0
    model, _ = zoo_measure.as_trained("timm", "test_resnet")
    gammas = [module.weight for module in model.modules() if hasattr(module, "running_var")]
    assert gammas
    assert all(min(gamma) < 0 < max(gamma) for gamma in gammas if len(gamma) > 8)


def test_every_network_has_a_family_and_miniatures_do_not():
    known = names()
    assert known["timm", "repvgg_a0"] == "byobnet/repvgg"
    assert known["torchvision", "r3d_18"] == "video.resnet/r"
    assert not any(name.startswith("test_") for _, name in known)


def test_smallest_of_a_family_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr("zoo_families.SIZES", tmp_path / "sizes.json")
    entries = families(["repghost"])
    assert [(entry.family, entry.name) for entry in entries] == [("repghost/repghostnet", "repghostnet_050")]
    stored = json.loads((tmp_path / "sizes.json").read_text())["sizes"]
    assert entries[0].parameters == min(stored.values())
    assert families(networks=["alexnet"])[0].source == "torchvision"


def test_process_that_fails_or_hangs_is_one_row():
    failed = zoo_sweep.measure(Entry("timm", "none/none", "no_such_network", 0), seconds=120)
    assert "no_such_network" in failed["errors"]["process"]
    late = zoo_sweep.measure(Entry("timm", "byobnet/repvgg", "repvgg_a0", 0), seconds=0.1)
    assert late["errors"]["process"].startswith("not done after")


def part(**changes):
    return {
        "seconds": 1.0, "parameters": [9e6, 8e6], "macs": [2e9, 1e9], "rewrites": {"merge": 3}, "reverted": [],
        "verified": True, "deviation": 2e-7, "rounding": 3e-7, "reasons": {"it would cost more": 2}, **changes,
    }  # fmt: skip


def counted(nodes, conv, norm, add):
    return {"nodes": nodes, "Conv": conv, "BatchNormalization": norm, "Add": add}


GOOD = {
    "source": "timm", "family": "a/a", "name": "good", "versions": {"repcompiler": "1a", "torch": "2"},
    "torch": part(), "onnx": part(), "counts": {"source": counted(9, 4, 4, 1), "torch": counted(4, 4, 0, 0),
    "onnx": counted(4, 4, 0, 0), "timm": counted(5, 4, 1, 0)}, "differences": {"torch": 1e-7, "onnx": 1e-7},
    "latency": {"milliseconds": 5.0, "again": 1.01, "torch": 0.8, "onnx": 0.81, "timm": 0.9}, "errors": {},
}  # fmt: skip

CASES = {
    "wrong": {"errors": {"onnx": "wrong: the result differs"}, "onnx": {}},
    "wrong ": {"onnx": part(reverted=[{"rule": "merge", "root": "y"}])},
    "wrong  ": {"differences": {"torch": float("nan"), "onnx": 1e-7}},
    "crashed or did not end": {"errors": {"torch": "KeyError: 'x' (KeyError, fx.py:3)"}, "torch": {}},
    "crashed or did not end ": {"errors": {"process": "not done after 300 s"}, "latency": {}},
    "slower than the source, over noise": {"latency": {**GOOD["latency"], "torch": 1.05, "onnx": 1.02, "timm": 1.2}},
    "of these, behind timm": {"counts": {**GOOD["counts"], "timm": counted(3, 3, 0, 0)}},
    "of these, behind timm ": {"latency": {**GOOD["latency"], "timm": 0.7}},
    "not compared as a whole, each rewrite by itself": {"onnx": part(verified=None, deviation=None, rounding=None)},
    "other tools failed (export, onnxruntime, timm)": {"errors": {"export": "no such operator"}, "onnx": {}},
}


def verdicts(text):
    lines = (line[2:].split(": **") for line in text.splitlines() if line.startswith("* ") and ": **" in line)
    return Counter({title: int(count.split("**")[0]) for title, count in lines})


@pytest.mark.parametrize("verdict", CASES)
def test_page_counts_a_network_under_its_verdict_alone(verdict):
    text = page([GOOD, {**GOOD, "name": "other", **CASES[verdict]}], "a machine")
    found = verdicts(text)
    assert found["networks"] == 2
    assert found["timm's own conversion changes something"] == 2
    neutral = ("networks", "timm's own conversion changes something")
    assert {title for title, count in found.items() if count and title not in neutral} == {verdict.strip()}
    assert "    * timm other: " in text


def test_page_shows_the_figures():
    text = page([GOOD], "a machine")
    left, speed = (line for line in text.splitlines() if line.startswith("| good"))
    assert left == ("| good (a) | 4 / 4 / 1 | 4 / 0 / 0 | 4 / 0 / 0 | 4 / 1 / 0 | 9 -> 4 | 9.0 -> 8.0 | 2000.0 -> 1000.0 |")
    assert speed == ("| good | 5.0 ms | 0.80x | 0.81x | 0.90x | 2.0e-07 (3.0e-07) | 2.0e-07 (3.0e-07) | 3 / 3 | 1 / 1 |")
    assert "| it would cost more | 1 | 2 | good |" in text
