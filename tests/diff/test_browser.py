"""The page in a real browser: headless Chromium, driven through selenium (Debian's chromium and chromium-driver)."""

import base64
import json
import os
import re
import shutil
import zlib

import onnx
import pytest

import repcompiler

webdriver = pytest.importorskip("selenium.webdriver")
wait = pytest.importorskip("selenium.webdriver.support.wait")
Keys, WebDriverWait = webdriver.Keys, wait.WebDriverWait
there = all(map(shutil.which, ("chromium", "chromedriver"))) or os.environ.get("BROWSER") == "chromium"
pytestmark = pytest.mark.skipif(not there, reason="chromium and chromium-driver are not installed")


@pytest.fixture
def opened(browser, compiled, tmp_path):
    """A function that opens the page of a compilation: its diff.  Then: no error, no request."""

    def opened(**options):
        diff, _ = compiled(**options)
        diff.to_html(tmp_path / "page.html")
        browser.get((tmp_path / "page.html").as_uri())
        return diff

    yield opened
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("file:", "data:"))} == set()


def css(browser, selector):
    return browser.find_elements("css selector", selector)


def name_of(browser, box):
    """As the page's data has it."""
    return browser.execute_script("return known(arguments[0])[NAME]", box.get_attribute("id"))


def click(browser, name, side):
    """Click the box of this name on one side."""
    [box] = [box for box in css(browser, f".{side} .box") if name_of(browser, box) == name]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    box.click()


def lit(browser, side):
    return {name_of(browser, box) for box in css(browser, f".{side} .box.lit")}


def test_a_click_lights_both_sides_and_tells_the_rules(browser, opened):
    diff = opened(blocks=1)
    [region] = diff.links.regions
    click(browser, "block0/conv3", "before")
    assert lit(browser, "before") == {diff.before.boxes[place].name for place in region.before}
    assert lit(browser, "after") == {"block0/add1"}
    panel = css(browser, "#panel")[0].text
    for rule, count in region.rules.items():
        assert f"{rule} \N{MULTIPLICATION SIGN} {count}" in panel
    assert "(W1 + W2) * x + (b1 + b2)" in panel
    assert diff.report.verification.summary() in panel
    assert len(css(browser, "#panel .kernels svg")) == 4


def test_what_is_the_same_lights_its_pair(browser, opened):
    opened(blocks=1)
    click(browser, "block0/relu", "after")
    assert lit(browser, "before") == lit(browser, "after") == {"block0/relu"}
    assert "Relu" in css(browser, "#panel dd")[0].text


def test_search_finds_names_and_operators_inside_folded_blocks(browser, opened):
    opened(blocks=6)
    [field] = css(browser, "#search")
    field.send_keys("block4/conv")
    assert css(browser, "#found")[0].text == "2 found"
    field.send_keys("\n")
    assert css(browser, "#found")[0].text == "1 of 2"
    assert "block4/conv3" in css(browser, "#node dl")[0].text
    assert all(box.is_displayed() for box in css(browser, ".hit"))
    field.clear()
    field.send_keys("batchnorm")
    assert css(browser, "#found")[0].text == "18 found"


def test_a_page_holds_no_more_for_more_repetitions(browser, opened):
    held = "return document.querySelectorAll('*').length"
    opened(blocks=6)
    few = browser.execute_script(held)
    diff = opened(blocks=60)
    assert browser.execute_script(held) == few
    css(browser, "#search")[0].send_keys("block59/bn3\n")
    assert lit(browser, "before") >= {"block59/bn3"}
    assert lit(browser, "after") == {"block59/add1"}
    assert len(diff.links.regions) == 60


def test_what_is_far_away_is_drawn_when_it_comes_near(browser, opened, monkeypatch):
    monkeypatch.setattr("repcompiler.graphdiff.contents.AT_ONCE", 1)
    opened(blocks=12)
    browser.find_element("tag name", "body").send_keys("o")
    drawn = "return document.querySelectorAll('.box').length"
    WebDriverWait(browser, 10).until(lambda browser: browser.execute_script(drawn) > 10)
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    WebDriverWait(browser, 10).until(lambda browser: browser.execute_script("return at('b' + (data.boxes[0].length - 1))"))
    browser.execute_script("arguments[0].scrollIntoView()", css(browser, ".box")[-1])
    assert css(browser, ".after .box")[-1].is_displayed()


