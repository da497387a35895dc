"""The pictures of docs/graph_diff.md: the report of MobileOne's compilation in headless Chromium, light and dark."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from mobileone import MobileOne, export_training_form, settle_batch_norms
from selenium import webdriver

import repcompiler

IMAGES = Path(__file__).parents[1] / "docs" / "images"
BLOCK = 3
"""Of the rewritten blocks, the one that is shown."""


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        source, page = Path(folder) / "mobileone.onnx", Path(folder) / "report.html"
        export_training_form(settle_batch_norms(MobileOne()), source)
        report = repcompiler.Report()
        plain = repcompiler.compile(source, report=report)
        repcompiler.diff(source, plain, report=report).to_html(page)
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1400,1000"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        browser.get(page.as_uri())
        browser.save_screenshot(str(IMAGES / "report.png"))
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        row = browser.find_elements("css selector", ".row.changed")[BLOCK]
        row.find_element("css selector", ".box").click()
        browser.execute_script("arguments[0].scrollIntoView()", row)
        browser.save_screenshot(str(IMAGES / "region.png"))
        browser.quit()


if __name__ == "__main__":
    main()
