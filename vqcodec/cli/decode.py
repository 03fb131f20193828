"""``vqcodec decode``: .vqc files to pictures."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqcodec.cli import options, report, streams, text
from vqcodec.cli.jobs import STDIO, Job, plan, unpack
from vqcodec.errors import UsageError, VqcodecError

if TYPE_CHECKING:
    from vqcodec.container import Archive

# Each is the suffix, too.
_FORMATS = ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "ppm", "pgm"]


@click.command()
@options.files
@options.codec
@click.option(
    "--levels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Decode the N coarsest levels only: a preview.",
)
@click.option(
    "--salvage", is_flag=True, help="Decode what is whole of a damaged file; say what is missing."
)
@click.option(
    "--codes",
    "columns",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use the first N codes of each cell only: a preview, of systems such as pqvae.",
)
@click.option(
    "--sample",
    "seed",
    type=click.IntRange(0, 2**63 - 1),
    metavar="SEED",
    help="Draw what the decoder may choose, of systems such as hqa.",
)
@click.option(
    "--average",
    type=click.IntRange(1, 10000),
    metavar="N",
    help="The mean of N pictures drawn as by --sample.",
)
@click.option(
    "--index",
    "number",
    type=click.IntRange(min=1),
    metavar="N",
    help="Decode picture N of an archive only, to a file or stdout.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(_FORMATS),
    metavar="FORMAT",
    help=f"{', '.join(_FORMATS)}.  [default: by OUT's suffix, else png]",
)
def decode(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    force: bool,
    device: str,
    threads: int | None,
    max_pixels: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    codec_id: str | None,
    levels: int | None,
    salvage: bool,
    columns: int | None,
    seed: int | None,
    average: int | None,
    number: int | None,
    format_name: str | None,
) -> int:
    """Make pictures of .vqc files.

    INPUT is a file, a folder or - (stdin). Several inputs, or a folder, go to the folder OUT;
    with -r its folders are repeated there. The pictures of an archive go to the folder OUT, or
    to one with the archive's name.
    """
    from vqcodec import archive, container, image, zoo

    suffix = f".{format_name or 'png'}"
    jobs = plan(inputs, output, recursive=recursive, input_suffixes=(".vqc",), output_suffix=suffix)

    @lru_cache(maxsize=1)
    def opened(name: str) -> "Archive":
        return container.read_archive(streams.read_vqc(name))

    def stems(name: str) -> Sequence[str]:
        try:
            return archive.stems(opened(name)) if streams.is_archive(name) else ()
        except VqcodecError:
            return ()  # its one job will tell

    if number is not None:
        jobs = [replace(job, index=number - 1) for job in jobs]
    else:
        folder = output if len(inputs) == 1 and not os.path.isdir(inputs[0]) else None
        jobs = unpack(jobs, folder, suffix, stems)
        as_file = folder and os.path.splitext(folder)[1][1:].lower() in _FORMATS
        if jobs[0].index is not None and (folder == STDIO or as_file):
            raise UsageError(
                f"{inputs[0]}: an archive goes to a folder; --index N picks a picture of it"
            )

    def work(job: Job) -> report.Done:
        job.check_output(force)
        if job.index is None:
            data = streams.read_vqc(job.input)
            n_bytes = len(data)
        else:
            pictures = opened(job.input)
            if job.index >= len(pictures):
                raise UsageError(f"picture {number} of {len(pictures)} does not exist")
            data = container.write(pictures[job.index])
            n_bytes = pictures.cost(job.index)
        first = levels
        missing: tuple[str, ...] = ()
        if salvage:
            whole, missing = container.salvage(data)
            data = container.write(whole)
            if missing:
                first = min(levels or len(whole.sections), len(whole.sections))
        content = container.read(data, first)  # what is broken is refused without torch
        named = format_name is None and job.output != STDIO
        format = image.format_of(Path(job.output) if named else Path("picture" + suffix))
        card = zoo.for_header(content.header, codec_id)
        options.use_threads(threads)
        model = zoo.load(card, device)  # which keeps it
        from vqcodec.codec import Choices, decompress

        begun = time.perf_counter()
        drawn = seed if average is None else seed or 0
        choices = Choices(columns, drawn, average or 1)
        picture = decompress(model, data, first, choices, max_pixels)
        if job.output == STDIO:
            stream = BytesIO()
            notes = image.write(picture, stream, format)
            streams.write(stream.getvalue())
        else:
            job.make_folder()
            notes = image.write(picture, Path(job.output), format, force=force)
        seconds = time.perf_counter() - begun

        width, height = picture.width, picture.height
        rate = card.rate_name(content.header.rate)
        section_bytes = [len(section) for section in content.sections]
        return report.Done(
            summary=f"{width}x{height}  {rate}  {text.speed(width, height, seconds)}",
            record={
                "bytes": n_bytes,
                "bpp": text.bpp(n_bytes, width, height),
                "rate": rate,
                "width": width,
                "height": height,
                "seconds": seconds,
                "sections": section_bytes,
                **({"missing": missing} if salvage else {}),
            },
            details=text.sections(section_bytes, width, height),
            warnings=missing + picture.notes + notes,
        )

    return report.run(jobs, work, as_json=as_json, quiet=quiet, verbose=verbose)
