"""The diff of a compilation says what its log says: which part became which, by which rule, and how sure that is."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

import repcompiler
from repcompiler.passes import PASSES


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][1].get("type") == "application/json" and data.strip():
            self.data = json.loads(data)
        else:
            self.words.append(data)

    def boxes(self):
        """The boxes that are drawn, with the name that the page's data gives them."""
        drawn = [attributes for _, attributes in self.elements if "data-link" in attributes]
        names = {
            f"{side}{place}": box[0]
            for side, boxes in zip("ba", self.data["boxes"], strict=True)
            for place, box in enumerate(boxes)
        }
        return [{**attributes, "data-name": names[attributes["id"]]} for attributes in drawn]

    @property
    def text(self):
        return " ".join(self.words)


def names(drawing, places):
    return {drawing.boxes[place].name for place in places}


def test_a_block_becomes_the_convolution_that_took_its_last_name(compiled):
    diff, _ = compiled(blocks=1)
    [region] = diff.links.regions
    assert names(diff.before, region.before) == {
        f"block0/{part}" for part in ("conv3", "conv1", "bn3", "bn1", "bn0", "add0", "add1")
    }
    assert names(diff.after, region.after) == {"block0/add1"}
    assert [diff.before.boxes[pair.before].name for pair in diff.links.pairs] == ["x", "block0/relu"]


def test_each_rewrite_of_the_log_is_told_once(compiled):
    diff, report = compiled(blocks=3)
    told = [step for region in diff.links.regions for step in region.steps]
    assert len(told) == len(report.steps)
    assert {id(step) for step in told} == {id(step) for step in report.steps}


def test_what_the_log_removed_is_in_the_region_of_its_rewrite(compiled):
    diff, _ = compiled(blocks=3)
    for region in diff.links.regions:
        mentioned = {name for step in region.steps for name, _ in step.removed}
        assert names(diff.before, region.before) <= mentioned


def test_the_page_links_each_box_to_its_counterpart(compiled):
    diff, _ = compiled(blocks=2)
    boxes = Page(diff.to_html()).boxes()
    assert len(boxes) == len(diff.before.boxes) + len(diff.after.boxes)
    for index, region in enumerate(diff.links.regions):
        linked = {box["data-name"] for box in boxes if box["data-link"] == f"r{index}"}
        assert linked == names(diff.before, region.before) | names(diff.after, region.after)


def test_the_page_tells_every_rule_with_its_equation(compiled):
    diff, report = compiled(blocks=1)
    text = Page(diff.to_html()).text
    for rule in PASSES:
        if rule.name in report.counts():
            assert rule.name in text
            assert rule.doc.splitlines()[0] in text
    assert report.verification.summary() in text
    assert all(what in text for what, _, _ in report.rows()[-5:])


def test_a_block_that_repeats_is_folded(compiled):
    diff, _ = compiled(blocks=6)
    text = Page(diff.to_html()).text
    assert "the same 5 times more" in text


DATA = {"type": "application/json", "id": "data"}
"""A script that is none: browsers do not run this type."""
HOSTILE = '"><script>document.title="owned"</script><img src=x onerror=alert({})>{}'


def test_a_name_that_is_markup_is_text(compiled):
    diff, _ = compiled(blocks=2, name=HOSTILE)
    page = Page(diff.to_html())
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [DATA, {}]
    assert "img" not in {tag for tag, _ in page.elements}
    assert not [attributes for _, attributes in page.elements if "onerror" in attributes]
    assert HOSTILE.format(0, "relu") in {box["data-name"] for box in page.boxes()}


def test_a_name_that_is_markup_is_text_in_a_picture_a_graph_and_a_notebook(compiled):
    diff, _ = compiled(blocks=1, name=HOSTILE)
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(diff.to_svg()).iter()}
    assert tags == {"svg", "style", "g", "rect", "text", "path"}
    frames = Page(diff._repr_html_()).elements
    assert [tag for tag, _ in frames] == ["iframe"]
    assert frames[0][1]["srcdoc"] == diff.to_html()
    assert all(line.count('"') % 2 == 0 for line in diff.to_dot().replace('\\"', "").splitlines())


def test_a_name_that_steers_a_terminal_is_spelled_out_wherever_people_read(compiled):
    diff, _ = compiled(blocks=1, name="\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}\n{}{}")
    assert all(line.isprintable() for line in diff.to_text().split("\n"))
    spelled = {text.text for text in ElementTree.fromstring(diff.to_svg()).iter("{http://www.w3.org/2000/svg}text")}
    assert "\\x1b[31m\\u202e\\n0relu" in spelled
    assert "\x1b" not in diff.to_html()


def test_a_page_asks_for_nothing_and_runs_its_own_script_alone(compiled):
    diff, _ = compiled(blocks=1)
    page = Page(diff.to_html())
    assert not [attributes for _, attributes in page.elements if {"src", "href"} & attributes.keys()]
    [policy] = [a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "script-src 'unsafe-inline'" not in policy


def test_the_branches_kernels_add_up_to_the_merged_one(compiled):
    diff, _ = compiled(blocks=1)
    [region] = diff.links.regions
    *branches, merged = diff.kernels(region)
    assert [kernel.words for kernel in branches] == ["3x3 conv, batch norm", "1x1 conv, batch norm", "identity, batch norm"]
    assert merged.words == "their sum: the new kernel"
    np.testing.assert_allclose(sum(np.array(kernel.taps) for kernel in branches), merged.taps, atol=1e-6)
    assert np.count_nonzero(branches[1].taps) == np.count_nonzero(branches[2].taps) == 1


@pytest.mark.parametrize("form", ["to_html", "to_svg", "to_text", "to_json", "to_dot"])
def test_every_form_is_the_same_twice_and_names_the_result(compiled, form):
    diff, _ = compiled(blocks=2)
    text = getattr(diff, form)()
    assert text == getattr(diff, form)()
    assert "block1/add1" in text


def test_node_data_names_nodes_as_the_viewer_does_and_says_what_became_of_them(blocks):
    model = onnx.load(blocks(blocks=1))
    model.graph.node[-1].name = "the relu"
    report = repcompiler.Report()
    diff = repcompiler.diff(model, repcompiler.compile(model, report=report), report=report)
    data = json.loads(diff.to_model_explorer())
    assert data.keys() == {"name", "results"}
    assert {name: node["value"] for name, node in data["results"].items()} == {
        "<node_0>": "changed: fold_batch_norm, merge_parallel_branches",
        "the relu": "same",
    }
    assert data == json.loads(diff.to_model_explorer())


STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@pytest.mark.parametrize("name", [HOSTILE, "back\\slash\\", "line\nbreak", '"', "\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}"])
def test_outside_of_its_strings_a_graphviz_file_has_nothing_of_a_model(compiled, name):
    diff, _ = compiled(blocks=1, name=f"{name}{{}}{{}}" if "{" not in name else name)
    plain = STRING.sub("", diff.to_dot())
    assert re.fullmatch(r"[\w\s{}\[\];=,>-]*", plain)
    assert all(text.isprintable() for text in STRING.findall(diff.to_dot()))
    assert json.loads(diff.to_json())["before"]["boxes"][-1]["name"] == diff.before.boxes[-1].name
