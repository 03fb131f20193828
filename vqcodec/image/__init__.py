"""Files to arrays and back: what their users see of them, and what belongs to it.

Only this folder and ``pillow``, which teaches Pillow to open and save .vqc files, import Pillow.
"""

from vqcodec.image.alpha import blended, blended_rows, decode_alpha, encode_alpha, smoothed
from vqcodec.image.metadata import EXIF_PREFIX
from vqcodec.image.picture import Picture, Rows, contact_sheet, from_array, resize, rgb
from vqcodec.image.probe import Header, header
from vqcodec.image.reading import described, from_pillow, part_of, read, read_rgb, stripped, upright
from vqcodec.image.writing import check_holds, format_of, to_pillow, write

__all__ = [
    "EXIF_PREFIX",
    "Header",
    "Picture",
    "Rows",
    "blended",
    "blended_rows",
    "check_holds",
    "contact_sheet",
    "decode_alpha",
    "described",
    "encode_alpha",
    "format_of",
    "from_array",
    "from_pillow",
    "header",
    "part_of",
    "read",
    "read_rgb",
    "resize",
    "rgb",
    "smoothed",
    "stripped",
    "to_pillow",
    "upright",
    "write",
]
