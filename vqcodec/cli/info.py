"""``vqcodec info``: what a .vqc file holds."""

import json
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli import options, streams, text
from vqcodec.cli.failure import explain, print_error
from vqcodec.cli.jobs import files_in
from vqcodec.errors import FormatError, one_line

if TYPE_CHECKING:
    from vqcodec.contents import PictureInfo


_EXAMPLES = """\b
Examples:
  vqcodec info photo.vqc
  vqcodec info -r photos --json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=options.FILE)
@options.recursive
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file.")
@click.option("--ideal", is_flag=True, help="Decode the codes too, and print the ideal bits.")
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
    from vqcodec import contents

    found = contents.look(streams.read_vqc(name), codec_id, ideal)
    about = {
        "input": name,
        "codec": found.codec,
        "codec_number": found.codec_number,
        "codec_problem": found.problem,
        "weights_hash": found.weights_hash,
    }
    if not found.is_archive:
        return about | _picture(found.pictures[0])
    return about | {
        "pictures": [{"name": one.name, **_picture(one)} for one in found.pictures],
        "overhead": found.overhead,
        "bytes": found.n_bytes,
        "bpp": found.bpp,
    }


def _picture(found: "PictureInfo") -> dict[str, Any]:
    if found.error:
        return {"bytes": found.n_bytes, "error": found.error}
    record = {
        "width": found.width,
        "height": found.height,
        "grey": found.grey,
        "rate": found.rate,
        "tune": found.tune,
        "sections": found.section_bytes,
        "boxes": [{"type": kind, "bytes": n_bytes} for kind, n_bytes in found.boxes],
        "overhead": found.overhead,
        "bytes": found.n_bytes,
        "bpp": found.bpp,
    }
    return record | ({} if found.ideal_bits is None else {"ideal_bits": found.ideal_bits})


def _as_text(record: dict[str, Any]) -> str:
    width, height = record["width"], record["height"]
    box_bytes = sum(box["bytes"] for box in record["boxes"])
    tuned = f", tuned for {record['tune']}" if record["tune"] else ""
    lines = [
        *_heading(record),
        f"size      {width} x {height}, {'grey' if record['grey'] else 'colour'}",
        f"rate      {record['rate']}{tuned}{'' if record['codec'] else ', which the codec names'}",
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