def test_the_legend_leads_to_what_it_names(browser, opened):
    diff = opened(blocks=6)
    rewritten = sum(len(region.before) + len(region.after) for region in diff.links.regions)
    for index in (1, 2):
        css(browser, ".legend .changed")[0].click()
        assert css(browser, "#found")[0].text == f"{index} of {rewritten}"
    assert len(css(browser, ".box.lit")) > 1


def test_keys_go_from_change_to_change_zoom_and_close(browser, opened):
    opened(blocks=3, name="stage{}/{}")
    body = css(browser, "body")[0]
    body.send_keys("n")
    first = css(browser, ".row.current")[0].get_attribute("id")
    body.send_keys("n")
    assert css(browser, ".row.current")[0].get_attribute("id") != first
    assert css(browser, "#found")[0].text == "change 2 of 3"
    width = css(browser, ".row.current svg")[1].size["width"]
    body.send_keys("+")
    assert css(browser, ".row.current svg")[1].size["width"] > 1.2 * width
    css(browser, ".row.current .box.changed")[0].send_keys("\n")
    assert css(browser, "#panel")[0].is_displayed()
    body.send_keys("\ue00c")
    assert not css(browser, "#panel")[0].is_displayed()


HOSTILE = '"><script>document.title="owned"</script><img src=x onerror="document.title=1">{}{}'
STEERING = "line\nbreak \x1b[31mred \N{RIGHT-TO-LEFT OVERRIDE}gpj.exe \N{ZERO WIDTH SPACE}'`${{1}} {} {}"
"""What moves a cursor, colours a terminal, turns the direction of text, or hides."""


def test_a_name_that_is_markup_does_nothing(browser, opened):
    opened(blocks=1, name=HOSTILE)
    click(browser, HOSTILE.format(0, "conv3"), "before")
    assert "owned" not in browser.title
    assert css(browser, "img") == []
    assert HOSTILE.format(0, "conv3") in css(browser, "#panel")[0].text


def test_a_name_that_steers_text_is_spelled_out(browser, opened):
    opened(blocks=1, name=STEERING)
    spelled = "line\\nbreak \\x1b[31mred \\u202egpj.exe \\u200b'`${1} 0 conv3"
    click(browser, spelled, "before")
    assert spelled in css(browser, "#panel")[0].text


