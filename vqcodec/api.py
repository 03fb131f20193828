"""The library's functions, which ``import vqcodec`` gives: pictures to bytes and back.

numpy and torch are imported with the first picture that is encoded or decoded, not before.
"""

import os
from collections.abc import Iterable
from io import IOBase, TextIOBase
from numbers import Real
from operator import index as whole
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, SupportsIndex

from vqcodec.container import MAX_PIXELS, Region
from vqcodec.errors import InputError, UsageError, reason

if TYPE_CHECKING:
    from typing import TypeAlias, TypeGuard

    import numpy as np
    from PIL.Image import Image

    from vqcodec.card import Card
    from vqcodec.codec import Codec
    from vqcodec.contents import FileInfo
    from vqcodec.image import Picture

    Bytes: TypeAlias = bytes | bytearray | memoryview
    Name: TypeAlias = str | os.PathLike[str]  # of a codec
    Source: TypeAlias = str | os.PathLike[str] | Bytes | BinaryIO | Image | np.ndarray
    File: TypeAlias = str | os.PathLike[str] | Bytes | BinaryIO


def load_codec(name: "Name | None" = None, device: str = "auto") -> "Codec":
    """The codec with an id or in a folder; device: 'auto', 'cpu' or 'cuda'.

    Raises CodecError, UsageError where there is no CUDA.
    """
    from vqcodec import zoo

    return zoo.load(zoo.find(_name(name)), device)


def _name(codec: object) -> str | None:
    """Raises UsageError for what can name no codec."""
    name = os.fspath(codec) if isinstance(codec, os.PathLike) else codec
    if not (name is None or isinstance(name, str)):
        raise UsageError(f"a codec is an id or the path of a folder, not {codec!r}")
    return name


def _check_limit(max_pixels: object) -> None:
    """Raises UsageError for what is no number of pixels."""
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, Real):
        raise UsageError(f"max_pixels is a number, not {max_pixels!r}")


