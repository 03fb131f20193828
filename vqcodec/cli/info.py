"""``vqcodec info``: what a .vqc file holds."""

import json
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli import options, streams, text
from vqcodec.cli.failure import explain, print_error
from vqcodec.cli.jobs import files_in
from vqcodec.errors import CodecError, FormatError, one_line

if TYPE_CHECKING:
    from vqcodec.card import Card
    from vqcodec.container import Container, Header


_EXAMPLES = """\b
Examples:
  vqcodec info photo.vqc
  vqcodec info -r photos --json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=options.FILE)
@options.recursive
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file.")
@click.option(
    "--ideal", is_flag=True, help="Decode the codes too, and print the ideal bits (needs torch)."
)
@options.codec
def info(
    inputs: tuple[str, ...], recursive: bool, as_json: bool, ideal: bool, codec_id: str | None
) -> int:
    """Print what .vqc files hold: codec, size, rate, and the bytes of each level.

    INPUT is a file, a folder with .vqc files or - (stdin). Of an archive all pictures are listed,
    each with the bytes that it adds to the file.

    Bytes and bpp count the whole file; the ideal bits of a level are the
    sum of -log2 of its codes' probabilities, which its bytes hardly fall below.
    """
    exit_code = 0
    for name in files_in(inputs, recursive):
        try:
            record = _look(name, ideal, codec_id)
        except Exception as error:
            sentence, code = explain(error, name)
            print_error(sentence, code)
            exit_code = exit_code or code
            if as_json:
                click.echo(json.dumps({"input": name, "error": sentence, "exit_code": code}))
        else:
            as_text = _archive_as_text if "pictures" in record else _as_text
            click.echo(json.dumps(record) if as_json else as_text(record))
            for picture in record.get("pictures", ()):
                if "error" in picture:
                    print_error(one_line(f"{name}: {picture['error']}"), FormatError.exit_code)
                    exit_code = exit_code or FormatError.exit_code
    return exit_code


def _look(name: str, ideal: bool, codec_id: str | None) -> dict[str, Any]:
    """The JSON object for a file."""
    from vqcodec import container

    data = streams.read_vqc(name)
    if container.is_archive(data):
        return {"input": name, **_archive(data, ideal, codec_id)}
    content = container.read(data)
    card, about = _codec(content.header, ideal, codec_id)
    return {"input": name, **about, **_picture(content, len(data), card, ideal)}


def _archive(data: bytes, ideal: bool, codec_id: str | None) -> dict[str, Any]:
    from vqcodec import archive, container

    opened = container.read_archive(data)
    card, about = _codec(opened.header, ideal, codec_id)
    pictures: list[dict[str, Any]] = []
    for index, name in enumerate(archive.stems(opened)):
        n_bytes = opened.cost(index)
        try:
            picture = _picture(opened[index], n_bytes, card, ideal)
        except FormatError as error:
            picture = {"bytes": n_bytes, "error": str(error)}
        pictures.append({"name": name, **picture})
    n_pixels = sum(one["width"] * one["height"] for one in pictures if "error" not in one)
    return {
        **about,
        "pictures": pictures,
        "overhead": len(data) - sum(one["bytes"] for one in pictures),
        "bytes": len(data),
        "bpp": text.bpp(len(data), n_pixels, 1) if n_pixels else None,
    }


def _codec(
    header: "Header", ideal: bool, codec_id: str | None
) -> "tuple[Card | None, dict[str, Any]]":
    """The codec, where it is installed, and what is said of it."""
    from vqcodec import zoo

    card: Card | None = None
    problem: str | None = None
    try:
        card = zoo.for_header(header, codec_id)
    except CodecError as error:
        if ideal or codec_id is not None:
            raise
        problem = str(error)
    return card, {
        "codec": card.id if card else None,
        "codec_number": header.codec,
        "codec_problem": problem,
        "weights_hash": header.weights_hash.hex(),
    }


def _picture(
    content: "Container", n_bytes: int, card: "Card | None", ideal: bool
) -> dict[str, Any]:
    """What is said of a picture that has ``n_bytes`` in its file."""
    from vqcodec import container, zoo

    header = content.header
    record: dict[str, Any] = {
        "width": header.width,
        "height": header.height,
        "grey": header.grey,
        "rate": card.rate_name(header.rate) if card else str(header.rate),
        "tune": card.tune_name(header.rate) if card else None,
        "sections": [len(section) for section in content.sections],
        "boxes": [{"type": box.type, "bytes": len(box.payload)} for box in content.boxes],
        "overhead": n_bytes - sum(map(len, content.sections)),
        "bytes": n_bytes,
        "bpp": text.bpp(n_bytes, header.width, header.height),
    }
    if ideal and card:
        from vqcodec import decompress

        record["ideal_bits"] = decompress.ideal_bits(
            zoo.load(card, "cpu"), container.write(content)
        )
    return record


def _as_text(record: dict[str, Any]) -> str:
    width, height = record["width"], record["height"]
    box_bytes = sum(box["bytes"] for box in record["boxes"])
    tuned = f", tuned for {record['tune']}" if record["tune"] else ""
    lines = [
        *_heading(record),
        f"size      {width} x {height}, {'grey' if record['grey'] else 'colour'}",
        f"rate      {record['rate']}{tuned}",
        *text.sections(record["sections"], width, height, record.get("ideal_bits")),
        *(text.row(f"box {box['type']}", box["bytes"]) for box in record["boxes"]),
        text.row("framing", record["overhead"] - box_bytes),
        text.row("total", record["bytes"], record["bpp"]),
    ]
    return "\n  ".join(lines)


def _archive_as_text(record: dict[str, Any]) -> str:
    pictures = record["pictures"]
    n_columns = max(10, 2 + max(len(picture["name"]) for picture in pictures))
    lines = [*_heading(record), f"pictures  {len(pictures)}"]
    for picture in pictures:
        line = text.row(picture["name"].ljust(n_columns), picture["bytes"], picture.get("bpp"))
        lines.append(f"{line}  {picture.get('error') or _kind(picture)}")
    lines.append(text.row("header".ljust(n_columns), record["overhead"]))
    lines.append(text.row("total".ljust(n_columns), record["bytes"], record["bpp"]))
    return "\n  ".join(lines)


def _heading(record: dict[str, Any]) -> list[str]:
    number = f"number {record['codec_number']}, weights {record['weights_hash']}"
    codec = f"{record['codec']} ({number})" if record["codec"] else number
    problem = [f"          {record['codec_problem']}"] if record["codec_problem"] else []
    return [one_line(record["input"]), f"codec     {codec}", *problem]


def _kind(record: dict[str, Any]) -> str:
    colour = "grey" if record["grey"] else "colour"
    return f"{record['width']} x {record['height']}, {colour}, {record['rate']}"
