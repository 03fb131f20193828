"""Files that were written once decode for ever, to the same codes and the same pixels.

tests/golden/make.py wrote them. A codec that is missing, or has other weights, fails here.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import make
from PIL import Image

import vqcodec
from vqcodec import archive, container, zoo
from vqcodec.autoencoders.ladder import codec as ladder_codec
from vqcodec.codec import Codec

GOLDEN = Path(__file__).parent / "golden"
HASHES: dict[str, str] = {  # "codec/name" -> hash
    f"{listed.parent.name}/{name}": value
    for listed in sorted(GOLDEN.glob("*/golden.json"))
    for name, value in json.loads(listed.read_text(encoding="utf-8")).items()
}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def golden(name: str) -> bytes:
    """A file, or picture n of an archive as a file of its own where the name ends in "@n"."""
    stem, _, number = name.partition("@")
    data = (GOLDEN / f"{stem}.vqc").read_bytes()
    return container.write(container.read_archive(data)[int(number) - 1]) if number else data


def codes_hash(data: bytes, device: str) -> str:
    codec = zoo.load(zoo.for_header(container.read(data).header), device)
    return make.codes_hash(codec, data)


def assert_same_pixels(name: str, device: str) -> None:
    decoded = vqcodec.decode(golden(name), device=device)
    with Image.open(GOLDEN / f"{name}.png") as stored:
        assert (decoded.mode, decoded.size) == (stored.mode, stored.size)
        difference = np.array(decoded).astype(int) - np.array(stored)
    assert np.abs(difference).max() <= 1


def test_every_golden_file_is_listed() -> None:
    found = {f"{path.parent.name}/{path.stem}" for path in GOLDEN.glob("*/*.vqc")}
    assert found == {name.partition("@")[0] for name in HASHES}


def test_every_shipped_codec_has_golden_files() -> None:
    models = Path(__file__).parents[1] / "models"
    assert {path.name for path in models.iterdir()} == {name.split("/")[0] for name in HASHES}


@pytest.mark.parametrize("name", HASHES)
def test_golden_files_decode_to_their_codes(name: str, threads: int) -> None:
    assert codes_hash(golden(name), "cpu") == HASHES[name]


@pytest.mark.parametrize("name", HASHES)
def test_golden_files_decode_to_their_pixels_within_a_step(name: str, threads: int) -> None:
    assert_same_pixels(name, "cpu")


PHOTOS = [name for name in HASHES if name.startswith("photo-")]


@pytest.mark.parametrize("name", PHOTOS)
def test_numpy_decodes_golden_files_to_their_codes_and_pixels(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQCODEC_RUNTIME", "light")
    data = golden(name)
    decoder = zoo.load_decoder(zoo.for_header(container.read(data).header))
    assert not isinstance(decoder, Codec)
    assert make.codes_hash(decoder, data) == HASHES[name]
    assert_same_pixels(name, "cpu")


@pytest.mark.parametrize("name", PHOTOS)
def test_bfloat16_convolutions_stay_within_a_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder_codec, "fast_dtype", lambda device: torch.bfloat16)
    device = "cpu"
    loaded = zoo.load(zoo.for_header(container.read(golden(name)).header), device)
    monkeypatch.setattr(loaded.system, "_folded", None)  # made in float32 by other tests
    assert_same_pixels(name, device)
    monkeypatch.setattr(loaded.system, "_folded", None)


@pytest.mark.parametrize("codec", sorted({name.split("/")[0] for name in HASHES}))
def test_golden_metadata_comes_back(codec: str) -> None:
    data = (GOLDEN / codec / "photo-icc-exif.vqc").read_bytes()
    picture = vqcodec.decode_picture(data, device="cpu")
    assert picture.icc is not None and picture.icc[36:40] == b"acsp"
    assert picture.exif is not None and b"Hagia Sophia" in picture.exif


def test_the_golden_archive_has_all_its_pictures() -> None:
    data = (GOLDEN / "photo-2" / "archive.vqc").read_bytes()
    pictures = container.read_archive(data)
    assert archive.stems(pictures) == ["photo", "grey", "alpha"]
    assert [im.mode for im in vqcodec.decode_many(data, device="cpu")] == ["RGB", "L", "RGBA"]
    assert container.write_archive([*pictures]) == data


def test_golden_files_have_the_tail_form_and_that_of_earlier_versions() -> None:
    tail, earlier = golden("photo-2/tail-40x30"), golden("photo-2/colour-1x1")
    assert container.write(container.read(tail)) == tail
    assert len(container.write(container.read(earlier))) == len(earlier) - 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", HASHES)
def test_golden_files_decode_to_the_same_codes_on_cuda(name: str) -> None:
    assert codes_hash(golden(name), "cuda") == HASHES[name]
    assert_same_pixels(name, "cuda")
