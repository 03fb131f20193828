"""A headless Chromium for the tests of pages."""

import shutil
from typing import Any

import pytest


def started(*flags: str) -> Any:
    """A driver of selenium, which logs what the console says. Skips where there is no browser."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium or no chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = flags or ("disable-gpu",)
    for name in ("headless=new", "no-sandbox", "disable-dev-shm-usage", *flags):
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
