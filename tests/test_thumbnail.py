"""Thumbnails are what a viewer makes of the whole picture, nearly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from shipped import crop, made

import vqcodec
from vqcodec import container, image
from vqcodec.autoencoders.ladder import decoder as ladder_decoder
from vqcodec.cli.program import program
from vqcodec.compress import compress
from vqcodec.errors import CodecError, FormatError
from vqcodec.metrics.psnr import psnr_db
from vqcodec.thumbnail import thumbnail

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("size", [8, 12, 20, 30, 60, 96, 150, 192, 500])
def test_a_thumbnail_looks_like_the_whole_made_small(size: int) -> None:
    data = made("8bit").data
    small = thumbnail(data, size)
    width, height = min(size, 192), round(128 * min(size, 192) / 192)
    assert small.pixels.shape == (height, width, 3)
    whole = vqcodec.decode_picture(data, device="cpu").pixels
    assert psnr_db(image.resize(whole, height, width), small.pixels) > 30


def test_a_small_thumbnail_costs_the_first_levels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    file = container.read(made("8bit").data)
    n_read: list[int] = []
    plain = ladder_decoder.open_section

    def count(section: bytes) -> object:
        n_read.append(len(section))
        return plain(section)

    monkeypatch.setattr(ladder_decoder, "open_section", count)
    monkeypatch.setattr("vqcodec.light.ladder.open_section", count)
    monkeypatch.setattr("vqcodec.light.synthesis.FoldedSynthesis.__call__", pytest.fail)
    thumbnail(container.write(file), 12)
    assert n_read == [len(section) for section in file.sections[:2]]
    n_read.clear()
    thumbnail(container.write(file), 90)
    assert n_read == [len(section) for section in file.sections[:5]]


def test_grey_alpha_and_profile_stay_and_other_metadata_does_not() -> None:
    grey = thumbnail((GOLDEN / "photo-2" / "grey-17x9.vqc").read_bytes(), 5)
    assert grey.pixels.shape == (3, 5)
    with_alpha = thumbnail((GOLDEN / "photo-2" / "alpha-64x48.vqc").read_bytes(), 16)
    assert with_alpha.alpha is not None and with_alpha.alpha.shape == (12, 16)
    described = thumbnail((GOLDEN / "photo-2" / "photo-icc-exif.vqc").read_bytes(), 16)
    assert described.icc is not None and described.exif is None


def test_of_an_archive_it_is_the_first_picture() -> None:
    archive = (GOLDEN / "photo-2" / "archive.vqc").read_bytes()
    first = container.write(container.read_archive(archive)[0])
    assert np.array_equal(thumbnail(archive, 9).pixels, thumbnail(first, 9).pixels)


def test_the_systems_of_the_papers_have_thumbnails_too() -> None:
    data = next((GOLDEN / "hqa-thumbs").glob("photo-*.vqc")).read_bytes()
    assert max(thumbnail(data, 24).pixels.shape[:2]) == 24


def test_extreme_shapes() -> None:
    wide = np.repeat(crop()[:1], 2, 0)[:, :190]
    data = compress(vqcodec.load_codec("photo-2", "cpu"), image.from_array(wide), "6bit").data
    assert thumbnail(data, 20).pixels.shape == (1, 20, 3)
    assert thumbnail(data, 1).pixels.shape == (1, 1, 3)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    data = (GOLDEN / "photo-2" / "grey-17x9.vqc").read_bytes()
    with pytest.raises(FormatError):
        thumbnail(data[:-2], 16)
    file = container.read(data)
    other = replace(file, header=replace(file.header, weights_hash=b"none"))
    with pytest.raises(CodecError):
        thumbnail(container.write(other), 16)
    with pytest.raises(FormatError, match="at most 99 are decoded"):
        thumbnail(data, 16, max_pixels=99)
    (tmp_path / "a.vqc").write_bytes(data[:-2])
    small = tmp_path / "small.png"
    args = ["desktop", "thumbnail", str(tmp_path / "a.vqc"), str(small), "16"]
    result = CliRunner().invoke(program, args)
    assert result.exit_code == 5 and result.stderr.count("\n") == 1 and not small.exists()
    (tmp_path / "a.vqc").write_bytes(data)
    assert CliRunner().invoke(program, args).exit_code == 0
    assert Image.open(small).size == (16, 8)
