"""The container: any bytes are a file or a FormatError, and what is read is written alike."""

from fuzz.harness import sealed

from vqcodec import archive, container
from vqcodec.container import Container
from vqcodec.errors import FormatError


def check(data: bytes) -> None:
    """data: a .vqc file."""
    for file in (data, sealed(data)):
        _check_picture(file)
        _check_archive(file)


def _check_picture(file: bytes) -> None:
    try:
        whole, problems = container.salvage(file)
    except FormatError:
        return
    assert container.read(file, len(whole.sections)).sections == whole.sections
    try:
        content = container.read(file)
    except FormatError as error:
        assert problems and "\n" not in str(error)
        return
    assert not problems and content == whole
    _check_writing(content)


def _check_archive(file: bytes) -> None:
    try:
        pictures = container.read_archive(file)
    except FormatError:
        return
    assert len(archive.stems(pictures)) == len(pictures) <= len(file)
    for index in range(len(pictures)):
        try:
            content = pictures[index]
        except FormatError:
            continue
        assert content.header.codec == pictures.header.codec
        _check_writing(content)
        [again] = container.read_archive(container.write_archive([content]))
        assert again == content


def _check_writing(content: Container) -> None:
    assert container.read(container.write(content)) == content
