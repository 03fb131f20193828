"""Headless browsers for the tests of pages. Each skips where there is no such browser."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

COMMANDS = {
    "newSession": "WebDriver:NewSession",
    "setTimeouts": "WebDriver:SetTimeouts",
    "get": "WebDriver:Navigate",
    "w3cExecuteScript": "WebDriver:ExecuteScript",
    "w3cExecuteScriptAsync": "WebDriver:ExecuteAsyncScript",
    "findElement": "WebDriver:FindElement",
    "findElements": "WebDriver:FindElements",
    "clickElement": "WebDriver:ElementClick",
    "getElementText": "WebDriver:GetElementText",
    "quit": "Marionette:Quit",
}


def chromium(*flags: str) -> Any:
    """A driver of selenium, which logs what the console says."""
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


def firefox(profile: Path) -> Any:
    """A driver of selenium; the profile's folder is empty."""
    webdriver = pytest.importorskip("selenium.webdriver")
    firefox = shutil.which("firefox") or shutil.which("firefox-esr")
    if not firefox:
        pytest.skip("no firefox")
    profile.joinpath("user.js").write_text('user_pref("marionette.port", 0);\n')
    command = [firefox, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        options = webdriver.FirefoxOptions()
        return webdriver.Remote(Marionette(process, port(profile)), options=options)
    except BaseException:
        process.kill()
        raise


def port(profile: Path) -> int:
    """That of Marionette, which Firefox chooses and writes down."""
    for _ in range(600):
        prefs = profile / "prefs.js"
        text = prefs.read_text() if prefs.exists() else ""
        if found := re.search(r'"marionette.port", ([1-9]\d*)', text):
            return int(found[1])
        time.sleep(0.1)
    raise TimeoutError("Firefox does not listen")


def webkit() -> Any:
    """A driver of selenium. WebKitGTK needs a screen, which Xvfb is."""
    webdriver = pytest.importorskip("selenium.webdriver")
    driver, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
    if not driver or not screen:
        pytest.skip("no WebKitWebDriver or no Xvfb")
    command = [screen, "-displayfd", "1", "-nolisten", "tcp"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet)
    assert process.stdout is not None
    try:
        display = f":{process.stdout.readline().decode().strip()}"
        service = webdriver.WebKitGTKService(driver, env={**os.environ, "DISPLAY": display})
        options = webdriver.WebKitGTKOptions()
        options.binary_location = str(*Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser"))
        options.add_argument("--automation")
        made = webdriver.WebKitGTK(options=options, service=service)
    except BaseException:
        process.kill()
        raise
    ended = made.quit

    def quit() -> None:
        ended()
        process.terminate()
        process.wait(60)

    made.quit = quit
    return made


class Marionette:
    """What selenium sends its commands to, in place of a driver.

    Firefox speaks Marionette, of which the commands are the same, by other names.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.stream = socket.create_connection(("127.0.0.1", port)).makefile("rwb")
        self._read()  # what it is

    def _read(self) -> Any:
        size = b""
        while (byte := self.stream.read(1)) not in (b":", b""):
            size += byte
        return json.loads(self.stream.read(int(size)))

    def execute(self, command: str, params: dict[str, Any]) -> dict[str, Any]:
        asked = {name: value for name, value in params.items() if name != "sessionId"}
        content = json.dumps([0, 0, COMMANDS[command], asked]).encode()
        self.stream.write(b"%d:%b" % (len(content), content))
        self.stream.flush()
        _, _, error, result = self._read()
        if error:
            return {"status": 500, "value": json.dumps({"value": error})}
        single = isinstance(result, dict) and result.keys() == {"value"}
        return {"value": result["value"] if single else result}

    def close(self) -> None:
        self.stream.close()
        self.process.wait(60)
