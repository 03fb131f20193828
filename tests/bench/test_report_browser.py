"""The HTML report of ``vqcodec bench`` as it behaves in a browser."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import browsers
import pytest
from bench_sample import HOSTILE, NAMES, REFERENCES, SETTINGS, sample

from vqcodec.bench.report import html

REPORT, PICTURES = sample()
N_PIXELS = 192 * 128
MINUS = "\N{MINUS SIGN}"


class Browser:
    """Chromium on the page; elements are named by CSS selectors."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def js(self, script: str, *args: object) -> Any:
        return self.driver.execute_script(script, *args)

    def find(self, css: str) -> Any:
        element = self.driver.find_element("css selector", css)
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        return element

    def text(self, css: str) -> str:
        return self.js("return document.querySelector(arguments[0]).innerText", css)

    def texts(self, css: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        return self.js(script, css)

    def rows(self, css: str) -> list[list[str]]:
        """The cells of a table's body, row by row."""
        script = """return [...document.querySelectorAll(arguments[0] + ' tbody tr')]
            .filter(row => row.checkVisibility())
            .map(row => [...row.cells].map(cell => cell.innerText))"""
        return self.js(script, css)

    def choose(self, css: str, text: str) -> None:
        from selenium.webdriver.support.select import Select

        Select(self.find(css)).select_by_visible_text(text)

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def actions(self) -> Any:
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver, duration=50)

    def screen(self, width: int, scheme: str = "light", height: int = 900) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        # the plot is drawn anew in the next frame
        self.driver.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    driver = browsers.chromium()
    yield driver
    driver.quit()


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Iterator[Browser]:
    """The sample report on a desktop; fails where the browser's console has anything to say."""
    path = tmp_path / "report.html"
    path.write_text(html(REPORT, PICTURES), encoding="utf-8")
    driver.get(path.as_uri())
    browser = Browser(driver)
    browser.screen(1280)
    yield browser
    assert driver.get_log("browser") == []


def psnr_text(value: float) -> str:
    return f"{value:.2f} dB"


def points(page: Browser) -> dict[tuple[str, str], dict[str, Any]]:
    """What is plotted, by codec and setting: label, and the place in pixels."""
    script = """return [...document.querySelectorAll('#plot .point')].map(p => {
        const at = p.transform.baseVal[0].matrix;
        return [p.dataset.codec, p.dataset.setting,
            {label: p.getAttribute('aria-label'), x: at.e, y: at.f}]})"""
    return {(codec, setting): point for codec, setting, point in page.js(script)}


def check_plot(page: Browser, metric: str, where: int | None, write: Any) -> None:
    """Every point that the report has, and no other, where the axes say."""
    expected = {}
    for codec in SETTINGS:
        source = REPORT["curves"] if where is None else REPORT["images"][where]["points"]
        for point in source[codec]:
            value = point["metrics"][metric]
            if value is not None:
                bpp = point["bpp"] if where is None else 8 * point["bytes"] / N_PIXELS
                expected[codec, point["setting"]] = (bpp, value)
    plotted = points(page)
    assert plotted.keys() == expected.keys()

    def axis(css: str, coordinate: str) -> tuple[float, float, float]:
        script = f"""return [...document.querySelectorAll('{css}')]
            .map(t => [t.textContent, +t.getAttribute('{coordinate}')])"""
        ticks = [(float(text.replace(MINUS, "-")), at) for text, at in page.js(script)]
        if coordinate == "x":
            ticks = [(math.log2(value), at) for value, at in ticks]
        (first, start), (last, end) = ticks[0], ticks[-1]
        return first, start, (end - start) / (last - first)

    x0, x_start, x_scale = axis(".x-tick", "x")
    y0, y_start, y_scale = axis(".y-tick", "y")
    assert y_scale < 0 < x_scale
    for key, (bpp, value) in expected.items():
        assert plotted[key]["label"].endswith(f" {write(value)}")
        assert plotted[key]["x"] == pytest.approx(x_start + x_scale * (math.log2(bpp) - x0), abs=1)
        # the text of a tick stands 4 pixels lower than its line
        y = y_start - 4 + y_scale * (value - y0)
        assert plotted[key]["y"] == pytest.approx(y, abs=0.1)


