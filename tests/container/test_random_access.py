"""Of an archive in a file no more is read than what is asked for."""

from io import BytesIO

import pytest
from archive_files import BOTH, HEADER
from container_files import part
from hypothesis import given, settings
from hypothesis import strategies as st

from vqcodec.container import Container, read_archive, write_archive
from vqcodec.container.header import HEADER_BYTES
from vqcodec.errors import FormatError, TruncatedError


class Recorded(BytesIO):
    """A file that knows what was read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.seen: list[tuple[int, int]] = []

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        data = super().read(size)
        if data:
            self.seen.append((start, start + len(data)))
        return data


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=300), st.data())
def test_of_a_file_nothing_is_read_but_the_index_and_one_picture(
    sizes: list[int], data: st.DataObject
) -> None:
    pictures = [Container(HEADER, (part(size, size),)) for size in sizes]
    file = Recorded(write_archive(pictures))
    archive = read_archive(file)
    end = len(file.getvalue()) - sum(map(archive.cost, range(len(sizes))))
    end += sum(1 + (size >= 128) for size in sizes)  # their lengths stand in the index
    # The header is read with what may follow it.
    assert max(stop for _, stop in file.seen) <= max(end, HEADER_BYTES)
    assert len(file.seen) < 20
    file.seen.clear()
    index = data.draw(st.integers(0, len(sizes) - 1))
    assert archive[index] == pictures[index]
    assert sum(stop - start for start, stop in file.seen) == sizes[index] + (
        4 if sizes[index] >= 128 else 2
    )


@pytest.mark.parametrize("pictures", BOTH)
def test_a_file_is_read_as_its_bytes_are(pictures: list[Container]) -> None:
    data = write_archive(pictures)
    assert [*read_archive(BytesIO(data))] == pictures
    for size in range(len(data)):
        with pytest.raises(FormatError) as of_bytes:
            [*read_archive(data[:size])]
        with pytest.raises(FormatError) as of_file:
            [*read_archive(BytesIO(data[:size]))]
        assert str(of_bytes.value) == str(of_file.value)


def test_of_a_truncated_file_the_pictures_before_are_read() -> None:
    pictures = [Container(HEADER, (part(200, seed),)) for seed in range(5)]
    data = write_archive(pictures)[:-1]
    archive = read_archive(BytesIO(data))
    assert archive[3] == pictures[3]
    with pytest.raises(TruncatedError, match="picture 5 of 5"):
        archive[4]
