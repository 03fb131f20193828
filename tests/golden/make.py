"""Write the golden files of a codec: python tests/golden/make.py photo-2

Only what is missing is written: what was released must decode for ever. Delete a codec's folder for
new weights before its release.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

import vqcodec
from vqcodec import archive, container, image
from vqcodec.compress import compress
from vqcodec.decoder import Decoder

HERE = Path(__file__).parent
PHOTO = HERE.parent / "data" / "photo.png"


def pictures(points: list[str]) -> dict[str, tuple[image.Picture, str]]:
    """Name -> picture and rate; ``points`` are the card's, none on a scale of N bits."""
    photo = np.array(Image.open(PHOTO))
    rgba = _crop(photo, 200, 300, 48, 64)
    rows, columns = np.mgrid[:48, :64]
    crop = _crop(photo, 120, 200, 80, 96)
    exif = Image.Exif()
    exif[0x010E] = "the inside of Hagia Sophia"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    coarse, middle, fine = (
        (points[0], points[-1], points[-1]) if points else ("6bit", "8bit", "9bit")
    )
    found = {
        "colour-1x1": (image.from_array(np.array([[[200, 90, 40]]], np.uint8)), middle),
        "grey-17x9": (image.from_array(photo[60:69, 90:107].mean(2).astype(np.uint8)), fine),
        "alpha-64x48": (replace(rgba, alpha=((rows * 5 + columns) % 256).astype(np.uint8)), middle),
        "photo-icc-exif": (
            replace(crop, icc=profile, exif=exif.tobytes().removeprefix(b"Exif\0\0")),
            coarse,
        ),
        "tail-40x30": (_crop(photo, 150, 230, 30, 40), points[0] if points else "5bit"),
    }
    return found | {f"photo-{rate}": (crop, rate) for rate in points or ("5bit", "7.3bit", "10bit")}


def archived() -> dict[str, image.Picture]:
    """Name -> picture of the archive, which is at the lowest rate."""
    photo = np.array(Image.open(PHOTO))
    rgba = _crop(photo, 200, 300, 16, 24)
    rows, columns = np.mgrid[:16, :24]
    return {
        "photo": _crop(photo, 150, 230, 30, 40),
        "grey": image.from_array(photo[60:69, 90:107].mean(2).astype(np.uint8)),
        "alpha": replace(rgba, alpha=((rows * 5 + columns) % 256).astype(np.uint8)),
    }


def _crop(photo: np.ndarray, top: int, left: int, height: int, width: int) -> image.Picture:
    part = photo[top : top + height, left : left + width]
    return image.from_array(np.ascontiguousarray(part))


def codes_hash(codec: Decoder, data: bytes) -> str:
    """SHA-256 of what the codes say.

    That is the latent in steps, (h * w, C) little-endian float32, of a ladder, and the codes of all
    levels as little-endian int64, of other systems.
    """
    parsed = container.read(data)
    header = parsed.header
    latent = codec.system.decode(
        list(parsed.sections), header.height, header.width, codec.system.point(header.rate)
    )
    if isinstance(latent, list):
        return hashlib.sha256(
            b"".join(codes.astype("<i8").tobytes() for codes in latent)
        ).hexdigest()
    steps = latent if isinstance(latent, np.ndarray) else latent.cpu().numpy()
    return hashlib.sha256(steps.astype("<f4").tobytes()).hexdigest()


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tests/golden/make.py CODEC")
    codec = vqcodec.load_codec(sys.argv[1], "cpu")
    folder = HERE / codec.card.id
    folder.mkdir(exist_ok=True)
    listed = folder / "golden.json"
    hashes = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}

    def keep(name: str, data: bytes) -> None:
        hashes[name] = codes_hash(codec, data)
        vqcodec.decode(data, device="cpu").save(folder / f"{name}.png", optimize=True)

    wanted = {name: (codec, *how) for name, how in pictures(codec.card.points).items()}
    for tune in codec.card.tunes[1:]:  # the default is that of the others
        for rate in ("6bit", "9bit"):
            picture, _ = pictures([])["photo-5bit"]
            wanted[f"{tune}-{rate}"] = codec.tuned(tune), picture, rate
    for name, (tuned, picture, rate) in wanted.items():
        if name not in hashes:
            data = compress(tuned, picture, rate).data
            (folder / f"{name}.vqc").write_bytes(data)
            keep(name, data)
    if "archive@1" not in hashes:
        rate = codec.card.points[0] if codec.card.points else "5bit"
        files = {name: compress(codec, one, rate).data for name, one in archived().items()}
        packed = [archive.with_name(container.read(data), name) for name, data in files.items()]
        (folder / "archive.vqc").write_bytes(container.write_archive(packed))
        for index, data in enumerate(files.values()):
            keep(f"archive@{index + 1}", data)
    listed.write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
