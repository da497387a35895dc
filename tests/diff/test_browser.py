"""The page in a real browser: headless Chromium, driven through selenium (Debian's chromium and chromium-driver)."""

import json
import os
import shutil

import pytest

import repcompiler

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
there = bool(CHROMIUM and DRIVER) or os.environ.get("BROWSER") == "chromium"
pytestmark = pytest.mark.skipif(not there, reason="chromium and chromium-driver are not installed")


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


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


def test_a_name_that_is_markup_does_nothing(browser, opened):
    opened(blocks=1, name=HOSTILE)
    click(browser, HOSTILE.format(0, "conv3"), "before")
    assert "owned" not in browser.title
    assert css(browser, "img") == []
    assert HOSTILE.format(0, "conv3") in css(browser, "#panel")[0].text


def test_two_files_are_shown_with_what_is_not_certain(browser, blocks, tmp_path):
    first, second = blocks(blocks=1), blocks(blocks=1, seed=1, name="other{}_{}")
    repcompiler.diff(first, second).to_html(tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    assert css(browser, ".verdict.different") != []
    assert browser.get_log("browser") == []
