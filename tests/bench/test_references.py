"""Reference encoders: their files are what they say, and what fails says why in one line."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin, features

from vqcodec.bench import references
from vqcodec.bench.references import available, external
from vqcodec.errors import ImageError, InputError
from vqcodec.metrics.psnr import psnr_db

PHOTO = np.array(Image.open(Path(__file__).parents[1] / "data" / "photo.png").convert("RGB"))
PART = PHOTO[60:156, 100:260]  # (96, 160, 3)
ORDER = ["jpeg", "jpeg-444", "jpeg-progressive", "webp", "avif", "avif-psnr", "jpeg2000", "jxl"]
FOUND = available()

MAGIC = {
    "jpeg": b"\xff\xd8\xff",
    "jpeg-444": b"\xff\xd8\xff",
    "jpeg-progressive": b"\xff\xd8\xff",
    "webp": b"RIFF",
    "avif": b"\0\0\0\x20ftypavif",
    "avif-psnr": b"\0\0\0\x20ftypavif",
    "jpeg2000": b"\0\0\0\x0cjP  \r\n\x87\n",  # .jp2, not a bare codestream
    "jxl": b"\xff\x0a",
}
MIME = {
    "jpeg": "image/jpeg",
    "jpeg-444": "image/jpeg",
    "jpeg-progressive": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "avif-psnr": "image/avif",
    "jpeg2000": None,
    "jxl": None,
}
each = pytest.mark.parametrize("name", list(FOUND))


def sentence(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert text and "\n" not in text and not text.endswith("."), text
    return text


def test_ids_and_order() -> None:
    assert list(FOUND) == [name for name in ORDER if name in FOUND]
    assert [reference.id for reference in FOUND.values()] == list(FOUND)
    assert {"jpeg", "webp"} <= set(FOUND)  # in every wheel of Pillow


@each
def test_reference(name: str) -> None:
    reference = FOUND[name]
    middle = reference.ladder[len(reference.ladder) // 2]
    data = reference.encode(PART, middle)
    assert data.startswith(MAGIC[name])
    assert reference.mime == MIME[name]
    decoded = reference.decode(data)
    assert decoded.shape == PART.shape and decoded.dtype == np.uint8
    assert decoded.flags.writeable and decoded.flags.c_contiguous
    assert psnr_db(PART, decoded) > 22
    assert reference.encode(PART, middle) == data
    assert reference.settings.startswith("Pillow ") and "None" not in reference.settings


@each
def test_ladder_goes_from_the_smallest_file_to_the_best_picture(name: str) -> None:
    reference = FOUND[name]
    assert 12 <= len(reference.ladder) <= 16
    files = [reference.encode(PART, quality) for quality in reference.ladder]
    sizes = [len(data) for data in files]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 8 * sizes[0]
    worst, best = (psnr_db(PART, reference.decode(files[i])) for i in (0, -1))
    assert worst < 26 and best > 34


@each
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (17, 1), (33, 40)])
def test_any_size(name: str, shape: tuple[int, int]) -> None:
    pixels = PHOTO[: shape[0], : shape[1]]
    reference = FOUND[name]
    for quality in (reference.ladder[0], reference.ladder[-1]):
        assert reference.decode(reference.encode(pixels, quality)).shape == pixels.shape


def test_setting_names() -> None:
    assert FOUND["jpeg"].setting_name(40) == "quality 40"
    if "jpeg2000" in FOUND:
        assert FOUND["jpeg2000"].setting_name(24) == "rate 24:1"


@pytest.mark.parametrize(
    ("name", "sampling", "progressive"),
    [("jpeg", 2, False), ("jpeg-444", 0, False), ("jpeg-progressive", 2, True)],
)
def test_jpeg_options(name: str, sampling: int, progressive: bool) -> None:
    with Image.open(io.BytesIO(FOUND[name].encode(PART, 50))) as image:
        assert JpegImagePlugin.get_sampling(image) == sampling  # 0: 4:4:4, 2: 4:2:0
        assert bool(image.info.get("progressive")) == progressive
    plain = io.BytesIO()
    Image.fromarray(PART).save(plain, "JPEG", quality=50, subsampling=sampling)
    assert len(FOUND[name].encode(PART, 50)) < len(plain.getvalue())


@pytest.mark.skipif("jpeg2000" not in FOUND, reason="this Pillow has no JPEG 2000")
def test_jpeg2000_keeps_to_its_rate() -> None:
    for rate in (12, 30):
        size = len(FOUND["jpeg2000"].encode(PHOTO, rate))
        assert 0.95 * PHOTO.size / rate < size < 1.02 * PHOTO.size / rate


def test_only_what_is_installed_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    assert "jxl" not in available()
    monkeypatch.setattr(features, "check", lambda feature: feature == "webp")
    assert list(available()) == ["webp"]


def test_a_picture_that_the_format_cannot_hold() -> None:
    with pytest.raises(ImageError) as error:
        FOUND["webp"].encode(np.zeros((1, 16384, 3), np.uint8), 50)
    assert sentence(error).startswith("WEBP cannot hold 16384 x 1 pixels: ")


@each
def test_damaged_files(name: str) -> None:
    for data in (b"", b"junk", FOUND[name].encode(PART, FOUND[name].ladder[3])[:40]):
        with pytest.raises(ImageError) as error:
            FOUND[name].decode(data)
        assert sentence(error).startswith("not a sound ")


# External tools: scripts that put their command line before the input file, and take it off again.
TOOLS = {
    "cjxl": 'line="$*"; [ "$1" = --version ] && echo "cjxl v0.11.2 [AVX2]" && exit\n'
    '{ echo "$line"; cat "$1"; } > "$2"',
    "djxl": 'tail -n +2 "$1" > "$2"',
    "avifenc": 'line="$*"\n[ "$1" = --version ] && echo "Version: 1.2.1 (aom [enc/dec]:v3.12.1)" '
    '&& exit\n[ "$1" = --help ] && echo "-q,--qcolor Q" && exit\nshift 10\n'
    '{ echo "$line"; cat "$1"; } > "$2"',
    "avifdec": 'tail -n +2 "$1" > "$2"',
    "cjpeg": '[ "$1" = -version ] && echo "mozjpeg version 4.1.5 (build 2024)" >&2 && exit\n'
    '{ echo "$*"; cat "$7"; } > "$6"',
    "djpeg": 'tail -n +2 "$4" > "$3"',
}
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """PATH holds nothing but what this writes: tools by name, as lines of a shell script."""
    if os.name == "nt":
        pytest.skip("the tools here are shell scripts")
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(**scripts: str) -> None:
        for name, script in scripts.items():
            tool = tmp_path / name
            tool.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
            tool.chmod(0o755)

    return write


def test_no_tools_no_references(install: Install) -> None:
    assert external() == {}
    install(cjxl=TOOLS["cjxl"], avifdec=TOOLS["avifdec"], cjpeg=TOOLS["cjpeg"])
    assert external() == {}  # each lacks its other half


@pytest.mark.parametrize(
    ("name", "settings", "mime", "command"),
    [
        ("cjxl", "cjxl v0.11.2, effort 7", None, "-d 5.5 -e 7 --num_threads=0"),
        (
            "avifenc",
            "avifenc 1.2.1, libaom 3.12.1, 4:4:4, speed 6",
            "image/avif",
            "-c aom -q 40 -s 6 -y 444 -j 1",
        ),
        (
            "mozjpeg",
            "mozjpeg version 4.1.5 (build 2024), 4:2:0, progressive",
            "image/jpeg",
            "-quality 40 -sample 2x2",
        ),
    ],
)
def test_external_tools(
    install: Install, name: str, settings: str, mime: str | None, command: str
) -> None:
    install(**TOOLS)
    found = external()
    assert list(found) == ["cjxl", "avifenc", "mozjpeg"]
    reference = found[name]
    assert (reference.id, reference.settings, reference.mime) == (name, settings, mime)
    data = reference.encode(PART, 40)
    words = [word for word in data.split(b"\n")[0].decode().split() if "/" not in word]
    assert " ".join(words).removesuffix(" -outfile") == command
    assert np.array_equal(reference.decode(data), PART)
    assert reference.setting_name(40) == "quality 40"


def test_distances_of_jpeg_xl() -> None:
    """libjxl: 1 is quality 90, and the lowest quality is the largest distance, 25."""
    assert [references._distance(q) for q in (90, 30, 0)] == [1.0, 6.4, 25.0]
    ladder = [references._distance(q) for q in references._JXL_QUALITIES]
    assert ladder == sorted(ladder, reverse=True)


def test_tools_that_will_not_do_are_not_offered(install: Install) -> None:
    install(**TOOLS)
    install(
        avifenc='[ "$1" = --version ] && echo "Version: 0.11.1 (aom [enc/dec]:v3.6.0)"',
        cjpeg='echo "libjpeg-turbo version 2.1.5 (build 20230203)" >&2',
        cjxl='echo "cannot open shared object file" >&2; exit 127',
    )
    assert external() == {}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            'echo Reading >&2; echo "Setting frame distance failed." >&2; exit 3',
            "cjxl failed with code 3: Setting frame distance failed",
        ),
        ("exit 1", "cjxl failed with code 1: it said nothing"),
        ("exit 0", "cjxl wrote no file"),
        ("exec sleep 9", "cjxl took longer than 0.3 s"),
    ],
)
def test_tools_that_fail(
    install: Install, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    install(**TOOLS)
    install(cjxl=f'[ "$1" = --version ] && echo "cjxl v1" && exit\n{script}')
    monkeypatch.setattr(references, "_TIMEOUT", 0.3)
    with pytest.raises(InputError) as error:
        external()["cjxl"].encode(PART, 50)
    assert sentence(error) == message


def test_tools_that_vanish_or_write_junk(install: Install, tmp_path: Path) -> None:
    install(**TOOLS)
    reference = external()["cjxl"]
    with pytest.raises(ImageError, match="not a sound PNG file"):
        reference.decode(b"one line\nand no picture")
    (tmp_path / "cjxl").unlink()
    with pytest.raises(InputError, match="cjxl cannot be run: "):
        reference.encode(PART, 50)
