"""Pillow opens and saves .vqc files."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_files import ALPHA, GREY, ORIENTATION, PIXELS, RGB_ICC, exif_with, icc_for, stored
from PIL import Image, UnidentifiedImageError

from vqcodec import api, container, image, pillow
from vqcodec.boxes import boxes_of
from vqcodec.container import Container, Header
from vqcodec.errors import FormatError, RateError, UsageError
from vqcodec.image import Picture

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/">'
    b'<a tiff:Orientation="6"/></x:xmpmeta>'
)


@pytest.mark.parametrize("alpha", [None, ALPHA], ids=["opaque", "alpha"])
@pytest.mark.parametrize("pixels", [PIXELS, GREY], ids=["rgb", "grey"])
def test_pillow_and_back(pixels: np.ndarray, alpha: np.ndarray | None) -> None:
    icc = icc_for(b"GRAY") if pixels.ndim == 2 else RGB_ICC
    im = image.to_pillow(Picture(pixels, alpha, icc, exif_with(None)[6:]))
    assert im.mode == ("L" if pixels.ndim == 2 else "RGB") + ("A" if alpha is not None else "")
    again = image.from_pillow(im)
    assert np.array_equal(again.pixels, pixels)
    assert alpha is again.alpha is None or np.array_equal(again.alpha, alpha)  # type: ignore[arg-type]
    assert (again.icc, again.exif) == (icc, exif_with(None)[6:])


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The plugin with a codec that stores nothing but the size; says how it was called."""
    calls: dict[str, object] = {}

    def encode(
        picture: Picture, rate: str, codec: str | None, device: str, **options: object
    ) -> bytes:
        calls.update(picture=picture, rate=rate, codec=codec, device=device)
        if rate == "0dB":
            raise RateError("no such rate")
        header = Header(1, b"hash", picture.width, picture.height, 8, picture.grey)
        return container.write(Container(header, (b"section",), boxes_of(picture)))

    def decode(data: bytes) -> Picture:
        calls["decoded"] = True
        if "decode" in calls:
            raise FormatError("bad codes")
        header, boxes = container.read(data).header, container.read(data).boxes
        pixels = np.full((header.height, header.width, 3), 77, np.uint8)
        alpha = pixels[..., 0] if any(box.type == "ALPH" for box in boxes) else None
        return Picture(pixels[..., 0] if header.grey else pixels, alpha)

    monkeypatch.setattr(api, "encode_picture", encode)
    monkeypatch.setattr(api, "decode_picture", decode)
    pillow.register()
    pillow.register()  # twice does no harm
    return calls


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pillow_saves_and_opens_vqc(tmp_path: Path, plugin: dict[str, object], mode: str) -> None:
    path = tmp_path / "a.vqc"
    Image.new(mode, (7, 5)).save(path)
    assert [plugin[k] for k in ("rate", "codec", "device")] == [None, None, "cpu"]
    with Image.open(path) as im:
        assert (im.format, im.mode, im.size) == ("VQC", mode, (7, 5))
        assert im.get_format_mimetype() == "image/x-vqc"
        assert "decoded" not in plugin, "opening is lazy"
        assert im.getpixel((0, 0)) == (77 if mode == "L" else (77,) * len(mode))
        assert im.rotate(90, expand=True).size == (5, 7)


def test_pillow_hands_on_options_icc_and_exif(plugin: dict[str, object]) -> None:
    im = Image.fromarray(PIXELS)
    im.info.update(icc_profile=RGB_ICC, exif=exif_with(6), xmp=XMP, dpi=(300, 300))
    data = stored(im, "VQC", rate="34dB", codec="photo-2", device="cuda")
    assert [plugin[k] for k in ("rate", "codec", "device")] == ["34dB", "photo-2", "cuda"]
    again = Image.open(io.BytesIO(data))
    assert again.info == {"icc_profile": RGB_ICC}, "the rest may be of other pixels by now"
    given = {"exif": exif_with(None, "Other"), "xmp": XMP, "dpi": (300, 150)}
    again = Image.open(io.BytesIO(stored(im, "VQC", icc_profile=None, **given)))
    assert again.getexif()[0x010F] == "Other" and again.info["dpi"] == (300, 150)
    assert again.info["xmp"] == XMP.replace(b'Orientation="6"', b'Orientation="1"')
    assert "icc_profile" not in again.info


