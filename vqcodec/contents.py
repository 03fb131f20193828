"""What a .vqc file holds, without its pixels: codec, sizes, rates, and where its bytes are."""

from dataclasses import dataclass, field

from vqcodec import archive, container
from vqcodec.card import Card
from vqcodec.container import Archive, Container
from vqcodec.errors import CodecError, FormatError
from vqcodec.rate import rate_name, tune_name


@dataclass(frozen=True)
class PictureInfo:
    """A picture of a file; of a damaged one in an archive only name, bytes and error are known."""

    name: str  # that of the picture in an archive, or its number from 1; else empty
    n_bytes: int  # that it adds to the file
    width: int = 0
    height: int = 0
    grey: bool = False
    rate: str = ""  # the rate point; "rate point 2048" where the codec is not installed
    tune: str | None = None
    section_bytes: list[int] = field(default_factory=list)  # coarse first
    boxes: list[tuple[str, int]] = field(default_factory=list)  # type and bytes
    ideal_bits: list[float] | None = None  # of each section, where they were asked for
    error: str | None = None

    @property
    def bpp(self) -> float | None:
        """Bits per pixel."""
        return 8 * self.n_bytes / (self.width * self.height) if self.width else None

    @property
    def overhead(self) -> int:
        """Bytes that are not of sections."""
        return self.n_bytes - sum(self.section_bytes)


@dataclass(frozen=True)
class FileInfo:
    """A file of one picture, or an archive."""

    codec: str | None  # its id; None where it is not installed
    codec_number: int
    weights_hash: str  # the first 4 bytes, hexadecimal
    problem: str | None  # why the codec cannot be used
    is_archive: bool
    n_bytes: int
    pictures: tuple[PictureInfo, ...]

    @property
    def bpp(self) -> float | None:
        """Bits per pixel, of all pictures that are whole."""
        n_pixels = sum(one.width * one.height for one in self.pictures)
        return 8 * self.n_bytes / n_pixels if n_pixels else None

    @property
    def overhead(self) -> int:
        """Bytes that are not of pictures: those of an archive's header."""
        return self.n_bytes - sum(one.n_bytes for one in self.pictures)


def look(data: bytes, codec: str | None = None, ideal: bool = False) -> FileInfo:
    """data: a whole file. codec: as for ``zoo.find``, in place of the installed ones.

    ideal: decode the codes and sum -log2 of their probabilities. Raises FormatError, and CodecError
    where ``codec`` is not the file's, or ``ideal`` needs a codec that is not installed.
    """
    from vqcodec import zoo

    is_archive = container.is_archive(data)
    found = container.read_archive(data) if is_archive else container.read(data)
    header = found.header
    card, problem = None, None
    try:
        card = zoo.for_header(header, codec)
    except CodecError as error:
        if ideal or codec is not None:
            raise
        problem = str(error)
    if isinstance(found, Container):
        pictures = [_picture(found, "", len(data), card, ideal)]
    else:
        pictures = _pictures(found, card, ideal)
    return FileInfo(
        codec=card.id if card else None,
        codec_number=header.codec,
        weights_hash=header.weights_hash.hex(),
        problem=problem,
        is_archive=is_archive,
        n_bytes=len(data),
        pictures=tuple(pictures),
    )


def _pictures(opened: Archive, card: Card | None, ideal: bool) -> list[PictureInfo]:
    pictures = []
    for index, name in enumerate(archive.stems(opened)):
        n_bytes = opened.cost(index)
        try:
            pictures.append(_picture(opened[index], name, n_bytes, card, ideal))
        except FormatError as error:
            pictures.append(PictureInfo(name, n_bytes, error=str(error)))
    return pictures


def _picture(
    content: Container, name: str, n_bytes: int, card: Card | None, ideal: bool
) -> PictureInfo:
    header, bits = content.header, None
    if ideal and card:
        from vqcodec import decompress, zoo

        bits = decompress.ideal_bits(zoo.load_decoder(card, "cpu"), container.write(content))
    return PictureInfo(
        name,
        n_bytes,
        header.width,
        header.height,
        header.grey,
        rate_name(card, header.rate) if card else f"rate point {header.rate}",
        tune_name(card, header.rate) if card else None,
        [len(section) for section in content.sections],
        [(box.type, len(box.payload)) for box in content.boxes],
        bits,
    )
