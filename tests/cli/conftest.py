"""What the tests of the command line run with, where they ask for it."""

import os
import sys
import types
from pathlib import Path

import pytest
import stand_in

import vqcodec
from vqcodec.cli import options


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The stand-ins, in place of the modules that need torch."""
    zoo = types.SimpleNamespace(
        cards=lambda: [stand_in.Card()],
        broken=lambda: [],
        find=stand_in.find,
        default_codec=lambda: os.environ.get("VQCODEC_CODEC", "photo-3"),
        default_rate=lambda card: None,
        recipes=lambda: {"fake-1": Path("recipes/fake-1.toml")},
        for_header=stand_in.for_header,
        load=lambda card, device: card,
        load_decoder=lambda card, device: card,
    )
    both = types.SimpleNamespace(
        compress=stand_in.compress,
        with_quality=stand_in.with_quality,
        Choices=stand_in.Choices,
        decompress=stand_in.decompress,
        decompress_rows=stand_in.decompress_rows,
        ideal_bits=lambda codec, data: [40.5, 99.0],
    )
    parts = {"zoo": zoo, "compress": both, "decompress": both}
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, f"vqcodec.{name}", module)
        monkeypatch.setattr(vqcodec, name, module, raising=False)
    monkeypatch.setattr(options, "use_threads", lambda threads: None)
    return both


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
