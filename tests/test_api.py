"""What the library's functions take: every kind of source, and a sentence for all else."""

import mmap
import os
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vqcodec
from vqcodec import zoo
from vqcodec.errors import InputError, UsageError

RATE = "5bit"


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def vqc(pixels: np.ndarray) -> bytes:
    return vqcodec.encode(pixels, RATE, device="cpu")


class Named:
    """A path that is no Path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


class NamedInBytes(Named):
    """As the entries of ``os.scandir(b".")``."""

    def __fspath__(self) -> bytes:  # type: ignore[override]
        return os.fsencode(self.path)


SOURCES: dict[str, Callable[[Path], Any]] = {
    "a name": str,
    "a Path": Path,
    "a path": Named,
    "a path of bytes": lambda path: NamedInBytes(path),
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: BytesIO(path.read_bytes()),
    "a file": lambda path: path.open("rb"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_files_are_taken_in_every_form(kind: str, png: bytes, vqc: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "a.vqc").write_bytes(vqc)
    assert vqcodec.encode(SOURCES[kind](tmp_path / "a.png"), RATE, device="cpu") == vqc
    assert vqcodec.decode(SOURCES[kind](tmp_path / "a.vqc"), device="cpu").size == (40, 24)
    archive = tmp_path / "set.vqc"
    sources = [SOURCES[kind](tmp_path / "a.png")]
    archive.write_bytes(vqcodec.encode_many(sources, RATE, device="cpu"))
    assert [im.size for im in vqcodec.decode_many(SOURCES[kind](archive), device="cpu")] == [
        (40, 24)
    ]
    assert vqcodec.decode(SOURCES[kind](archive), index=1, device="cpu").size == (40, 24)


def test_arrays_and_images_are_taken_with_all_their_channels(pixels: np.ndarray) -> None:
    alpha = np.arange(24 * 40).reshape(24, 40, 1).astype(np.uint8)
    grey = pixels[..., :1]
    for array, mode in (
        (grey, "L"),
        (grey[..., 0], "L"),
        (np.concatenate([grey, alpha], 2), "LA"),
        (pixels, "RGB"),
        (np.concatenate([pixels, alpha], 2), "RGBA"),
    ):
        made = vqcodec.encode(array, RATE, device="cpu")
        back = vqcodec.decode(made, device="cpu")
        assert back.mode == mode
        if mode.endswith("A"):
            assert np.array_equal(np.array(back)[..., -1:], alpha)
        if array.ndim == 2 or array.shape[2] > 1:
            assert vqcodec.encode(Image.fromarray(array), RATE, device="cpu") == made


def test_16_bits_of_an_array_are_scaled(pixels: np.ndarray) -> None:
    deep = vqcodec.decode(vqcodec.encode(pixels.astype(np.uint16) * 257, RATE, device="cpu"))
    assert np.array_equal(
        np.array(deep), np.array(vqcodec.decode(vqcodec.encode(pixels, RATE, device="cpu")))
    )


@pytest.mark.parametrize(
    "source",
    [
        None,
        7,
        1.5,
        ["a.png"],
        StringIO("text"),
        np.zeros((4, 4), np.float32),
        np.zeros(4, np.uint8),
    ],
)
def test_all_else_is_told_what_is_taken(source: object) -> None:
    with pytest.raises(UsageError, match=r"uint8|bytes of an image file"):
        vqcodec.encode(source, RATE)
    if not isinstance(source, np.ndarray):
        with pytest.raises(UsageError, match="its bytes, a path or a binary file"):
            vqcodec.decode(source)


def test_a_file_that_is_closed_or_for_writing_is_told_what_is_taken(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        for make in (vqcodec.encode, vqcodec.decode, vqcodec.info, vqcodec.decode_many):
            with pytest.raises(UsageError, match=r"binary file.*not _io\.BufferedWriter"):
                make(file)
    for make in (vqcodec.encode, vqcodec.decode, vqcodec.info, vqcodec.decode_many):
        with pytest.raises(UsageError, match=r"binary file.*not one that is closed"):
            make(file)


def test_options_that_are_of_no_use_are_told_what_is_taken(vqc: bytes, pixels: np.ndarray) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("region is x, y, width and height", {"region": (0, 0, 5)}),
        ("region is x, y, width and height", {"region": (0.0, 0, 5, 5)}),
        ("region is x, y, width and height", {"region": 5}),
        ("levels are a whole number", {"levels": 0}),
        ("levels are a whole number", {"levels": "1"}),
        ("index is a whole number", {"index": "0"}),
        ("device is auto, cpu or cuda", {"device": "tpu"}),
        ("codec is an id or the path", {"codec": 5}),
        ("max_pixels is a number", {"max_pixels": "9"}),
    ]
    for told, options in wrong:
        with pytest.raises(UsageError, match=told):
            vqcodec.decode(vqc, **options)
    with pytest.raises(UsageError, match="codec is an id or the path"):
        vqcodec.load_codec(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="max_pixels is a number"):
        vqcodec.encode(pixels, RATE, max_pixels="9")  # type: ignore[arg-type]
    part = vqcodec.decode(vqc, region=np.array([0, 0, 5, 4]))  # type: ignore[arg-type]
    assert part.size == (5, 4)
    for sources in ("a.png", b"a", Path("a.png"), 7, Image.fromarray(pixels)):
        with pytest.raises(UsageError, match="a list of them"):
            vqcodec.encode_many(sources, RATE)  # type: ignore[arg-type]
    made = vqcodec.encode_many((picture for picture in [pixels, pixels]), RATE)
    assert len(vqcodec.decode_many(made)) == 2


def test_maps_of_memory_and_other_byte_orders_are_taken(
    pixels: np.ndarray, png: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png)
    with open(tmp_path / "a.png", "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert vqcodec.encode(mapped, RATE) == vqcodec.encode(png, RATE)
        mapped.close()
    deep = pixels.astype(np.uint16) * 257
    assert vqcodec.encode(deep.astype(">u2"), RATE) == vqcodec.encode(deep.astype("<u2"), RATE)


def test_a_missing_file_is_named() -> None:
    for work in (vqcodec.encode, vqcodec.decode, vqcodec.decode_many):
        for name in ("missing.vqc", "missing.vqc\0"):
            with pytest.raises(InputError, match=r"missing\.vqc.*no such file"):
                work(Path(name))


def test_a_number_is_a_quality_unless_it_may_be_bits(pixels: np.ndarray) -> None:
    for rate in (30, 30.0, np.float32(30), np.int64(30)):
        assert vqcodec.api._rate(rate, zoo.find()) == "30q"
    for rate in (9, 7.5, True, [8], b"8bit"):
        with pytest.raises(UsageError, match="rate"):
            vqcodec.encode(pixels, rate)  # type: ignore[arg-type]


def test_the_environment_names_the_rate_and_the_codec(
    pixels: np.ndarray, vqc: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQCODEC_RATE", RATE)
    assert vqcodec.encode(pixels, device="cpu") == vqc
    monkeypatch.setenv("VQCODEC_CODEC", "photo-1")
    other = vqcodec.encode(pixels, device="cpu")
    assert other == vqcodec.encode(pixels, RATE, codec="photo-1", device="cpu") != vqc
    assert vqcodec.decode(vqc, device="cpu").size == (40, 24)  # by the codec that the file names
    monkeypatch.setenv("VQCODEC_RATE", "8bts")
    with pytest.raises(vqcodec.VqcodecError, match=r"VQCODEC_RATE: .*8bit"):
        vqcodec.encode(pixels, device="cpu")
