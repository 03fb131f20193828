"""The page of web/ in a browser: the same codes and pixels there, and what people see of a file."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import browsers
import numpy as np
import pytest
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden"
HASHES: dict[str, dict[str, str]] = {
    codec: json.loads((GOLDEN / codec / "golden.json").read_text("utf-8"))
    for codec in ("photo-3", "photo-2")
}

# What the script in the page gives back of each file: its codes, and its pixels in base64
DECODE = """
const [codec, names, software, done] = arguments;
(async () => {
  const { decode, ownModels } = await import("./vqcodec.js");
  const { codesHash } = await import("./codes.js");
  const { Synthesis } = await import("./synthesis.js");
  const models = ownModels({ software });
  if (software) [Synthesis.large, Synthesis.slowest] = [0, Infinity];
  const found = {};
  for (const name of names) {
    const [stem, number] = name.split("@");
    const response = await fetch(`golden/${codec}/${stem}.vqc`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const index = number ?? 1;
    const { data, gpu } = await decode(bytes, { models, index });
    const pixels = btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
    found[name] = { codes: await codesHash(models, bytes, index), pixels, gpu };
  }
  return found;
})().then(done, (error) => done({ error: error.stack }));
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Of a server that gives out the page, and the golden files beside it."""
    if not (site / "kernel.wasm").exists():
        pytest.skip("`make web` has not fetched the runtime")
    (site / "golden").symlink_to(GOLDEN)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module", params=["chromium", "firefox", "webkit"])
def driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    needs = [tmp_path_factory.mktemp("profile")] if request.param == "firefox" else []
    driver = getattr(browsers, request.param)(*needs)
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def console(driver: Any) -> Iterator[None]:
    """Fails where Chromium's console has anything to say, as it has of a breach of the policy."""
    if driver.name != "chrome":
        yield
        return
    driver.get_log("browser")
    yield
    said = [line["message"] for line in driver.get_log("browser")]
    # Chromium's own word where there is no WebGPU
    assert [line for line in said if not line.endswith(" - No available adapters.")] == []


def until(driver: Any, holds: Callable[[Any], bool]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 120, 0.1).until(holds)


def wait(driver: Any, state: str) -> None:
    script = "return document.body?.dataset.state"  # it may just be loaded once more
    until(driver, lambda driver: driver.execute_script(script) in (state, "error"))
    assert driver.execute_script(script) == state, about(driver)


def about(driver: Any) -> str:
    return str(driver.find_element("id", "about").text)


def canvas(driver: Any, css: str) -> np.ndarray:
    """The pixels (height, width, 4) of a canvas."""
    script = """const canvas = document.querySelector(arguments[0]);
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.width, canvas.height, Array.from(data)]"""
    width, height, data = driver.execute_script(script, css)
    return np.array(data, np.uint8).reshape(height, width, 4)


@pytest.mark.parametrize("codec", HASHES)
def test_golden_files_decode_in_the_browser(
    codec: str, driver: Any, address: str, console: None
) -> None:
    driver.get(address)
    wait(driver, "ready")
    compare(codec, driver.execute_async_script(DECODE, codec, [*HASHES[codec]], False))


def compare(codec: str, found: dict[str, Any], gpu: bool = False) -> None:
    """With the golden codes and pixels."""
    assert "error" not in found, found["error"]
    for name, one in found.items():
        assert (one["codes"], one["gpu"]) == (HASHES[codec][name], gpu)
        with Image.open(GOLDEN / codec / f"{name}.png") as stored:
            expected = np.asarray(stored.convert("RGBA")).astype(int)
        decoded = np.frombuffer(base64.b64decode(one["pixels"]), np.uint8)
        assert np.abs(decoded.reshape(expected.shape) - expected).max() <= 1


@pytest.mark.slow
def test_webgpu_makes_the_same_pixels(address: str) -> None:
    """By a software that stands for a GPU, which says nothing of speed."""
    flags = "enable-unsafe-webgpu", "use-webgpu-adapter=swiftshader", "enable-features=Vulkan"
    driver = browsers.chromium(*flags)
    try:
        driver.set_script_timeout(100)
        driver.get(address)
        wait(driver, "ready")
        script = "navigator.gpu.requestAdapter().then((found) => arguments[0](found !== null))"
        if not driver.execute_async_script(script):
            pytest.skip("there is no software that stands for a GPU")
        found = driver.execute_async_script(DECODE, "photo-3", ["tail-40x30"], True)
        compare("photo-3", found, gpu=True)
        assert driver.get_log("browser") == []
    finally:
        driver.quit()


def test_a_file_is_shown_coarse_first(driver: Any, address: str, console: None) -> None:
    driver.get(f"{address}?src=golden/photo-3/photo-7.3bit.vqc")
    wait(driver, "done")
    size = (GOLDEN / "photo-3" / "photo-7.3bit.vqc").stat().st_size
    text = about(driver)
    for part in ("96 × 80", f"{size} bytes", "photo-3", "7.301bit", "visual", "level 5 of 5"):
        assert part in text
    seen = [int(n) for n in driver.execute_script("return document.body.dataset.levels").split()]
    assert seen == sorted(seen) and seen[0] < seen[-1] == 5
    with Image.open(GOLDEN / "photo-3" / "photo-7.3bit.png") as stored:
        expected = np.asarray(stored.convert("RGBA")).astype(int)
    assert np.abs(canvas(driver, "#picture") - expected).max() <= 1
    assert driver.execute_script("return crossOriginIsolated")  # by the service worker
    link = driver.find_element("id", "download")
    assert link.get_attribute("download") == "photo-7.3bit.png"


@pytest.mark.parametrize("name", ["photo-icc-exif", "alpha-64x48", "grey-17x9"])
def test_the_png_that_is_saved_has_all(
    name: str, driver: Any, address: str, console: None, tmp_path: Path
) -> None:
    driver.get(f"{address}?src=golden/photo-3/{name}.vqc")
    wait(driver, "done")
    if driver.name != "chrome":
        pytest.skip("Chromium alone is told where to save")
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    driver.find_element("id", "download").click()
    until(driver, lambda driver: (tmp_path / f"{name}.png").exists())
    expected, saved = GOLDEN / "photo-3" / f"{name}.png", tmp_path / f"{name}.png"
    with Image.open(saved) as found, Image.open(expected) as stored:
        assert (found.mode, found.size) == (stored.mode, stored.size)
        assert np.abs(np.asarray(found).astype(int) - np.asarray(stored)).max() <= 1
        assert found.info.get("icc_profile") == stored.info.get("icc_profile")
        described = "the inside of Hagia Sophia" if "exif" in name else None
        assert found.getexif().get(0x010E) == described


def test_an_archive_is_a_contact_sheet(driver: Any, address: str, console: None) -> None:
    driver.get(f"{address}?src=golden/photo-3/archive.vqc")
    wait(driver, "done")
    buttons = driver.find_elements("css selector", "#sheet button")
    assert [button.text for button in buttons] == ["photo", "grey", "alpha"]
    with Image.open(GOLDEN / "photo-3" / "archive@2.png") as stored:
        expected = np.asarray(stored.convert("RGBA")).astype(int)
    assert np.abs(canvas(driver, "#sheet li:nth-child(2) canvas") - expected).max() <= 1
    driver.execute_script("document.body.dataset.state = ''")
    buttons[1].click()
    wait(driver, "done")
    assert "17 × 9 grey" in about(driver)
    assert np.abs(canvas(driver, "#picture") - expected).max() <= 1


def test_what_is_no_file_is_said(driver: Any, address: str, console: None) -> None:
    driver.get(f"{address}?src=golden/photo-3/photo-5bit.png")
    with pytest.raises(AssertionError, match=r"this is not a \.vqc file"):
        wait(driver, "done")
