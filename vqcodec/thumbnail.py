"""Small pictures of files, fast: no more is decoded than such a size shows."""

import numpy as np

from vqcodec import container, image, zoo
from vqcodec.boxes import read_boxes
from vqcodec.container import MAX_PIXELS, Container
from vqcodec.decoder import grey
from vqcodec.decompress import decompress, parse
from vqcodec.light.ladder import LightLadder


def thumbnail(data: bytes, size: int, max_pixels: int = MAX_PIXELS) -> image.Picture:
    """The picture of a file, or the first one of an archive, at most size x size pixels.

    Without metadata but the ICC profile. max_pixels: of the file. Raises as ``decompress``, and
    CodecError.
    """
    if container.is_archive(data):
        data = container.write(container.read_archive(data)[0])
    decoder = zoo.load_decoder(zoo.for_header(container.read(data).header), "cpu", light=True)
    content, point = parse(decoder, data, max_pixels=max_pixels)
    header = content.header
    longest = max(header.width, header.height)
    scale = min(16, 1 << (max(1, longest // size).bit_length() - 1))
    if isinstance(decoder.system, LightLadder) and scale > 1:
        shape = header.height, header.width
        pixels = decoder.system.draft(content.sections, *shape, point, scale)
        picture = _with_alpha(grey(pixels) if header.grey else pixels, content)
    else:
        picture = decompress(decoder, data, max_pixels=max_pixels)
    if longest <= size:
        return image.Picture(picture.pixels, picture.alpha, picture.icc)
    small = [max(1, round(side * size / longest)) for side in (header.height, header.width)]
    alpha = None if picture.alpha is None else image.resize(picture.alpha, *small)
    return image.Picture(image.resize(picture.pixels, *small), alpha, picture.icc)


def _with_alpha(pixels: np.ndarray, content: Container) -> image.Picture:
    beside = read_boxes(content.boxes, content.header.width, content.header.height)
    return image.Picture(pixels, beside.alpha, beside.icc)
