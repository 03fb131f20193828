"""``vqcodec decode``: .vqc files to pictures."""

import time
from io import BytesIO
from pathlib import Path

import click

from vqcodec.cli import options, report, streams, text
from vqcodec.cli.jobs import STDIO, Job, plan

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
    as_json: bool,
    quiet: bool,
    verbose: bool,
    codec_id: str | None,
    levels: int | None,
    format_name: str | None,
) -> int:
    """Make pictures of .vqc files.

    INPUT is a file, a folder or - (stdin). Several inputs, or a folder, go to the folder OUT;
    with -r its folders are repeated there.
    """
    from vqcodec import container, image, zoo

    suffix = f".{format_name or 'png'}"
    jobs = plan(inputs, output, recursive=recursive, input_suffixes=(".vqc",), output_suffix=suffix)

    def work(job: Job) -> report.Done:
        job.check_output(force)
        named = format_name is None and job.output != STDIO
        format = image.format_of(Path(job.output) if named else Path("picture" + suffix))
        data = streams.read_vqc(job.input)
        content = container.read(data, levels)  # what is broken is refused without torch
        card = zoo.for_header(content.header, codec_id)
        options.use_threads(threads)
        model = zoo.load(card, device)  # which keeps it
        from vqcodec.codec import decompress

        begun = time.perf_counter()
        picture = decompress(model, data, levels)
        if job.output == STDIO:
            stream = BytesIO()
            notes = image.write(picture, stream, format)
            streams.write(stream.getvalue())
        else:
            job.make_folder()
            notes = image.write(picture, Path(job.output), format, force=force)
        seconds = time.perf_counter() - begun

        width, height = picture.width, picture.height
        rate = text.rate(content.header.rate, card.system)
        section_bytes = [len(section) for section in content.sections]
        return report.Done(
            summary=f"{width}x{height}  {rate}  {text.speed(width, height, seconds)}",
            record={
                "bytes": len(data),
                "bpp": text.bpp(len(data), width, height),
                "rate": rate,
                "width": width,
                "height": height,
                "seconds": seconds,
                "sections": section_bytes,
            },
            details=text.sections(section_bytes, width, height),
            warnings=picture.notes + notes,
        )

    return report.run(jobs, work, as_json=as_json, quiet=quiet, verbose=verbose)
