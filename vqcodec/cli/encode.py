"""``vqcodec encode``: pictures to .vqc files."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli import options, report, streams, text
from vqcodec.cli.jobs import PICTURES, STDIO, Job, plan, plan_archive
from vqcodec.errors import OutputError

if TYPE_CHECKING:
    from vqcodec.codec import Codec
    from vqcodec.container import Container


@click.command()
@options.files
@click.option(
    "--rate",
    default="8bit",
    show_default=True,
    metavar="RATE",
    help="Quality 7.5bit, size 0.25bpp or 12kB, or fidelity 34dB.",
)
@options.codec
@click.option("--strip", is_flag=True, help="Drop EXIF and ICC profile.")
@click.option("--names", is_flag=True, help="Store the names of the files in an archive.")
def encode(
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
    rate: str,
    codec_id: str | None,
    strip: bool,
    names: bool,
) -> int:
    """Make .vqc files of pictures (PNG, JPEG, WebP, TIFF, BMP, PPM).

    INPUT is a file, a folder or - (stdin). Several inputs, or a folder, go to the folder OUT;
    with -r its folders are repeated there. If OUT ends in .vqc and is no folder, they become one
    file, an archive.

    RATE is the number of bits of the codebooks (7bit, 7.3bit: finer with more), the largest
    file (0.25bpp, 12kB, 12000B) or the least PSNR (34dB).
    """
    from vqcodec import archive, container, files, image, zoo

    card = zoo.find(codec_id)
    to_archive = plan_archive(inputs, output, recursive=recursive)
    jobs = to_archive or plan(
        inputs, output, recursive=recursive, input_suffixes=PICTURES, output_suffix=".vqc"
    )
    if names and not to_archive:
        raise click.UsageError("--names is for an archive: several inputs and -o X.vqc")
    packed: list[Container] = []

    def load() -> "Codec":
        from vqcodec import codec

        codec.parse_rate(rate)
        if to_archive:
            archive.check(len(jobs), rate)
        options.use_threads(threads)
        return zoo.load(card, device)  # which keeps it

    def work(job: Job) -> report.Done:
        job.check_output(force)
        source = streams.stdin() if job.input == STDIO else Path(job.input)
        picture = image.read(source, job.input, max_pixels)
        model = load()  # after reading: what is no picture is refused without torch
        from vqcodec.codec import compress

        begun = time.perf_counter()
        made = compress(model, picture, rate, strip=strip)
        if to_archive:
            content = container.read(made.data)
            packed.append(archive.with_name(content, Path(job.input).stem) if names else content)
        elif job.output == STDIO:
            streams.write(made.data)
        else:
            job.make_folder()
            with files.atomic_write(Path(job.output), force=force) as file:
                file.write(made.data)
        seconds = time.perf_counter() - begun

        width, height = made.width, made.height
        # In an archive the bytes of a picture depend on the others.
        size = {} if to_archive else _size(len(made.data), width * height)
        details = text.sections(made.section_bytes, width, height, made.ideal_bits)
        psnr_db = made.psnr_db
        if psnr_db is not None:
            details.append(f"PSNR {psnr_db:.2f} dB")
            psnr_db = psnr_db if math.isfinite(psnr_db) else None  # JSON has no infinity
        return report.Done(
            summary=_said(size) + f"{made.rate}  " + text.speed(width, height, seconds),
            record={
                **size,
                "rate": made.rate,
                "width": width,
                "height": height,
                "seconds": seconds,
                "sections": made.section_bytes,
                "ideal_bits": made.ideal_bits,
                "psnr_db": psnr_db,
            },
            details=details,
            warnings=picture.notes + made.notes + text.rounding(rate, made.rate),
        )

    def pack(job: Job) -> report.Done:
        if len(packed) < len(jobs):
            lost = len(jobs) - len(packed)
            raise OutputError(f"{job.output}: not written, as {lost} of its pictures failed")
        data = container.write_archive(packed)
        with files.atomic_write(Path(job.output), force=force) as file:
            file.write(data)
        size = _size(len(data), sum(one.header.width * one.header.height for one in packed))
        return report.Done(_said(size).rstrip(), {**size, "pictures": len(packed)})

    if to_archive:
        jobs[0].check_output(force)
    if len(jobs) > 1 or to_archive:
        load()  # a wrong rate is said once, not for each file
    if not to_archive:
        return report.run(jobs, work, as_json=as_json, quiet=quiet, verbose=verbose)
    whole = Job(f"{len(jobs)} picture{'s' if len(jobs) > 1 else ''}", jobs[0].output)
    return report.run(
        [*jobs, whole],
        lambda job: pack(job) if job is whole else work(job),
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
    )


def _size(n_bytes: int, n_pixels: int) -> dict[str, Any]:
    return {"bytes": n_bytes, "bpp": text.bpp(n_bytes, n_pixels, 1)}


def _said(size: dict[str, Any]) -> str:
    return f"{text.size(size['bytes'])}  {size['bpp']:.3f} bpp  " if size else ""
