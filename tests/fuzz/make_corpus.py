"""Write the corpus: PYTHONPATH=.:tests python -m fuzz.make_corpus

Small inputs of every kind, to start from. Files that are there are left alone, past findings too.
"""

import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import safetensors.torch
import tiny_codec
from fuzz import fuzz_metadata, fuzz_model, fuzz_tiny
from image_files import cmyk_profile, jpeg_with, png, stored
from PIL import Image

from vqcodec import container, image
from vqcodec.compress import compress
from vqcodec.container import Box, Container, Header
from vqcodec.image import colour
from vqcodec.priors.grid import pack, unpack
from vqcodec.rangecoder import RangeEncoder

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"


def keep(target: str, name: str, data: bytes) -> None:
    path = HERE / "corpus" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(data)


def containers() -> None:
    header = Header(3, b"hash", 300, 2, 9, grey=True)
    pictures = {
        "tail": Container(Header(3, b"hash", 32, 32, 9), (b"*",)),
        "boxes": Container(header, (b"ab", b"cde"), (Box("noTe", b"hi"), Box("NAME", b"../x"))),
        "long": Container(header, (bytes(70), b"x" * 64)),
        "many": Container(header, (b"",) * 17),
    }
    for name, content in pictures.items():
        keep("container", name, container.write(content))
    keep("container", "archive", container.write_archive([*pictures.values()]))
    keep("container", "archive-alike", container.write_archive([pictures["tail"]] * 3))


