"""Pictures to files."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, TiffTags

from vqcodec.errors import OutputError
from vqcodec.files import WRITTEN, Sink, atomic_write
from vqcodec.image import metadata
from vqcodec.image.metadata import EXIF_PREFIX, Resolution
from vqcodec.image.opening import line
from vqcodec.image.picture import Picture, Rows

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
# The longest that JPEG can hold: a segment has 65533 bytes, of an ICC profile there are 255
_MOST_EXIF, _MOST_XMP, _MOST_ICC = 65533 - 6, 65533 - 29, 255 * (65533 - 14)
_DENSITIES = {"JPEG": 1.0, "BMP": 0.0254, "PNG": 0.0254}  # whole numbers of this, per inch
_MOST_DENSITY = {"JPEG": 65535, "BMP": (1 << 31) / 40, "PNG": (1 << 31) / 40}  # per inch


def format_of(path: Path) -> str:
    """The format that a file's suffix names, for ``write``. Raises OutputError if it names none."""
    try:
        return WRITTEN[path.suffix.lower()]
    except KeyError:
        raise OutputError(
            f"{path}: no format known for this suffix; can write {', '.join(WRITTEN)}"
        ) from None


def check_holds(format: str, *, alpha: bool, grey: bool) -> None:
    """Raises OutputError for an unknown format, alpha in one without it, colour in PGM."""
    if format not in _SAVE_OPTIONS:
        raise OutputError(f"{format}: unknown format; can write {', '.join(_SAVE_OPTIONS)}")
    if alpha and format not in _WITH_ALPHA:
        with_alpha = ", ".join(sorted(_WITH_ALPHA))
        raise OutputError(
            f"{format} cannot store alpha; {with_alpha} can, "
            "and --background puts a colour behind the picture"
        )
    if format == "PGM" and not grey:
        raise OutputError("PGM cannot store colour; PPM can")


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

    ICC, EXIF, XMP and resolution go along where the format can hold them: what is left out is
    returned, a line each for the user. A path is written atomically, and replaced only with
    ``force``.

    Raises OutputError for an unknown format, alpha in a format without it, colour in PGM, a
    picture that the format cannot hold (WebP: 16383 pixels a side) and a path that cannot be
    written. Errors of a stream pass through.
    """
    format = format.upper()
    kept = Kept.of(picture, format)
    im = to_pillow(picture)
    if format in ("PPM", "WEBP"):  # which know no grey
        im = im.convert("RGB" if picture.alpha is None else "RGBA")
    options = dict(_SAVE_OPTIONS[format])
    if format == "JPEG":
        options["quality"] = quality
    buffer, kept = _saved(im, "PPM" if format in ("PGM", "PNM") else format, kept, options)
    if isinstance(target, Path):
        with atomic_write(target, force=force) as file:
            file.write(buffer.getbuffer())
    else:
        target.write(buffer.getbuffer())
    return kept.notes


def _saved(
    im: Image.Image, format: str, kept: "Kept", options: dict[str, Any]
) -> tuple[BytesIO, "Kept"]:
    """The file, and what of the metadata is in it: none decides about the pixels."""
    failure: Exception | None = None
    for some in kept.ever_less():
        buffer = BytesIO()  # TIFF needs to seek, pipes cannot
        try:
            im.save(buffer, format=format, **options, **some.options(format))
        except Exception as error:  # of which Pillow's writers have many kinds
            failure = failure or error
        else:
            return buffer, some
    assert failure is not None
    raise OutputError(f"cannot be stored as {format}: {line(failure)}") from failure


@dataclass(frozen=True)
class Kept:
    """Metadata as a file of a format can hold it, and what is left out."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    resolution: Resolution | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, picture: Picture | Rows, format: str) -> "Kept":
        """Raises as ``check_holds``."""
        check_holds(format, alpha=picture.alpha is not None, grey=picture.grey)
        kept = cls(picture.icc, picture.exif, picture.xmp, picture.resolution)
        if kept.resolution is None and kept.exif:
            kept = replace(kept, resolution=metadata.resolution_of_exif(kept.exif))
        return kept._in(format, picture.grey)

    def _in(self, format: str, grey: bool) -> "Kept":
        out: list[str] = []  # what is left out
        notes: list[str] = []
        icc, exif, xmp, resolution = self.icc, self.exif, self.xmp, self.resolution
        holds = format in _WITH_METADATA
        is_jpeg = format == "JPEG"
        if icc and not (
            holds
            and metadata.fits(icc, grey and format != "WEBP")
            and not (is_jpeg and len(icc) > _MOST_ICC)
        ):
            icc = None
            out.append("ICC profile")
        if exif and is_jpeg and len(exif) > _MOST_EXIF:
            exif = metadata.without_thumbnail(exif)
            if len(exif) <= _MOST_EXIF:
                notes.append("EXIF thumbnail left out, so that JPEG can hold the rest")
        if exif and not (holds and not (is_jpeg and len(exif) > _MOST_EXIF)):
            exif = None
            out.append(f"EXIF of {len(self.exif or b'')} bytes" if holds else "EXIF")
        if exif and format == "TIFF":  # or its tags would replace the file's own
            exif, said = _exif_for_tiff(exif)
            notes += said
        if xmp and (not holds or (is_jpeg and len(xmp) > _MOST_XMP) or not _is_text(xmp)):
            xmp = None
            out.append("XMP")
        if resolution and format == "WEBP":
            if exif is None:
                exif = _exif_of_resolution(resolution)
            elif metadata.resolution_of_exif(exif) != resolution:
                out.append("resolution")
            resolution = None
        elif resolution and not (
            (holds or format == "BMP")
            and max(resolution) <= _MOST_DENSITY.get(format, 4e6)
            and (min(resolution) >= 0.5 or format == "TIFF")
        ):
            resolution = None
            out.append("resolution")
        step = _DENSITIES.get(format)
        if resolution and step and any(_off(v, step) > 0.002 for v in resolution):
            notes.append(f"resolution rounded: {format} holds whole numbers of it")
        if out:
            notes.insert(0, f"{_listed(out)} left out: {format} cannot hold that")
        return Kept(icc, exif, xmp, resolution, tuple(notes))

    def ever_less(self) -> Iterator["Kept"]:
        """This, then the same without what a writer may have refused, all of it at last."""
        yield self
        for name, word in (("exif", "EXIF"), ("xmp", "XMP"), ("icc", "ICC profile")):
            if getattr(self, name):
                note = f"{word} left out: it cannot be stored"
                yield replace(self, **{name: None}, notes=(*self.notes, note))
        if self.exif or self.xmp or self.icc or self.resolution:
            yield Kept(notes=(*self.notes, "all metadata left out: it cannot be stored"))

    def options(self, format: str) -> dict[str, Any]:
        """For Pillow's ``save``."""
        given: dict[str, Any] = {}
        if self.icc:
            given["icc_profile"] = self.icc
        if format == "TIFF":
            given["tiffinfo"] = self.tiff_tags()
        elif self.exif:
            given["exif"] = EXIF_PREFIX + self.exif
        if self.resolution:
            given["dpi"] = self.resolution
        if self.xmp and format == "PNG":
            given["pnginfo"] = PngImagePlugin.PngInfo()
            given["pnginfo"].add_itxt("XML:com.adobe.xmp", self.xmp.decode("utf-8"))
        elif self.xmp and format != "TIFF":
            given["xmp"] = self.xmp
        return given

    def tiff_tags(self) -> TiffImagePlugin.ImageFileDirectory_v2:
        """EXIF and XMP as tags of a TIFF."""
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        if self.exif:
            described = Image.Exif()
            described.load(self.exif)
            for tag in described:
                group = tag in TiffTags.TAGS_V2_GROUPS
                tags[tag] = metadata.inner(described, tag) if group else described[tag]
        if self.xmp:
            tags.tagtype[TiffImagePlugin.XMP] = TiffTags.BYTE
            tags[TiffImagePlugin.XMP] = self.xmp
        return tags


