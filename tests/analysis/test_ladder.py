"""``vqcodec analyse`` of a photo codec: what it counts is what files have."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import vqcodec
from vqcodec import zoo
from vqcodec.analysis import ladder
from vqcodec.analysis.subject import Settings
from vqcodec.cli.program import program
from vqcodec.training.data import Track

PHOTO = np.asarray(Image.open(Path(__file__).parents[1] / "data" / "photo.png").convert("RGB"))
PARTS = PHOTO[40:120, 30:130], PHOTO[100:116, 200:216]  # of several cells, and of one
UNTRACKED: Track = lambda items, name: items  # noqa: E731


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, pixels in zip("ab", PARTS, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module", params=["photo-3", "photo-3:psnr", "photo-1"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def seen(name: str, pictures: Path) -> ladder.Seen:
    return ladder.look(zoo.load(zoo.find(name), "cpu"), pictures, Settings(), UNTRACKED)


def test_bits_of_channels_and_of_places_add_up_to_those_of_levels(seen: ladder.Seen) -> None:
    slices = seen.codec.model.config.slices
    for point in seen.points.values():
        first = 0
        for size, bits in zip(slices, point.level_bits[1:], strict=False):
            assert point.channel_bits[first : first + size].sum() == pytest.approx(bits, rel=1e-6)
            first += size
        # A section ends with at most some bytes more than what its codes take.
        more = point.section_bits - point.level_bits.sum()
        assert 0 < more < 8 * 8 * seen.pictures * len(point.level_bits)
    total = 0.0
    for place, pixels in zip(seen.maps, PARTS, strict=True):
        area = np.outer(*(_sizes(length) for length in pixels.shape[:2]))
        assert place.bits.shape == place.error.shape == area.shape
        total += (place.bits * area).sum()
    assert total == pytest.approx(seen.points[ladder.MAPPED].level_bits[1:].sum(), rel=1e-6)


def _sizes(length: int) -> np.ndarray:
    """Of the cells along a side."""
    return np.minimum(16, length - 16 * np.arange(-(-length // 16)))


def test_errors_are_those_of_files(seen: ladder.Seen, name: str) -> None:
    for rate, point in seen.points.items():
        files = [vqcodec.encode(pixels, rate, codec=name, device="cpu") for pixels in PARTS]
        for levels in (1, 2, len(point.level_bits)):
            squares = 0.0
            for pixels, data in zip(PARTS, files, strict=True):
                decoded = np.asarray(vqcodec.decode(data, levels=levels, device="cpu"))
                squares += np.square(decoded.astype(float) - pixels).sum()
            assert point.prefix_errors[levels - 1] == pytest.approx(squares, rel=1e-6)


def test_the_command_writes_plots_numbers_and_a_page(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["analyse", "photo-3", str(pictures), "-o", str(out), "--json", "--device", "cpu"]
    result = CliRunner().invoke(program, words)
    assert result.exit_code == 0, result.output
    numbers = json.loads((out / "analysis.json").read_text(encoding="utf-8"))
    assert numbers == json.loads(result.stdout)
    assert (numbers["pictures"], numbers["tune"]) == (2, "visual")
    assert set(numbers["levels"]) == set(ladder.RATES)
    assert len(numbers["channels"]["9bit"]["step"]) > len(numbers["channels"]["6bit"]["step"])
    files = {path.name for path in out.iterdir()}
    assert files == {*numbers["files"], "analysis.json", "index.html"}
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/png;base64,') == len(numbers["files"])
    assert "://" not in page  # nothing is loaded


def test_so_many_pictures_are_looked_at_as_are_asked_for(pictures: Path) -> None:
    codec = zoo.load(zoo.find("photo-1"), "cpu")
    for number, count in ((1, 1), (0, 2), (5, 2)):
        assert ladder.look(codec, pictures, Settings(number), UNTRACKED).pictures == count
