"""The text of the HTML report of ``vqcodec bench``."""

import json
import math
import re
from html.parser import HTMLParser

import pytest
from bench_sample import HOSTILE, sample

from vqcodec.bench.report import html

REPORT, PICTURES = sample()


class Page(HTMLParser):
    """The elements of a page, and the text of its scripts by their id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self.script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.script = dict(attrs).get("id") or "code" if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self.script:
            self.scripts[self.script] = self.scripts.get(self.script, "") + data


def test_the_data_comes_back() -> None:
    text = html(REPORT, PICTURES)
    data = json.loads(Page(text).scripts["data"])
    assert data == {"report": REPORT, "pictures": PICTURES}
    assert html(*sample()) == text


@pytest.mark.parametrize(
    "name", [HOSTILE, "<!--<script>", "]]>", "\\u003c/*DATA*/", "'\"&lt;\u2028", "\udcff.png"]
)
def test_a_hostile_name_stays_a_string(name: str) -> None:
    clean = Page(html(REPORT, []))
    report = {**REPORT, "command": name, "skipped": [{"path": name, "why": name}]}
    text = html(report, [])
    text.encode("utf-8")
    page = Page(text)
    assert page.elements == clean.elements
    assert page.scripts["code"] == clean.scripts["code"]
    assert "<" not in page.scripts["data"]
    assert json.loads(page.scripts["data"])["report"] == report


def test_an_infinite_psnr_is_written_as_null() -> None:
    report = {**REPORT, "speed": [{"encode_mps": math.inf, "split": (1, math.nan)}]}
    data = json.loads(Page(html(report, [])).scripts["data"])
    assert data["report"]["speed"] == [{"encode_mps": None, "split": [1, None]}]


def test_the_page_refers_to_nothing_outside() -> None:
    text = html(REPORT, [])
    for tag, attributes in Page(text).elements:
        assert "src" not in attributes, tag
        href = attributes.get("href") or "#"
        assert href.startswith("#") or (tag, href) == ("link", "data:,")
    for word in ("url(", "@import", "fetch(", "import(", "XMLHttpRequest", "WebSocket", "//cdn"):
        assert word not in text
    addresses = re.findall(r"\w*https?:[^\s\"']*", text)
    assert addresses == ["http://www.w3.org/2000/svg"]  # a name, which is never loaded