def _off(value: float, step: float) -> float:
    """By what share a number changes that is stored as a whole number of steps."""
    return abs(max(1, round(value / step)) * step / value - 1)


def _is_text(packet: bytes) -> bool:
    try:
        packet.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in packet


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _exif_for_tiff(exif: bytes) -> tuple[bytes | None, list[str]]:
    """Those of its tags that a TIFF can hold beside its own, and what to tell the user."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        made, n_broken = metadata.of_tags(tags)
    except Exception:  # Pillow's parser raises nearly everything
        return None, ["EXIF left out: it is broken, and TIFF has to read it"]
    said = f"{n_broken} broken EXIF tag{'s' if n_broken > 1 else ''} left out"
    return made, [said] if n_broken else []


def _exif_of_resolution(resolution: Resolution) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.XResolution] = resolution[0]
    tags[ExifTags.Base.YResolution] = resolution[1]
    tags[ExifTags.Base.ResolutionUnit] = 2
    return tags.tobytes().removeprefix(EXIF_PREFIX)


def to_pillow(picture: Picture) -> Image.Image:
    """An image of mode L, LA, RGB or RGBA; its info has icc_profile, exif, xmp and dpi."""
    im = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        im.putalpha(Image.fromarray(picture.alpha))
    if picture.icc:
        im.info["icc_profile"] = picture.icc
    if picture.exif:
        im.info["exif"] = EXIF_PREFIX + picture.exif
    if picture.xmp:
        im.info["xmp"] = picture.xmp
    if picture.resolution:
        im.info["dpi"] = picture.resolution
    return im
