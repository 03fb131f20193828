"""What stands before the first section: of a picture, and of an archive for all its pictures."""

from dataclasses import dataclass

from vqcodec.card import MAX_CODEC  # 2 bytes as a varint
from vqcodec.container.parts import VARINT_BYTES, Box, read_varint, take, varint
from vqcodec.errors import FormatError, NotVqcError, SizeError, UsageError, VersionError

MAGIC = b"VQC1"
MAX_RATE = (1 << 21) - 1  # 3 bytes as a varint; with MAX_CODEC this keeps any header at 24 bytes
MAX_SIDE = 1 << 20  # pixels
MAX_PIXELS = 400_000_000  # of a picture that is read or decoded, unless the caller says otherwise
MAX_SECTIONS = 255
MAX_BOXES = 255
MAX_PICTURES = 1 << 20  # of an archive

HASH_BYTES = 4
HEADER_BYTES = 9 + 6 * VARINT_BYTES  # at most, magic, flags and hash included
# The flags of a picture.
FEW_SECTIONS = 0x0F  # the number of sections, 0 where it stands after the rate
BOXES = 0x10  # the number of boxes ends the header
GREY = 0x20
TAIL = 0x40  # the last section ends with the file and states no length
ARCHIVE = 0x80
# In an archive's flags, and in those of a picture in it.
HEADS = 0x10  # each picture begins with flags of its own
OWN_SIZE = 0x40
OWN_RATE = 0x80

Region = tuple[int, int, int, int]  # of a picture: x, y, width, height in pixels


@dataclass(frozen=True)
class Header:
    """What the decoder must know before the first section.

    codec: its number, 0..MAX_CODEC. weights_hash: first 4 bytes of the SHA-256 of its weights file.
    width, height: pixels. rate: 0..MAX_RATE, its meaning belongs to the codec.
    """

    codec: int
    weights_hash: bytes
    width: int
    height: int
    rate: int
    grey: bool = False

    def check_region(self, x: int, y: int, width: int, height: int) -> None:
        """Raises UsageError for a part, in pixels, that is not within the picture."""
        if not (0 <= x < x + width <= self.width and 0 <= y < y + height <= self.height):
            size = f"{self.width}x{self.height}"
            raise UsageError(
                f"the region {x},{y},{width},{height} is not within the picture of {size}"
            )


@dataclass(frozen=True)
class Container:
    """The content of one file; sections stand from coarse to fine, 1 to MAX_SECTIONS of them."""

    header: Header
    sections: tuple[bytes, ...]
    boxes: tuple[Box, ...] = ()


def check(container: Container) -> None:
    """Raises ValueError for what cannot be written."""
    header = container.header
    if len(header.weights_hash) != HASH_BYTES:
        raise ValueError(f"weights_hash has {HASH_BYTES} bytes, not {len(header.weights_hash)}")
    for name, value, low, high in (
        ("codec", header.codec, 0, MAX_CODEC),
        ("width", header.width, 1, MAX_SIDE),
        ("height", header.height, 1, MAX_SIDE),
        ("rate", header.rate, 0, MAX_RATE),
        ("the number of sections", len(container.sections), 1, MAX_SECTIONS),
        ("the number of boxes", len(container.boxes), 0, MAX_BOXES),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is in {low}..{high}, not {value}")


def shape(header: Header, n_sections: int) -> int:
    """The flags that a picture has anywhere."""
    return (n_sections if n_sections <= FEW_SECTIONS else 0) | (GREY if header.grey else 0)


def write_header(header: Header, flags: int, n_sections: int, count: int) -> bytes:
    """``flags`` less those of ``shape``; ``count`` of boxes or pictures ends it, unless 0."""
    flags |= shape(header, n_sections)
    return b"".join(
        [
            MAGIC,
            bytes([flags]),
            varint(header.codec),
            header.weights_hash,
            varint(header.width),
            varint(header.height),
            varint(header.rate),
            b"" if flags & FEW_SECTIONS else varint(n_sections),
            varint(count) if count else b"",
        ]
    )


def read_header(data: bytes) -> tuple[int, Header, int, int, int]:
    """The flags, the header, the numbers of sections and of boxes, and the offset behind.

    In an archive it is the number of pictures in place of that of boxes.
    """
    where = "the header"
    if not data:
        raise NotVqcError("the file is empty")
    if len(data) < len(MAGIC) or data[:3] != MAGIC[:3]:
        raise NotVqcError("not a .vqc file: it does not begin with VQC1")
    if data[3] != MAGIC[3]:
        raise VersionError(f"a .vqc file of an unknown version (byte {data[3]:#04x} after VQC)")
    (flags,), at = take(data, len(MAGIC), 1, where)
    if flags & TAIL and flags & (BOXES | ARCHIVE):
        raise VersionError(f"a .vqc file with features of a later version (flags {flags:#04x})")
    codec, at = read_number(data, at, where, "codec number", 0, MAX_CODEC)
    weights_hash, at = take(data, at, HASH_BYTES, where)
    width, height, at = read_size(data, at, where)
    rate, at = read_number(data, at, where, "rate", 0, MAX_RATE)
    n_sections, at = read_n_sections(data, at, flags, where)
    count = 0
    if flags & ARCHIVE:
        count, at = read_number(data, at, where, "number of pictures", 1, MAX_PICTURES)
    elif flags & BOXES:
        count, at = read_number(data, at, where, "number of boxes", 1, MAX_BOXES)
    header = Header(codec, weights_hash, width, height, rate, bool(flags & GREY))
    return flags, header, n_sections, count, at


def read_size(data: bytes, at: int, where: str) -> tuple[int, int, int]:
    """Width, height and the offset behind."""
    width, at = read_varint(data, at, where)
    height, at = read_varint(data, at, where)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise SizeError(f"{where} states an absurd size of {width} x {height} pixels")
    return width, height, at


def read_n_sections(data: bytes, at: int, flags: int, where: str) -> tuple[int, int]:
    few = flags & FEW_SECTIONS
    if few:
        return few, at
    return read_number(data, at, where, "number of sections", FEW_SECTIONS + 1, MAX_SECTIONS)


def read_number(
    data: bytes, at: int, where: str, noun: str, low: int, high: int
) -> tuple[int, int]:
    value, at = read_varint(data, at, where)
    if not low <= value <= high:
        raise FormatError(f"{where} states a {noun} of {value}, which is not in {low}..{high}")
    return value, at