def test_the_header_names_the_run(page: Browser) -> None:
    assert page.text("#facts") == "2026-11-22 · vqcodec 0.1.0 · 3 images · vqcodec bench kodak"
    assert page.text("#machine").startswith("Example CPU · 2 cores · 1 thread · 23.5 GiB · Debian")
    assert page.driver.title == "vqcodec bench, 2026-11-22"
    loaded = page.js("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert page.rows("#skipped") == [[f"x/{HOSTILE}", "not a picture"]]
    assert page.js("return document.images.length") == 2


def test_the_plot_follows_metric_and_image(page: Browser) -> None:
    check_plot(page, "ssimulacra2", None, lambda value: f"{value:.2f}")
    page.choose("#metric", "PSNR (RGB)")
    check_plot(page, "psnr", None, psnr_text)
    assert page.texts("#y-name") == ["PSNR (RGB), dB"]
    page.choose("#metric", "SSIM")
    assert page.texts("#y-name") == ["SSIM"]
    check_plot(page, "ssim", None, lambda value: f"{value:.4f}")
    page.choose("#metric", "SSIMULACRA 2")  # not one value of WebP
    check_plot(page, "ssimulacra2", None, lambda value: f"{value:.2f}")
    page.choose("#image", NAMES[2])
    page.choose("#metric", "MS-SSIM")
    check_plot(page, "ms_ssim", 2, psnr_text)
    assert ("jpeg", "quality 5") not in points(page)
    page.choose("#image", HOSTILE)  # for which MS-SSIM has no value
    assert "nothing to plot" in page.text("#plot")


def test_a_point_tells_its_value(page: Browser) -> None:
    def tip(codec: str, index: int) -> str:
        point = REPORT["curves"][codec][index]
        label = next(entry["label"] for entry in REPORT["codecs"] if entry["id"] == codec)
        digits = 4 if point["bpp"] < 0.0995 else 3
        lines = [label, point["setting"], f"{point['bpp']:.{digits}f} bpp"]
        return "\n".join([*lines, f"PSNR (RGB) {psnr_text(point['metrics']['psnr'])}"])

    page.choose("#metric", "PSNR (RGB)")
    assert not page.find("#tip").is_displayed()
    webp = page.find("#plot .point[data-codec=webp][data-setting='quality 70']")
    page.actions().move_to_element(webp).perform()
    assert page.text("#tip") == tip("webp", 2)
    page.actions().move_to_element(page.find("h1")).perform()
    assert not page.find("#tip").is_displayed()

    page.js("document.querySelector('#legend li:last-child button').focus()")
    page.press("\ue004")  # tab: to the first point of the first curve
    assert page.text("#tip") == tip("photo-2", 0)
    page.press("\ue014", "\ue014")  # right, right
    assert page.text("#tip") == tip("photo-2", 2)
    page.press("\ue015")  # down: the next curve, where it is nearest
    assert page.text("#tip") == tip("jpeg", 0)
    page.press("\ue00c")  # escape
    assert not page.find("#tip").is_displayed()
    page.press("\ue004")  # one tab leaves the plot
    assert page.js("return document.activeElement.tagName") == "SUMMARY"

    page.screen(375)
    touched = page.find("#plot .point[data-codec=avif][data-setting='quality 60'] .mark")
    touched.click()
    assert page.text("#tip") == tip("avif", 2)


def test_the_legend_toggles_curves(page: Browser) -> None:
    page.choose("#metric", "PSNR (RGB)")
    button = page.find("#legend button[data-codec=jpeg]")
    before = points(page)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert {codec for codec, _ in points(page)} == {"photo-2", "webp", "avif"}
    button.send_keys(" ")
    assert button.get_attribute("aria-pressed") == "true"
    assert points(page) == before


def test_who_wins_stands_first(page: Browser) -> None:
    assert page.texts("#headline p") == [line["text"] for line in REPORT["headline"]]


def test_the_tables_hold_the_numbers_of_the_report(page: Browser) -> None:
    page.choose("#metric", "PSNR (RGB)")
    rows = page.rows("#bd-table")
    assert rows[1] == [
        "WebP",
        f"{MINUS}32.5 %",
        f"{MINUS}29.5 %",
        "25.10 to 33.40 dB",
        f"{MINUS}28.5 %",
        f"{MINUS}31.5 to {MINUS}25.5 %",
        f"{MINUS}29.0 %",
        "3",
    ]
    page.choose("#metric", "SSIM")
    dash = "\N{EN DASH}"
    assert page.rows("#bd-table")[1] == ["WebP", "too small", *[dash] * 4, "0 of 3"]
    assert page.rows("#bd-table")[0][2] == "0.8100 to 0.9612"
    page.choose("#metric", "SSIMULACRA 2")
    assert page.text("#bd-table") == "No BD-rate was computed for SSIMULACRA 2."
    assert page.rows("#panel-table") == [["AVIF", "+38.9 %", "+29.2 %", dash]]
    assert "trained on: MS-SSIM" in page.text("#panel-table")

    ours, jpeg = page.rows("#speed-table")[:2]
    assert ours == ["photo-2", "7bit", "2.40", "3.20", "1.10"]
    assert jpeg == ["JPEG 4:2:0", "quality 50", "60.0", "110", dash]
    assert page.rows("#split-table") == [
        ["photo-2, 7bit, encoding", "60.0", "80.4", "3.25"],
        ["photo-2, 7bit, decoding", "70.0", "50.0", "2.50"],
    ]
    assert page.text("#memory") == "Peak use: 812 MiB of main memory."
    assert page.rows("#codec-table") == [[c["label"], c["settings"]] for c in REPORT["codecs"]]


def test_equal_sizes_are_averaged_where_the_reference_goes_as_low(page: Browser) -> None:
    page.choose("#metric", "PSNR (RGB)")
    matched = [row for row in REPORT["equal_size"] if row["setting"] == "7bit"]
    gains = [
        row["metrics"]["psnr"] - row["references"]["webp"]["metrics"]["psnr"]
        for row in matched
        if not row["references"]["webp"]["too_large"]
    ]
    assert len(gains) == 2
    rows = {row[0]: row[1:] for row in page.rows("#equal-table")}
    assert list(rows) == ["JPEG 4:2:0", "WebP", "AVIF"]
    assert rows["WebP"][1] == f"+{mean(gains):.2f}*"
    assert rows["JPEG 4:2:0"][1] == "none so small"
    n_bytes = round(mean(row["bytes"] for row in matched))
    assert page.texts("#equal-table th small")[1] == f"{n_bytes:,} bytes"
    page.choose("#metric", "SSIM")
    assert page.text("#equal-table") == "At equal size SSIM was not measured."


def split(page: Browser) -> float:
    """How much of the width the left picture has, from what is painted, in percent."""
    clip = page.js("return getComputedStyle(document.querySelector('#left-img')).clipPath")
    found = re.fullmatch(r"inset\(0(?:px|%)? ([\d.]+)% 0(?:px|%)? 0(?:px|%)?\)", clip)
    clipped = float(found[1]) if found else {"inset(0px)": 0.0, "inset(0px 0px)": 0.0}[clip]
    divider = page.js("return document.querySelector('#divider').style.left")
    assert float(divider.rstrip("%")) == pytest.approx(100 - clipped, abs=0.01)
    return 100 - clipped


def test_the_divider_moves_by_keys_and_by_dragging(page: Browser) -> None:
    divider = page.find("#divider")
    assert split(page) == 50
    divider.send_keys("\ue014")  # right
    assert split(page) == 51
    divider.send_keys("\ue012", "\ue012")  # left, left
    assert split(page) == 49
    divider.send_keys("\ue00f")  # page down
    assert split(page) == 39
    assert divider.get_attribute("aria-valuenow") == "39"
    divider.send_keys("\ue010")  # end
    assert split(page) == 100
    divider.send_keys("\ue011")  # home
    assert split(page) == 0

    stage = page.find("#stage")
    width = stage.rect["width"]
    assert width == 192
    actions = page.actions().move_to_element_with_offset(stage, 0, 0).click_and_hold()
    actions.move_by_offset(48, 20).perform()
    assert split(page) == pytest.approx(75, abs=0.6)
    page.actions().move_by_offset(400, 0).release().perform()
    assert split(page) == 100
    page.actions().move_to_element_with_offset(stage, -48, 0).perform()
    assert split(page) == 100  # the button is up
    page.actions().click().perform()
    assert split(page) == pytest.approx(25, abs=0.6)


def check_sides(page: Browser, picture: int, rate: int, left: str, right: str) -> None:
    """The right pictures with their bytes; left, right: original, ours or a reference."""
    shown = PICTURES[picture]["rates"][rate]
    for side, which in (("left", left), ("right", right)):
        text = page.text(f"#{side}-text").replace("\N{NO-BREAK SPACE}", " ")
        if which == "original":
            src = PICTURES[picture]["original"]
            assert text == "Original\n192 × 128 pixels"
        else:
            other = shown if which == "ours" else shown["references"][which]
            src = other["ours"] if which == "ours" else other["src"]
            size = f"{other['bytes']:,} bytes"
            assert f"\n{size}, " in text
            value = other["metrics"]["ssimulacra2"]
            if value is not None:
                assert f"SSIMULACRA 2 {value:.2f}".replace("-", MINUS) in text
            words = "the smallest file that"
            assert (words in text) == other.get("too_large", False)
        img = page.find(f"#{side}-img")
        assert img.get_attribute("src") == src
        assert img.get_attribute("alt").startswith(NAMES[picture])
        page.js("return arguments[0].decode()", img)
        assert img.get_property("naturalWidth") == 192


def test_rate_reference_picture_and_sides_can_be_changed(page: Browser) -> None:
    names = {codec["id"]: codec["label"] for codec in REPORT["codecs"]}
    check_sides(page, 0, 0, "ours", "avif")
    page.choose("#metric", "PSNR (RGB)")
    assert f"PSNR (RGB) {psnr_text(PICTURES[0]['rates'][0]['metrics']['psnr'])}" in page.text(
        "#left-text"
    ).replace("\N{NO-BREAK SPACE}", " ")
    page.choose("#metric", "SSIMULACRA 2")
    page.choose("#reference", "JPEG 4:2:0")
    check_sides(page, 0, 0, "ours", "jpeg")
    assert page.texts("#reference option") == [names[codec] for codec in REFERENCES]
    page.choose("#reference", "AVIF")
    check_sides(page, 0, 0, "ours", "avif")
    page.choose("#rate", page.texts("#rate option")[1])
    check_sides(page, 0, 1, "ours", "avif")
    page.find("#next").click()
    check_sides(page, 1, 1, "ours", "avif")  # rate and reference stay
    page.choose("#reference", "WebP")
    check_sides(page, 1, 1, "ours", "webp")
    page.choose("#picture", NAMES[2])
    check_sides(page, 2, 1, "ours", "webp")
    assert not page.find("#next").is_enabled()
    page.find("#previous").click()
    page.choose("#left", "original")
    check_sides(page, 1, 1, "original", "webp")
    page.choose("#right", "photo-2")
    check_sides(page, 1, 1, "original", "ours")

    page.choose("#zoom", "400 %")
    assert page.find("#stage").rect["width"] == 4 * 192
    page.screen(375)
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    page.choose("#zoom", "fit the page")
    assert page.find("#stage").rect["width"] == 192


def test_a_report_without_pictures_says_so(page: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bare.html"
    empty = ("bd_rate", "equal_size", "speed", "skipped", "headline", "panel")
    report = {**REPORT, **{key: [] for key in empty}}
    path.write_text(html(report, []), encoding="utf-8")
    page.driver.get(path.as_uri())
    assert "This report holds no pictures." in page.text("#pictures")
    assert not page.find("#comparison").is_displayed()
    assert page.text("#equal-table") == "No sizes were matched."
    assert page.text("#speed-table") == "No speeds were measured."
    assert page.text("#skipped") == ""
    assert points(page)


def luminance(colour: str) -> float:
    """The relative luminance of "#rrggbb" as WCAG defines it, 0..1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_screen_and_can_be_read(page: Browser, scheme: str, width: int) -> None:
    page.screen(width, scheme)
    page.js("document.querySelector('details').open = true")
    assert page.js("return innerWidth") == width
    assert page.js("return document.documentElement.scrollWidth") <= width
    assert page.js("return document.querySelector('#plot svg').clientWidth") <= width
    cut = """return [...document.querySelectorAll('.scroll')]
        .filter(box => box.scrollWidth > box.clientWidth).map(box => box.parentElement.id)"""
    assert page.js(cut) == []  # no table is cut off

    def colour(name: str) -> str:
        script = "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0])"
        return page.js(script, f"--{name}").strip()

    assert (luminance(colour("page")) < 0.1) == (scheme == "dark")
    painted = page.js("return getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(part) for part in re.findall(r"\d+", painted))
    assert f"#{red:02x}{green:02x}{blue:02x}" == colour("page")
    for ground in ("page", "panel"):
        names = ["text", "soft", "accent", "good", "bad", "edge", *(f"c{i}" for i in range(8))]
        for name in names:
            low, high = sorted([luminance(colour(name)), luminance(colour(ground))])
            least = 3 if name == "edge" or name.startswith("c") else 4.5
            assert (high + 0.05) / (low + 0.05) >= least, (name, ground)

    # every control has a name
    unnamed = """return [...document.querySelectorAll('select, button, [role=slider]')].filter(e =>
        !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.textContent.trim())"""
    assert page.js(unnamed) == []

    folder = os.environ.get("VQCODEC_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.js("document.querySelector('#plot .point').focus(); scrollTo(0, 0)")
        page.screen(width, scheme, page.js("return document.documentElement.scrollHeight"))
        page.driver.save_screenshot(str(Path(folder) / f"report-{scheme}-{width}.png"))
