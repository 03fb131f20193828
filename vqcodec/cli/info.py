"""``vqcodec info``: what a .vqc file holds."""

import json
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli import options, streams, text
from vqcodec.cli.failure import explain, one_line, print_error
from vqcodec.errors import CodecError

if TYPE_CHECKING:
    from vqcodec.zoo import Card


@click.command()
@click.argument("inputs", metavar="FILE...", nargs=-1, required=True, type=options.FILE)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file.")
@click.option(
    "--ideal", is_flag=True, help="Decode the codes too, and print the ideal bits (needs torch)."
)
@options.codec
def info(inputs: tuple[str, ...], as_json: bool, ideal: bool, codec_id: str | None) -> int:
    """Print what .vqc files hold: codec, size, rate, and the bytes of each level.

    FILE may be - (stdin). Bytes and bpp count the whole file; the ideal bits of a level are the
    sum of -log2 of its codes' probabilities, which its bytes hardly fall below.
    """
    exit_code = 0
    for name in inputs:
        try:
            record = _look(name, ideal, codec_id)
        except Exception as error:
            sentence, code = explain(error, name)
            print_error(sentence, code)
            exit_code = exit_code or code
            if as_json:
                click.echo(json.dumps({"input": name, "error": sentence, "exit_code": code}))
        else:
            click.echo(json.dumps(record) if as_json else _as_text(record))
    return exit_code


def _look(name: str, ideal: bool, codec_id: str | None) -> dict[str, Any]:
    """The JSON object for a file."""
    from vqcodec import container, zoo

    data = streams.read_vqc(name)
    content = container.read(data)
    header = content.header
    card: Card | None = None
    problem: str | None = None
    try:
        card = zoo.for_header(header, codec_id)
    except CodecError as error:
        if ideal or codec_id is not None:
            raise
        problem = str(error)
    record: dict[str, Any] = {
        "input": name,
        "codec": card.id if card else None,
        "codec_number": header.codec,
        "codec_problem": problem,
        "weights_hash": header.weights_hash.hex(),
        "width": header.width,
        "height": header.height,
        "grey": header.grey,
        "rate": text.rate(header.rate, card.system if card else None),
        "sections": [len(section) for section in content.sections],
        "boxes": [{"type": box.type, "bytes": len(box.payload)} for box in content.boxes],
        "overhead": len(data) - sum(map(len, content.sections)),
        "bytes": len(data),
        "bpp": text.bpp(len(data), header.width, header.height),
    }
    if ideal and card:
        from vqcodec import codec

        record["ideal_bits"] = codec.ideal_bits(zoo.load(card, "cpu"), data)
    return record


def _as_text(record: dict[str, Any]) -> str:
    width, height = record["width"], record["height"]
    number = f"number {record['codec_number']}, weights {record['weights_hash']}"
    codec = f"{record['codec']} ({number})" if record["codec"] else number
    box_bytes = sum(box["bytes"] for box in record["boxes"])
    lines = [
        one_line(record["input"]),
        f"codec     {codec}",
        f"size      {width} x {height}, {'grey' if record['grey'] else 'colour'}",
        f"rate      {record['rate']}",
        *text.sections(record["sections"], width, height, record.get("ideal_bits")),
        *(text.row(f"box {box['type']}", box["bytes"]) for box in record["boxes"]),
        text.row("framing", record["overhead"] - box_bytes),
        text.row("total", record["bytes"], record["bpp"]),
    ]
    if record["codec_problem"]:
        lines.insert(2, f"          {record['codec_problem']}")
    return "\n  ".join(lines)