@pytest.mark.parametrize("turned", [False, True])
def test_pillow_saves_the_pixels_as_they_are_in_memory(
    plugin: dict[str, object], turned: bool
) -> None:
    """As its own plugins do; and no tag is left that would turn them when they are read."""
    with Image.open(io.BytesIO(stored(Image.fromarray(PIXELS), "PNG", exif=exif_with(6)))) as im:
        saved = im.transpose(Image.Transpose.ROTATE_270) if turned else im
        data = stored(saved, "VQC", exif=im.info["exif"])
        assert np.array_equal(plugin["picture"].pixels, np.array(saved))  # type: ignore[attr-defined]
    again = Image.open(io.BytesIO(data))
    assert again.size == saved.size
    assert again.getexif()[0x010F] == "Camera" and ORIENTATION not in again.getexif()


def test_an_image_as_it_was_opened_is_turned_and_one_in_memory_is_not() -> None:
    im = Image.open(io.BytesIO(stored(Image.fromarray(PIXELS), "PNG", exif=exif_with(6))))
    assert np.array_equal(image.from_pillow(im).pixels, np.rot90(PIXELS, -1))
    turned = im.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(image.from_pillow(turned).pixels, np.rot90(PIXELS, -1))


def test_a_crop_carries_no_metadata_of_the_whole(plugin: dict[str, object]) -> None:
    im = Image.open(io.BytesIO(stored(Image.fromarray(PIXELS), "JPEG", exif=exif_with(1))))
    again = Image.open(io.BytesIO(stored(im.crop((0, 0, 3, 3)), "VQC")))
    assert "exif" not in again.info and "xmp" not in again.info


def test_pillow_meets_broken_vqc_files_as_it_expects(plugin: dict[str, object]) -> None:
    data = stored(Image.fromarray(PIXELS), "VQC")
    with pytest.raises(OSError, match=r"ends early"):
        Image.open(io.BytesIO(data[:-8]))
    with pytest.raises(OSError, match=r"unknown version"):
        Image.open(io.BytesIO(b"VQC9" + data[4:]))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"junk" * 9))
    plugin["decode"] = "fails"
    with pytest.raises(OSError, match=r"bad codes"):
        Image.open(io.BytesIO(data)).load()


def test_pillow_removes_the_file_of_a_failed_save(
    tmp_path: Path, plugin: dict[str, object]
) -> None:
    with pytest.raises(RateError):
        Image.fromarray(PIXELS).save(tmp_path / "a.vqc", rate="0dB")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given", [{"icc_profile": "sRGB"}, {"exif": 5}, {"xmp": 5}, {"dpi": "72"}, {"dpi": (1, 2, 3)}]
)
def test_metadata_of_another_type_is_told_what_is_taken(
    plugin: dict[str, object], given: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match=rf"^{next(iter(given))}= takes "):
        stored(Image.fromarray(PIXELS), "VQC", **given)
    assert "picture" not in plugin


def test_metadata_may_be_of_any_type_of_bytes(plugin: dict[str, object]) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Other"
    data = stored(
        Image.fromarray(PIXELS), "VQC",
        icc_profile=bytearray(RGB_ICC), exif=exif, xmp=XMP.decode(), dpi=[72, 96],
    )  # fmt: skip
    again = Image.open(io.BytesIO(data))
    assert again.info["icc_profile"] == RGB_ICC and again.getexif()[0x010F] == "Other"
    assert again.info["dpi"] == (72, 96) and b'Orientation="1"' in again.info["xmp"]


ALPHA_FILE = Path(__file__).parent / "golden" / "photo-3" / "alpha-64x48.vqc"


@pytest.mark.parametrize("module", ["imageio.v2", "imageio.v3", "skimage.io", "matplotlib.image"])
def test_what_reads_by_pillow_reads_vqc_too(module: str) -> None:
    reader = pytest.importorskip(module)
    pixels = reader.imread(ALPHA_FILE)
    assert np.array_equal(pixels, np.asarray(Image.open(ALPHA_FILE)))


def test_a_line_in_the_installation_serves_programs_that_never_heard_of_us(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import vqcodec")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    code = f"from PIL import Image; assert Image.open({str(ALPHA_FILE)!r}).size == (64, 48)"
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