def test_a_refused_rewrite_is_marked_and_tells_its_reason(browser, refused, tmp_path):
    report = repcompiler.Report()
    repcompiler.diff(refused, repcompiler.compile(refused, report=report), report=report).to_html(tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    [marked] = css(browser, ".box.stays")
    css(browser, ".legend .stays")[0].click()
    assert css(browser, "#found")[0].text == "1 of 1"
    assert "lit" in marked.get_attribute("class")
    marked.click()
    [reason] = {line.reason for line in report.remaining}
    assert f"why it stays {reason} (merge_sequential_convs)" in css(browser, "#panel .why")[0].text
    assert browser.get_log("browser") == []


def test_where_two_models_part_is_shown_on_demand(browser, blocks, tmp_path):
    path = blocks(blocks=6)
    model = onnx.load(path)
    [kernel] = [tensor for tensor in model.graph.initializer if tensor.name == "block4/w3"]
    kernel.CopyFrom(onnx.numpy_helper.from_array(1.001 * onnx.numpy_helper.to_array(kernel), kernel.name))
    repcompiler.diff(path, model).to_html(tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    css(browser, "[data-go]")[0].click()
    assert lit(browser, "before") == lit(browser, "after") == {"block4/conv3"}
    assert browser.get_log("browser") == []


def test_a_box_is_reached_chosen_and_left_by_keys_alone(browser, opened):
    opened(blocks=1)
    focused = lambda: browser.switch_to.active_element  # noqa: E731
    for _ in range(20):
        focused().send_keys(Keys.TAB)
        if "box changed" in (focused().get_attribute("class") or ""):
            break
    start = name_of(browser, focused())
    assert css(browser, ".box:focus-visible") != []
    focused().send_keys(Keys.ARROW_DOWN)
    assert name_of(browser, focused()) != start
    focused().send_keys(Keys.ARROW_RIGHT)
    assert focused().get_attribute("id")[0] == "a"
    chosen = focused().get_attribute("id")
    focused().send_keys(Keys.ENTER)
    assert css(browser, "#panel")[0].is_displayed()
    focused().send_keys(Keys.ESCAPE)
    assert not css(browser, "#panel")[0].is_displayed()
    assert focused().get_attribute("id") == chosen


CONTRAST = """
const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number).slice(0, 3);
const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = (c) => { const [r, g, b] = c.map(linear); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const style = (e, what) => getComputedStyle(e)[what];
function paper(e) {
  for (; e; e = e.parentElement) {
    const colour = style(e, "backgroundColor");
    if (!/, 0\\)$/.test(colour) && colour !== "transparent") return rgb(colour);
  }
  return [255, 255, 255];
}
const found = [];
function judge(text, ink, under, alpha) {
  const seen = ink.map((c, i) => alpha * c + (1 - alpha) * under[i]);
  const [low, high] = [luminance(seen), luminance(under)].sort((a, b) => a - b);
  found.push([(high + 0.05) / (low + 0.05), text]);
}
for (const e of document.querySelectorAll("h1, h2, h3, h4, p, b, td, th, li, dt, dd, summary, button, small, figcaption, pre"))
  if (e.checkVisibility() && e.textContent.trim()) judge(e.textContent, rgb(style(e, "color")), paper(e), 1);
for (const e of document.querySelectorAll(".box text"))
  judge(e.textContent, rgb(style(e, "fill")), rgb(style(e.parentElement.querySelector("rect"), "fill")), +style(e, "opacity"));
return found.sort((a, b) => a[0] - b[0]);
"""
READABLE = 4.5
"""The least contrast of text and what is behind it (WCAG 2.2, 1.4.3, level AA)."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_readable(browser, opened, scheme):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    opened(blocks=1)
    css(browser, ".box.changed")[0].click()
    least, *others = browser.execute_script(CONTRAST)
    assert len(others) > 20
    assert least[0] >= READABLE, least
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


PAGE_OF_PAPER = {"width": 794, "height": 1123, "deviceScaleFactor": 1, "mobile": False}
"""A4 at 96 dots an inch."""


def test_in_print_nothing_is_cut_and_every_change_is_told(browser, opened):
    diff = opened(blocks=2, name="stage{}/{}")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PAGE_OF_PAPER)
    wide = "return [...arguments].filter((e) => e.getBoundingClientRect().right > innerWidth)"
    assert browser.execute_script(wide, *css(browser, "svg, p, pre, table")) == []
    text = css(browser, "body")[0].text
    assert "(W1 + W2) * x + (b1 + b2)" in text
    assert all(rule in text for region in diff.links.regions for rule in region.rules)
    assert not css(browser, "#search")[0].is_displayed()
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_printed_page_has_text_on_each_of_several_sheets(browser, opened):
    opened(blocks=3, name="stage{}/{}")
    options = {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69}
    content = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])
    sheets = len(re.findall(rb"/Type\s*/Page\b(?!s)", content))
    streams = [
        zlib.decompress(packed)
        for packed in re.findall(rb"/FlateDecode[^>]*>>\s*stream\r?\n(.*?)\r?\nendstream", content, re.S)
    ]
    drawn = [stream for stream in streams if re.search(rb"\bT[jJ]\b", stream)]
    assert sheets >= 2
    assert len(drawn) >= sheets
    assert sum(len(re.findall(rb"T[jJ]\b", stream)) for stream in drawn) > 100 * sheets


def test_without_scripts_the_changes_are_a_list(browser, opened):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    opened(blocks=1)
    text = css(browser, "#regions")[0].text
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "merge_parallel_branches" in text
    assert "block0/conv3" in text


def test_two_files_are_shown_with_what_is_not_certain(browser, blocks, tmp_path):
    first, second = blocks(blocks=1), blocks(blocks=1, seed=1, name="other{}_{}")
    repcompiler.diff(first, second).to_html(tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    assert css(browser, ".verdict.different") != []
    assert browser.get_log("browser") == []
