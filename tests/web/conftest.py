"""What the tests of web/ share: a folder as `make web` makes it, with codecs exported anew."""

import shutil
from pathlib import Path

import pytest

import vqcodec.web

ROOT = Path(__file__).parents[2]
CODECS = "photo-3", "photo-2"
BUILT = "kernel.wasm", "ort"  # by npm


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("site")
    for path in (ROOT / "web").iterdir():
        if path.is_dir() and path.name in BUILT:
            (folder / path.name).symlink_to(path)
        elif path.is_file():
            shutil.copy(path, folder)
    for name in ("codes.js", "check.mjs"):
        shutil.copy(Path(__file__).with_name(name), folder)
    for codec in CODECS:
        vqcodec.web.export_web(codec, folder / "models")
    return folder