def metadata() -> None:
    """A byte that says what the rest is, see ``fuzz_metadata``."""
    exif = Image.Exif()
    exif.update({271: "Camera", 274: 6, 282: 300.0, 283: 300.0, 34665: {33434: (1, 100)}})
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    p3 = colour.profile("Display P3", (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06))
    im = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    seeds = {
        "ICC ": {"p3": p3, "grey": p3.replace(b"RGB XYZ", b"GRAYXYZ")},
        "EXIF": {"small": exif.tobytes()[6:]},
        "XMP ": {"small": packet},
        "RES ": {"300": (300_000).to_bytes(4, "little") * 2},
        "ALPH": {"noise": image.encode_alpha(np.arange(20, dtype=np.uint8).reshape(4, 5))},
        "CMYK": {"corners": cmyk_profile()},
        "file": {
            "jpeg": stored(im, "JPEG", exif=exif, xmp=packet, comment=b"hello", dpi=(300, 300)),
            "png": stored(im, "PNG", exif=exif, icc_profile=p3),
            "avif": stored(im, "AVIF", exif=exif),
            "avif-stream": stored(im, "AVIF").replace(b"colr", b"free"),
            "obu": bytes.fromhex("12000a0918157ffda204d0140c1a0d"),
            "hvcc": HVCC,
            "jp2": stored(im, "JPEG2000"),
            "ultra": jpeg_with(stored(im, "JPEG"), (0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"), after=b"x"),
        },
    }
    for index, kind in enumerate(fuzz_metadata.KINDS):
        for name, data in seeds[kind].items():
            keep("metadata", f"{kind.strip().lower()}-{name}", bytes([index]) + data)


# Of x265: the configuration record of a picture whose stream states Display P3
HVCC = bytes.fromhex(
    "0103700000009000000000001ef000fcfdf8f800000f03600001001840010c01ffff03700000030090000003000003"
    "001eba0240610001002b42010103700000030090000003000003001ea020810596ea4929ae6e181a0c0800000300c8"
    "00000300084062000100074401c172b02240"
)


def coloured() -> None:
    """PNG files whose colours are stated in each way, and with texts."""
    packet = b"XML:com.adobe.xmp" + bytes(5) + b"<a/>"
    pixels = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    chunks: dict[str, dict[str, bytes]] = {
        "gama": {"gAMA": (100000).to_bytes(4, "big"), "cHRM": bytes(range(32))},
        "cicp-pq": {"cICP": bytes([9, 16, 0, 1])},
        "cicp-p3": {"cICP": bytes([12, 13, 0, 0]), "pHYs": bytes(3) + b"x" + bytes(3) + b"y\1"},
        "texts": {
            "tEXt": b"a\0b",
            "zTXt": b"c\0\0" + zlib.compress(b"d"),
            "iTXt": packet,
        },
    }
    for name, given in chunks.items():
        keep("image", f"{name}.png", png(pixels, 2, 8, **given))


def payloads() -> None:
    rng = np.random.default_rng(0)
    for size, count in ((2, 40), (4, 100), (200, 300)):
        packed = pack(rng.dirichlet(np.ones(size)))
        table = unpack(packed[None])[0]
        coder = RangeEncoder()
        coder.encode(rng.choice(size, count, p=table / table.sum()), table)
        one = bytes([size - 2]) + packed.tobytes() + count.to_bytes(2, "little")
        keep("rangecoder", f"{size}", bytes([0]) + one + coder.finish())
        keep("rangecoder", f"{size}-twice", bytes([1]) + one + one + coder.finish())


def images() -> None:
    rows, columns = np.mgrid[:12, :14]
    rgb = Image.fromarray(np.stack([rows * 20, columns * 18, rows ^ columns], 2).astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray((rows * 20).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a test"
    beside = {"xmp": b"<a tiff:Orientation='6'/>", "comment": b"x", "dpi": (72, 72)}
    forms: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "rgb.png": (rgb, "PNG", {"exif": exif}),
        "rgba.png": (rgba, "PNG", {"icc_profile": bytes(16) + b"RGB " + bytes(16) + b"acsp"}),
        "palette.png": (rgb.quantize(16), "PNG", {"transparency": 3}),
        "bits.png": (rgb.convert("1"), "PNG", {}),
        "deep.png": (rgb.convert("L").convert("I;16"), "PNG", {}),
        "rgb.jpg": (rgb, "JPEG", {"exif": exif}),
        "xmp.jpg": (rgb, "JPEG", beside),
        "progressive.jpg": (rgb, "JPEG", {"progressive": True}),
        "cmyk.jpg": (rgb.convert("CMYK"), "JPEG", {}),
        "lossy.webp": (rgb, "WEBP", {}),
        "lossless.webp": (rgba, "WEBP", {"lossless": True, "exif": exif}),
        "rgb.tif": (rgb, "TIFF", {}),
        "lzw.tif": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "jpeg.tif": (rgb, "TIFF", {"compression": "jpeg"}),
        "deep.tif": (rgb.convert("L").convert("I;16"), "TIFF", {"compression": "tiff_deflate"}),
        "rgb.bmp": (rgb, "BMP", {}),
        "rgb.ppm": (rgb, "PPM", {}),
        "grey.gif": (rgb.convert("L"), "GIF", {}),
        "rgb.avif": (rgb, "AVIF", {}),
        "rgb.jp2": (rgb, "JPEG2000", {}),
        "rgb.tga": (rgba, "TGA", {"compression": "tga_rle"}),
        "rgb.pcx": (rgb, "PCX", {}),
        "rgb.sgi": (rgb, "SGI", {}),
        "rgb.dds": (rgb, "DDS", {}),
        "rgb.qoi": (rgb, "QOI", {}),
        "grey.xbm": (rgb.convert("1"), "XBM", {}),
        "rgb.im": (rgb, "IM", {}),
        "grey.spider": (rgb.convert("F"), "SPIDER", {}),
    }
    for name, (im, format, options) in forms.items():
        buffer = BytesIO()
        im.save(buffer, format, **options)
        keep("image", name, buffer.getvalue())


def decoded() -> None:
    for path in sorted(GOLDEN.glob("*/*.vqc")):
        if path.stat().st_size < 500:
            keep("decode", f"{path.parent.name}-{path.stem}", path.read_bytes())
    for index, codec in enumerate(fuzz_tiny.codecs()):
        for point in codec.card.points:
            data = compress(codec, image.from_array(tiny_codec.photo(9, 17)), point).data
            content = container.read(data)
            header = replace(content.header, codec=index, weights_hash=b"tiny")
            name = f"{codec.card.system}-{point}"
            keep("tiny", name, container.write(replace(content, header=header)))
    grey = Container(
        Header(0, b"tiny", 17, 9, 0, grey=True),
        content.sections,
        (Box("ALPH", image.encode_alpha(np.zeros((9, 17), np.uint8))),),
    )
    keep("tiny", "alpha", container.write(grey))


def weights() -> None:
    for index, (card, whole, _) in enumerate(fuzz_model.subjects()):
        keep("model", card.system, bytes([index]) + whole)
        tensors = safetensors.torch.load(whole)
        less = safetensors.torch.save(dict(list(tensors.items())[1:]))
        keep("model", f"{card.system}-less", bytes([index]) + less)


if __name__ == "__main__":
    containers()
    payloads()
    images()
    metadata()
    coloured()
    decoded()
    weights()
