"""The .vqc format as Pillow sees it: ``Image.open("a.vqc")``, ``im.save("a.vqc", rate="9bit")``.

Every ``import vqcodec`` comes through here, so nothing but Pillow's core is imported before a
picture is opened or saved.
"""

from numbers import Real
from typing import IO, TYPE_CHECKING

from PIL import Image, ImageFile

from vqcodec.errors import FormatError, NotVqcError, UsageError, VqcodecError

if TYPE_CHECKING:
    from PIL import _imaging


class VqcImageFile(ImageFile.ImageFile):
    """A .vqc file in Pillow: the header is parsed at once, the pixels are decoded by load()."""

    format = "VQC"
    format_description = "vqcodec learned image"

    def _open(self) -> None:
        from vqcodec import container
        from vqcodec.boxes import ALPHA, EXIF, ICC, RESOLUTION, XMP, resolution_of
        from vqcodec.image import EXIF_PREFIX, upright

        assert self.fp is not None
        self._data = self.fp.read()
        try:
            file = container.read(self._data)
        except NotVqcError as error:
            raise SyntaxError(str(error)) from error  # lets Pillow try other formats
        except FormatError as error:
            raise OSError(str(error)) from error
        header = file.header
        boxes = {box.type: box.payload for box in file.boxes}
        self._size = header.width, header.height
        self._mode = ("L" if header.grey else "RGB") + ("A" if ALPHA in boxes else "")
        if boxes.get(ICC):
            self.info["icc_profile"] = boxes[ICC]
        exif, xmp = upright(boxes.get(EXIF), boxes.get(XMP))
        if exif:
            self.info["exif"] = EXIF_PREFIX + exif
        if xmp:
            self.info["xmp"] = xmp
        resolution = resolution_of(boxes.get(RESOLUTION, b""))
        if resolution:
            self.info["dpi"] = resolution

    def load(self) -> "_imaging.PixelAccess | None":
        if self._data:
            from vqcodec import api, image

            try:
                im = image.to_pillow(api.decode_picture(self._data))
            except VqcodecError as error:
                raise OSError(str(error)) from error
            if (im.mode, im.size) != (self.mode, self.size):
                raise OSError("the picture is not what the header says")
            self.im = im.im
            self._data = b""
            if self._exclusive_fp and self.fp:
                self.fp.close()
        return super().load()


def _save(im: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Image.save: rate=None, codec=None, tune=None, effort=1, device="cpu", and metadata.

    Metadata is icc_profile=, exif=, xmp= and dpi=. As with Pillow's JPEG, the pixels are stored as
    they are in memory, with the EXIF and XMP that are given: those of the image may be of other
    pixels by now. An orientation in them is dropped, so that nothing is turned twice. The image's
    ICC profile goes along unless another, or None, is given. Raises UsageError for metadata of
    another type than Pillow's own formats take.
    """
    from dataclasses import replace

    from vqcodec import api, image

    options = im.encoderinfo
    picture = image.from_pillow(im, turn=False)
    picture = replace(picture, exif=None, xmp=None, resolution=None)
    if "icc_profile" in options:
        picture = replace(picture, icc=_bytes_of(options, "icc_profile"))
    picture = image.described(
        picture, _bytes_of(options, "exif"), _bytes_of(options, "xmp"), _dpi_of(options)
    )
    fp.write(
        api.encode_picture(
            picture,
            rate=options.get("rate"),
            tune=options.get("tune"),
            codec=options.get("codec"),
            device=options.get("device", "cpu"),
            effort=options.get("effort"),
        )
    )


def _bytes_of(options: dict[str, object], name: str) -> bytes | None:
    value = options.get(name)
    if isinstance(value, Image.Exif):
        value = value.tobytes()
    elif isinstance(value, str) and name == "xmp":
        value = value.encode()
    if not (value is None or isinstance(value, bytes | bytearray | memoryview)):
        raise UsageError(f"{name}= takes bytes, not {type(value).__name__}")
    return bytes(value) if value else None


def _dpi_of(options: dict[str, object]) -> tuple[float, float] | None:
    value = options.get("dpi")
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if value is None:
        return None
    if len(pair) != 2 or not all(isinstance(number, Real) for number in pair):
        raise UsageError(f"dpi= takes two numbers, across and down, not {value!r}")
    return float(pair[0]), float(pair[1])


def register() -> None:
    """Let Pillow open and save .vqc files.

    Broken files raise OSError when opened or loaded; save raises VqcodecErrors as they are.
    """
    kind = VqcImageFile.format
    Image.register_open(kind, VqcImageFile, lambda prefix: prefix.startswith(b"VQC"))
    Image.register_save(kind, _save)
    Image.register_extension(kind, ".vqc")
    Image.register_mime(kind, "image/x-vqc")
