"""The examples of docs/ run, and print what the page says."""

import doctest
import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repcompiler.ops import BatchNorm, Conv
from repcompiler.passes import PASSES
from repcompiler.passes.fold_batch_norm_before_conv import fold_batch_norm_before_conv
from repcompiler.rewriter import rewrite
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv

DOCS = Path(__file__).parents[1] / "docs"


def test_examples_of_the_ir_page_print_what_it_says():
    results = doctest.testfile(str(DOCS / "ir.md"), module_relative=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted > 20
    assert results.failed == 0


@pytest.fixture
def page(tmp_path):
    """The Python of docs/writing_a_pass.md as a module: the pass, and its tests behind it."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "writing_a_pass.md").read_text(), re.DOTALL)
    path = tmp_path / "merge_conv_transpose.py"
    path.write_text("\n\n".join(blocks))
    spec = importlib.util.spec_from_file_location("merge_conv_transpose", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_worked_example_of_a_pass_passes_its_own_tests(page):
    page.test_up_sampling_and_mixing_become_one()
    page.test_grouped_kernels_are_refused()
    for arguments in ({"kernel_size": 3}, {"kernel_size": 1, "padding": 1}, {"kernel_size": 1, "stride": 2}):
        page.test_second_that_sees_other_pixels_is_refused(arguments)


def test_pass_that_is_wrong_at_the_border_hears_what_the_page_says():
    @rewrite(Conv.of(BatchNorm.of("x", name="norm"), name="conv"))
    def ignore_the_border(x, norm, conv):
        inside = fold_batch_norm_before_conv.result(x, norm, replace(conv, padding=((0, 0), (0, 0))))
        return replace(inside.op, padding=conv.padding)(x)

    rng = np.random.default_rng(0)
    norm, conv = random_batch_norm(rng, 8), random_conv(rng, 8, 4, 3, padding=1)
    graph = build(lambda x: conv(norm(x)), x=(None, 8, None, None))
    [shown] = re.findall(r"```text\n(.*?)\n```", (DOCS / "writing_a_pass.md").read_text(), re.DOTALL)
    with pytest.raises(AssertionError, match=re.escape(shown).replace(re.escape("..."), ".*")):
        check_pass(ignore_the_border, graph)


def test_page_on_passes_shows_a_pass_as_it_is():
    shown = re.search(r"    @as_convolution.*?\n\n", (DOCS / "writing_a_pass.md").read_text(), re.DOTALL).group()
    source = (Path(__file__).parents[1] / "passes" / "average_pool_to_conv.py").read_text()
    assert re.sub(r"^    ", "", shown, flags=re.MULTILINE).strip() in source


def test_every_pass_states_its_equation_and_its_condition():
    for rule in PASSES:
        assert re.search(r"^    .*=.*|^    .*->.*", rule.doc, re.MULTILINE), rule.name
        assert re.search(r"[Ee]xact", rule.doc), rule.name


def test_pages_link_to_files_that_exist():
    for page in ("ir.md", "writing_a_pass.md"):
        for target in re.findall(r"\]\((\.\./[^)]*)\)", (DOCS / page).read_text()):
            assert (DOCS / target).exists(), target
