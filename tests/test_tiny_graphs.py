"""Each tiny graph comes out in its plainest exact form, and computes the same."""

import onnx
import pytest
import tiny_coverage
from tables import nodes
from tiny_graphs import CASES, model

import repcompiler


@pytest.mark.parametrize("law", CASES)
def test_law_is_taken(law):
    outcome = tiny_coverage.outcome(tiny_coverage.TOOLS["repc"], CASES[law])
    assert outcome is not None
    assert outcome.taken(CASES[law]), outcome.cell(CASES[law])


@pytest.mark.parametrize("law", CASES)
def test_result_computes_the_same_whatever_pays(law):
    report = repcompiler.Report()
    onnx.checker.check_model(repcompiler.compile(model(CASES[law]), report=report), full_check=True)
    assert report.verification.checked
    assert report.verification.equal
    assert not report.reverted, "a rewrite was wrong, and was taken back"


@pytest.mark.parametrize("law", CASES)
def test_a_graph_is_not_in_its_exact_form_yet(law):
    case = CASES[law]
    source = model(case)
    assert nodes(source) > case.nodes if case.numbers is None else tiny_coverage.numbers(source) > case.numbers


def test_page_counts_what_its_rows_say():
    head, *rows = [line for line in tiny_coverage.PAGE.read_text().splitlines() if line.startswith("| ")]
    tools = head.strip("| ").split(" | ")[3:]
    cells = {row.strip("| ").split(" | ")[0]: row.strip("| ").split(" | ")[-len(tools) :] for row in rows}
    assert list(cells)[3:] == list(CASES)
    for index, _ in enumerate(tools):
        verdicts = [cells[law][index] for law in CASES]
        assert cells["taken"][index] == str(sum(verdict.startswith("taken") for verdict in verdicts))
