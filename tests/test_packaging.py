"""What is built for a package index: its README, its metadata."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
URL = "https://host.example/owner/vqcodec"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    pytest.importorskip("hatchling", reason="pip install hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def metadata(hook: ModuleType, monkeypatch: pytest.MonkeyPatch, url: str) -> dict:
    monkeypatch.setenv("VQCODEC_URL", url)
    values = {"name": "vqcodec", "version": "1.2.3"}
    hook.Published(str(ROOT), {}).update(values)
    return values


def test_links_of_the_readme_lead_to_the_tag_of_the_release(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = metadata(hook, monkeypatch, URL + "/")
    text = made["readme"]["text"]
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all(target.startswith(("https://", "#")) for target in targets)
    ours = [target.removeprefix(URL) for target in targets if target.startswith(URL)]
    assert len(ours) > 4
    for target in ours:
        kind, tag, path = target.lstrip("/").split("/", 2)
        picture = path.endswith(".png")
        assert tag == "v1.2.3" and kind == ("raw" if picture else "blob"), target
        assert (ROOT / path.partition("#")[0]).is_file(), target
    assert all(url.startswith(URL) for url in made["urls"].values())


def test_without_an_address_nothing_is_invented(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = metadata(hook, monkeypatch, "")
    assert made["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")
    assert "urls" not in made


def test_a_wheel_carries_the_codecs_that_are_named(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def included(names: str) -> dict[str, str]:
        monkeypatch.setenv("VQCODEC_CODECS", names)
        data: dict[str, dict[str, str]] = {"force_include": {}}
        hook.Codecs(str(ROOT), {}, None, None, "", "wheel").initialize("standard", data)
        return data["force_include"]

    assert included("") == {"models": "vqcodec/models", "recipes": "vqcodec/recipes"}
    named = included("photo-2, photo-3")
    assert named == {f"models/photo-{n}": f"vqcodec/models/photo-{n}" for n in (2, 3)}
    with pytest.raises(ValueError, match="there is no folder models/photo-9"):
        included("photo-9")
