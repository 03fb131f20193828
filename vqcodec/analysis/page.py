"""The page of ``vqcodec analyse``: all figures, with what each part shows, in one HTML file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import NamedTuple

from vqcodec.card import Card

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
"""
_STYLE = """figure { margin: 0 0 20px; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
"""


class Part(NamedTuple):
    """Of an analysis."""

    name: str
    text: str  # what it shows, in paragraphs
    figures: Mapping[str, bytes]  # PNG files


def page(card: Card, data: str, parts: Sequence[Part], left_out: Mapping[str, str]) -> str:
    """HTML that loads nothing, not even the figures beside it."""
    style = resources.files("vqcodec.bench").joinpath("page.css").read_text("utf-8")
    title = f"{card.id} on {data}"
    lines = [
        f"{_HEAD}<title>{escape(title)}</title>\n<style>\n{style}{_STYLE}</style>\n</head>\n<body>",
        f"<header>\n<h1>{escape(title)}</h1>",
        f'<p class="soft small">{escape(card.title)}. Numbers are in analysis.json.</p>\n</header>',
        "<main>",
    ]
    for part in parts:
        lines += ["<section>", f"<h2>{escape(_heading(part.name))}</h2>"]
        lines += [f"<p>{escape(' '.join(text.split()))}</p>" for text in part.text.split("\n\n")]
        for name, data_of in part.figures.items():
            url = "data:image/png;base64," + b64encode(data_of).decode()
            lines.append(f'<figure><img src="{url}" alt="{escape(name)}"></figure>')
        lines.append("</section>")
    if left_out:
        lines += ["<section>", "<h2>Left out</h2>", "<ul>"]
        lines += [
            f"<li>{escape(_heading(name))}: {escape(why)}.</li>" for name, why in left_out.items()
        ]
        lines += ["</ul>", "</section>"]
    return "\n".join([*lines, "</main>", "</body>", "</html>", ""])


def _heading(name: str) -> str:
    return name.replace("_", " ").capitalize()
