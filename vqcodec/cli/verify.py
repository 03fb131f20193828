"""``vqcodec verify``: whether .vqc files are sound."""

import json

import click

from vqcodec.cli import options, streams
from vqcodec.cli.failure import explain, print_error
from vqcodec.cli.jobs import files_in
from vqcodec.errors import FormatError, one_line

_EXAMPLES = """\b
Examples:
  vqcodec verify *.vqc
  vqcodec verify -r photos -q && echo all are sound
"""


@click.command(epilog=_EXAMPLES)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=options.FILE)
@options.recursive
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file.")
@options.quiet
@options.codec
@options.device
@options.threads
@options.max_pixels
def verify(
    inputs: tuple[str, ...],
    recursive: bool,
    as_json: bool,
    quiet: bool,
    codec_id: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
) -> int:
    """Check every checksum of .vqc files and decode them, without writing anything.

    INPUT is a file, a folder with .vqc files or - (stdin). Of an archive each picture is checked.
    All that is wrong with a file is told, a line each; the exit code is that of the first thing.
    """
    exit_code = 0
    for name in files_in(inputs, recursive):
        problems = _problems(name, codec_id, device, threads, max_pixels)
        told = [explain(problem, name) for problem in problems]
        for sentence, code in told:
            print_error(sentence, code)
            exit_code = exit_code or code
        if as_json:
            errors = [{"error": sentence, "exit_code": code} for sentence, code in told]
            click.echo(json.dumps({"input": name, "sound": not told, "errors": errors}))
        elif not told and not quiet:
            click.echo(one_line(f"{name}: sound"))
    return exit_code


def _problems(
    name: str, codec_id: str | None, device: str, threads: int | None, max_pixels: int
) -> list[Exception]:
    """All that is wrong with a file."""
    from vqcodec import container, zoo

    def of_picture(data: bytes) -> list[Exception]:
        content, damage = container.salvage(data)
        if damage:
            return [FormatError(line) for line in damage]
        card = zoo.for_header(content.header, codec_id)
        model = zoo.load_decoder(card, device)  # which keeps it
        options.use_threads(threads)
        from vqcodec.decompress import decompress

        decompress(model, data, max_pixels=max_pixels)
        return []

    try:
        data = streams.read_vqc(name)
        if not container.is_archive(data):
            return of_picture(data)
        problems: list[Exception] = []
        pictures = container.read_archive(data)
        for index in range(len(pictures)):
            try:
                problems += of_picture(container.write(pictures[index]))
            except FormatError as error:
                picture = f"picture {index + 1} of {len(pictures)}"
                known = str(error).startswith(picture)
                problems.append(error if known else FormatError(f"{picture}: {error}"))
        return problems
    except Exception as error:  # whatever it is, the other files are none the worse
        return [error]
