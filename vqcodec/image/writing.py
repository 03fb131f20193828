"""Pictures to files."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from vqcodec.errors import OutputError
from vqcodec.files import Sink, atomic_write
from vqcodec.image.metadata import EXIF_PREFIX, exif_of_tags, fits
from vqcodec.image.opening import line
from vqcodec.image.picture import Picture, Rows

_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pgm": "PGM",
    ".pnm": "PNM",
}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {},  # uncompressed: with libtiff Pillow cannot store EXIF
    "BMP": {},
    "PPM": {},
    "PGM": {},
    "PNM": {},
}
_WITH_ALPHA = {"PNG", "WEBP", "TIFF"}
_WITH_METADATA = {"PNG", "JPEG", "WEBP", "TIFF"}


def format_of(path: Path) -> str:
    """The format that a file's suffix names, for ``write``. Raises OutputError if it names none."""
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise OutputError(
            f"{path}: no format known for this suffix; can write {', '.join(_SUFFIXES)}"
        ) from None


def write(
    picture: Picture,
    target: Path | Sink,
    format: str,
    *,
    quality: int = 95,
    force: bool = False,
) -> tuple[str, ...]:
    """Store as PNG, JPEG (4:4:4), WebP (lossless), TIFF, BMP, PPM, PGM or PNM.

    quality: of JPEG, 1 to 100.

    ICC and EXIF go along, except into BMP and PNM, which cannot carry them: what is left out is
    returned, a line for the user. A path is written atomically, and replaced only with ``force``.

    Raises OutputError for an unknown format, alpha in a format without it, colour in PGM, a
    picture that the format cannot hold (WebP: 16383 pixels a side) and a path that cannot be
    written. Errors of a stream pass through.
    """
    format = format.upper()
    icc, exif, notes = metadata(picture, format)
    im = to_pillow(picture)
    if format in ("PPM", "WEBP"):  # which know no grey
        im = im.convert("RGB" if picture.alpha is None else "RGBA")
    options = dict(_SAVE_OPTIONS[format])
    if format == "JPEG":
        options["quality"] = quality
    if icc:
        options["icc_profile"] = icc
    if exif:
        options["exif"] = exif if format == "TIFF" else EXIF_PREFIX + exif
    buffer = BytesIO()  # TIFF needs to seek, pipes cannot
    try:
        im.save(buffer, format="PPM" if format in ("PGM", "PNM") else format, **options)
    except Exception as error:
        raise OutputError(f"cannot be stored as {format}: {line(error)}") from error
    if isinstance(target, Path):
        with atomic_write(target, force=force) as file:
            file.write(buffer.getbuffer())
    else:
        target.write(buffer.getbuffer())
    return notes


def metadata(
    picture: Picture | Rows, format: str
) -> tuple[bytes | None, bytes | None, tuple[str, ...]]:
    """ICC profile and EXIF as a file of a format can hold them, and what is left out, for the user.

    Raises OutputError for an unknown format, alpha in one without it, and colour in PGM.
    """
    if format not in _SAVE_OPTIONS:
        raise OutputError(f"{format}: unknown format; can write {', '.join(_SAVE_OPTIONS)}")
    if picture.alpha is not None and format not in _WITH_ALPHA:
        raise OutputError(f"{format} cannot store alpha; {', '.join(sorted(_WITH_ALPHA))} can")
    if format == "PGM" and not picture.grey:
        raise OutputError("PGM cannot store colour; PPM can")
    icc, exif = picture.icc, picture.exif
    dropped = []
    if icc and not (format in _WITH_METADATA and fits(icc, picture.grey and format != "WEBP")):
        icc = None
        dropped.append("ICC profile")
    if exif and format not in _WITH_METADATA:
        exif = None
        dropped.append("EXIF")
    if exif and format == "TIFF":  # or its tags would replace the file's own
        try:
            tags = Image.Exif()
            tags.load(exif)
            exif = exif_of_tags(tags)
        except Exception as error:
            raise OutputError(f"cannot be stored as {format}: {line(error)}") from error
    left_out = f"{' and '.join(dropped)} left out: {format} cannot hold that"
    return icc, exif, (left_out,) if dropped else ()


def to_pillow(picture: Picture) -> Image.Image:
    """An image of mode L, LA, RGB or RGBA with icc_profile and exif in its info."""
    im = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        im.putalpha(Image.fromarray(picture.alpha))
    if picture.icc:
        im.info["icc_profile"] = picture.icc
    if picture.exif:
        im.info["exif"] = EXIF_PREFIX + picture.exif
    return im