def encode(
    source: "Source",
    rate: str | float | None = None,
    *,
    codec: "Name | None" = None,
    tune: str | None = None,
    effort: int | None = None,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> bytes:
    """A picture as the bytes of a .vqc file.

    source: a path, the bytes of an image file or a binary file of it, a Pillow image, or an array
    (h, w) or (h, w, 1 to 4) of uint8 or uint16: grey or RGB, each with or without alpha.
    rate: '80q', '9bit', '7.3bit', '0.25bpp', '12kB' or '34dB', or a number, which is a quality as
    in '80q'; without one what the environment variable VQCODEC_RATE says, or the codec's own.
    tune: 'visual' or 'psnr', where the codec has that choice; by default how it looks.
    effort: 1, the default, to 9: longer searches for better codes, of photo codecs. A file or
    Pillow image of more than ``max_pixels`` is refused before memory is taken for it. Raises a
    VqcodecError.
    """
    return encode_picture(_picture(source, max_pixels), rate, codec, device, tune, effort)


def _picture(source: "Source", max_pixels: int) -> "Picture":
    import numpy as np
    from PIL.Image import Image

    from vqcodec import image

    _check_limit(max_pixels)
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        return image.read(Path(path), path, max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return image.read(bytes(source), "picture", max_pixels)
    if isinstance(source, np.ndarray):
        return image.from_array(source)
    if isinstance(source, Image):
        return image.from_pillow(source, max_pixels)
    if _is_binary(source):
        return image.read(source, "picture", max_pixels)
    raise UsageError(
        "a picture is a path, the bytes of an image file or a binary file of it, a Pillow image or "
        f"an array, not {_kind(source)}"
    )


def _is_binary(source: object) -> "TypeGuard[BinaryIO]":
    """Whether it is a file that is open for bytes, as far as can be told without reading it."""
    if not hasattr(source, "read") or isinstance(source, TextIOBase):
        return False
    return not isinstance(source, IOBase) or (not source.closed and source.readable())


def _kind(source: object) -> str:
    kind = type(source)
    if isinstance(source, IOBase) and source.closed:
        return "one that is closed"
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def decode(
    data: "File",
    *,
    index: int | None = None,
    levels: int | None = None,
    codec: "Name | None" = None,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
    region: Region | None = None,
) -> "Image":
    """A .vqc file as a Pillow image.

    data: the bytes (bytearray and memoryview are, too), a path, or a binary file; with an index it
    is one that can be sought. index: of an archive read this picture alone; the first is 1, as in
    their names and for ``--index``. levels: read the first only, a preview. region: x, y, width and
    height in pixels, of what is to be seen. A file of more than ``max_pixels`` is refused before
    memory is taken for it. Raises a VqcodecError, UsageError for an index that is not there.
    """
    from vqcodec import image

    if not (index is None or isinstance(index, SupportsIndex)):
        raise UsageError(f"an index is a whole number, not {index!r}")
    content = _content(data, index)
    return image.to_pillow(decode_picture(content, levels, device, codec, max_pixels, region))


def _content(source: "File", index: int | None) -> bytes:
    """A file of one picture."""
    from vqcodec import archive, container

    if isinstance(source, str | os.PathLike):
        try:
            with open(source, "rb") as file:
                return _content(file, index)
        except OSError as error:
            raise InputError(f"{os.fspath(source)}: {reason(error)}") from error
        except ValueError:  # a name with a zero byte
            raise InputError(f"{os.fspath(source)!r}: no such file") from None
    if isinstance(source, bytes | bytearray | memoryview):
        source = bytes(source)
    elif not _is_binary(source):
        raise UsageError(f"a .vqc file is its bytes, a path or a binary file, not {_kind(source)}")
    if index is not None:
        return container.write(archive.picked(container.read_archive(source), whole(index)))
    return source if isinstance(source, bytes) else bytes(source.read())


def info(data: "File", *, codec: "Name | None" = None) -> "FileInfo":
    """What a .vqc file, of one picture or an archive, holds; its pixels are not decoded.

    data: as for ``decode``. codec: an id or a folder, where the file's is not installed. Raises
    FormatError, InputError; CodecError where ``codec`` is not the file's.
    """
    from vqcodec import contents

    return contents.look(_content(data, None), _name(codec))


def encode_many(
    sources: "Iterable[Source]",
    rate: str | float | None = None,
    *,
    codec: "Name | None" = None,
    tune: str | None = None,
    effort: int | None = None,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> bytes:
    """Pictures as the bytes of one .vqc file, an archive, in which they share one header.

    sources: as ``encode`` takes them. rate: of each picture; no size in bytes.
    """
    from vqcodec import archive, container, zoo

    one_picture = isinstance(sources, str | os.PathLike | bytes | bytearray | memoryview)
    if one_picture or not isinstance(sources, Iterable):
        raise UsageError(f"pictures for an archive are a list of them, not {_kind(sources)}")
    sources = list(sources)
    card = zoo.find(_name(codec)).tuned(tune, effort)
    rate = _rate(rate, card)
    archive.check(len(sources), rate or card.default_rate)
    pictures = [_picture(source, max_pixels) for source in sources]
    loaded = zoo.load(card, device)
    from vqcodec.compress import compress_many

    made = compress_many(loaded, pictures, rate)
    return container.write_archive([container.read(one.data) for one in made])


def decode_many(
    data: "File",
    *,
    levels: int | None = None,
    codec: "Name | None" = None,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> "list[Image]":
    """An archive as Pillow images, each of at most ``max_pixels``."""
    from vqcodec import container

    files = [container.write(picture) for picture in container.read_archive(_content(data, None))]
    return [
        decode(file, levels=levels, codec=codec, device=device, max_pixels=max_pixels)
        for file in files
    ]


def encode_picture(
    picture: "Picture",
    rate: str | float | None = None,
    codec: "Name | None" = None,
    device: str = "auto",
    tune: str | None = None,
    effort: int | None = None,
) -> bytes:
    """As ``encode``, of a ``Picture``."""
    from vqcodec import zoo

    card = zoo.find(_name(codec)).tuned(tune, effort)
    rate = _rate(rate, card)  # refused before torch is imported
    loaded = zoo.load(card, device)
    from vqcodec.compress import compress

    return compress(loaded, picture, rate).data


def _rate(rate: object, card: "Card") -> str | None:
    """The rate as a text; None: the codec's own.

    Raises UsageError for what is neither that nor a quality, RateError for what is not offered.
    """
    from vqcodec import zoo
    from vqcodec.rate import check_rate

    if rate is None:
        return zoo.default_rate(card)
    if isinstance(rate, str):
        check_rate(card, rate)
        return rate
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise UsageError(f"a rate is a text such as '80q' or '12kB', or a quality, not {rate!r}")
    if rate < 16:
        raise UsageError(f"the rate {rate} may be '{rate}bit' or '{rate}q': it takes a text")
    return f"{float(rate):g}q"


def decode_picture(
    data: bytes,
    levels: int | None = None,
    device: str = "auto",
    codec: "Name | None" = None,
    max_pixels: int = MAX_PIXELS,
    region: Region | None = None,
) -> "Picture":
    """As ``decode``, to a ``Picture``.

    The codec is the one that the file names: an installed one, or ``codec``, an id or a folder.
    """
    from vqcodec import container, zoo

    if not (levels is None or (isinstance(levels, SupportsIndex) and int(levels) >= 1)):
        raise UsageError(f"levels are a whole number from 1, not {levels!r}")
    _check_limit(max_pixels)
    region = None if region is None else _region(region)
    card = zoo.for_header(container.read(data, levels).header, _name(codec))
    loaded = zoo.load_decoder(card, device)
    from vqcodec.decompress import decompress

    return decompress(loaded, data, levels, max_pixels=max_pixels, region=region)


def _region(given: object) -> Region:
    """x, y, width and height. Raises UsageError for what are not four whole numbers."""
    values = list(given) if isinstance(given, Iterable) else []
    if len(values) != 4 or not all(isinstance(value, SupportsIndex) for value in values):
        raise UsageError(f"a region is x, y, width and height in pixels, not {given!r}")
    x, y, width, height = map(whole, values)
    return x, y, width, height
