"""Files to pictures: levels, parts and rows of them, and the bytes that they take."""

import numpy as np
import pytest
import torch
from shipped import crop, decoded, made, photo, shipped

import vqcodec
from vqcodec import container, image
from vqcodec.autoencoders.ladder import codec as ladder_codec
from vqcodec.autoencoders.ladder import decoder as ladder_decoder
from vqcodec.compress import compress
from vqcodec.decompress import decompress, decompress_rows, ideal_bits
from vqcodec.errors import UsageError
from vqcodec.metrics import psnr_db


def test_each_level_of_a_preview_adds_quality() -> None:
    data = made("9bit").data
    previews = [decoded(data, levels) for levels in range(1, 7)]
    assert {preview.shape for preview in previews} == {crop().shape}
    qualities = [psnr_db(preview, crop()) for preview in previews]
    assert qualities == sorted(set(qualities))
    assert np.array_equal(previews[-1], decoded(data))


def test_a_prefix_of_the_file_is_a_preview() -> None:
    data = made("9bit").data
    lengths = [len(section) for section in container.read(data).sections]
    prefix = data[: len(data) - lengths[5] - 6]  # its length and checksum may stay behind
    assert np.array_equal(decoded(prefix, 4), decoded(data, 4))


def test_levels_that_a_file_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="6 levels, not 7"):
        decoded(made("9bit").data, 7)


@pytest.mark.parametrize("rate", ["5bit", "6.5bit", "8bit", "10bit"])
def test_payloads_are_hardly_larger_than_their_ideal_bits(rate: str) -> None:
    result = made(rate)
    ideal = sum(result.ideal_bits) / 8
    assert ideal - 2 < sum(result.section_bytes) < ideal * 1.0005 + 5
    assert ideal_bits(shipped(), result.data) == pytest.approx(result.ideal_bits)


@pytest.mark.parametrize("rate", ["7bit", "8.5bit", "10bit"])
def test_files_are_hardly_larger_than_their_ideal_bits(rate: str) -> None:
    result = compress(shipped(), image.from_array(photo()), rate)
    assert len(result.data) <= sum(result.ideal_bits) / 8 * 1.005 + 40


def test_the_overhead_is_that_of_the_container() -> None:
    assert container.overhead(container.read(made("9bit").data)) <= 16 + 6 * 6
    dot = vqcodec.encode(np.zeros((1, 1, 3), np.uint8), "5bit", device="cpu")
    assert container.overhead(container.read(dot)) <= 14 + 5 * 3


# -------------------------------------------------------------------------- parts of a picture


@pytest.mark.parametrize(
    "region", [(0, 0, 192, 128), (0, 0, 1, 1), (191, 127, 1, 1), (60, 33, 70, 66), (64, 64, 64, 64)]
)
@pytest.mark.parametrize("tile", [4, 128])
def test_a_region_is_exactly_that_of_the_whole(
    region: tuple[int, int, int, int], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder_decoder, "TILE", tile)
    x, y, width, height = region
    alpha = np.arange(192, dtype=np.uint8)[None].repeat(128, 0)
    data = compress(shipped(), image.Picture(crop(), alpha), "7bit").data
    whole = decompress(shipped(), data)
    part = decompress(shipped(), data, region=region)
    by_name = np.array(vqcodec.decode(data, device="cpu", region=region))
    assert np.array_equal(by_name[:, :, :3], part.pixels)
    assert np.array_equal(part.pixels, whole.pixels[y : y + height, x : x + width])
    assert part.alpha is not None
    assert np.array_equal(part.alpha, alpha[y : y + height, x : x + width])


def test_the_pixels_of_a_region_are_all_that_is_synthesized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ladder_decoder, "TILE", 4)
    monkeypatch.setattr(ladder_decoder, "HALO", 1)
    cells: list[int] = []
    plain = ladder_codec.FoldedSynthesis.__call__

    def count(self: ladder_codec.FoldedSynthesis, y: torch.Tensor) -> torch.Tensor:
        cells.append(y.shape[0] * y.shape[1])
        return plain(self, y)

    monkeypatch.setattr(ladder_codec.FoldedSynthesis, "__call__", count)
    decompress(shipped(), made("7bit").data, region=(70, 70, 10, 10))
    assert cells == [5 * 6]  # one tile of 4 x 4 cells, at the lower edge, with its halo


@pytest.mark.parametrize("region", [(0, 0, 193, 1), (-1, 0, 5, 5), (5, 5, 0, 5), (0, 120, 1, 9)])
def test_a_region_must_lie_within_the_picture(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="not within the picture of 192x128"):
        decompress(shipped(), made("7bit").data, region=region)


def test_rows_come_in_bands_that_make_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_decoder, "TILE", 3)
    rows = decompress_rows(shipped(), made("7bit").data)
    bands = list(rows.bands)
    assert [len(band) for band in bands] == [48, 48, 32]
    assert np.array_equal(np.concatenate(bands), decompress(shipped(), made("7bit").data).pixels)


def test_progress_rises_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_decoder, "TILE", 4)
    monkeypatch.setattr(ladder_codec, "BAND", 24)
    encoded: list[tuple[str, float]] = []
    decoded: list[float] = []
    data = compress(
        shipped(),
        image.from_array(crop()),
        "7bit",
        progress=lambda rate, share: encoded.append((rate, share)),
    ).data
    decompress(shipped(), data, progress=decoded.append)
    assert {rate for rate, _ in encoded} == {"7bit"}
    for shares in ([share for _, share in encoded], decoded):
        assert len(shares) > 10
        assert shares == sorted(shares) and shares[-1] == 1.0
