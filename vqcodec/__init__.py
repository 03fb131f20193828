"""vqcodec: a learned image codec.

    data = vqcodec.encode("photo.png", rate="9bit")
    picture = vqcodec.decode(data)

After ``import vqcodec``, Pillow opens and saves .vqc files too. numpy and torch are imported with
the first picture that is encoded or decoded, not before.
"""

from vqcodec import pillow
from vqcodec.api import (
    decode,
    decode_many,
    decode_picture,
    encode,
    encode_many,
    encode_picture,
    info,
    load_codec,
)
from vqcodec.errors import VqcodecError

__version__ = "0.2.0"
__all__ = [
    "VqcodecError",
    "decode",
    "decode_many",
    "decode_picture",
    "encode",
    "encode_many",
    "encode_picture",
    "info",
    "load_codec",
]

pillow.register()
