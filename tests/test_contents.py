"""What files hold, told by ``vqcodec.info``, without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

import vqcodec
from vqcodec import container, contents, zoo
from vqcodec.errors import CodecError, FormatError, InputError

GOLDEN = Path(__file__).parent / "golden"
GREY = GOLDEN / "photo-2" / "grey-17x9.vqc"


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*/*.vqc")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_all_bytes_of_a_file_are_accounted_for(path: Path) -> None:
    found = vqcodec.info(path)
    assert found.codec == path.parent.name and found.problem is None
    assert found.n_bytes == path.stat().st_size
    assert found.weights_hash == zoo.find(found.codec).hash.hex()
    assert found.is_archive == container.is_archive(path.read_bytes())
    assert found.overhead + sum(one.n_bytes for one in found.pictures) == found.n_bytes
    for one in found.pictures:
        assert one.error is None and one.width and one.height and one.bpp
        assert one.overhead + sum(one.section_bytes) == one.n_bytes
        assert one.overhead >= sum(n_bytes for _, n_bytes in one.boxes)


def test_bytes_paths_and_open_files_are_alike() -> None:
    with GREY.open("rb") as file:
        assert vqcodec.info(file) == vqcodec.info(GREY) == vqcodec.info(GREY.read_bytes())
    one = vqcodec.info(GREY).pictures[0]
    assert (one.width, one.height, one.grey) == (17, 9, True) and one.rate.endswith("bit")


def test_ideal_bits_are_told_on_request() -> None:
    data = GREY.read_bytes()
    assert contents.look(data).pictures[0].ideal_bits is None
    one = contents.look(data, ideal=True).pictures[0]
    assert one.ideal_bits is not None and len(one.ideal_bits) == len(one.section_bytes)


def test_a_codec_that_is_not_there_is_a_problem_and_another_one_an_error() -> None:
    content = container.read(GREY.read_bytes())
    data = container.write(
        container.Container(container.Header(9999, b"none", 17, 9, 2000, True), content.sections)
    )
    found = vqcodec.info(data)
    assert found.codec is None and found.codec_number == 9999 and "9999" in str(found.problem)
    assert found.pictures[0].rate == "rate point 2000"
    with pytest.raises(CodecError):
        vqcodec.info(data, codec="photo-2")
    with pytest.raises(CodecError):
        contents.look(data, ideal=True)


def test_what_is_no_file_of_ours_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        vqcodec.info(b"something else")
    with pytest.raises(InputError):
        vqcodec.info(tmp_path / "missing.vqc")


def test_it_does_not_load_torch() -> None:
    code = f"import sys, vqcodec; vqcodec.info({str(GREY)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
