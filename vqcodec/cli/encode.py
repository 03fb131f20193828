"""``vqcodec encode``: pictures to .vqc files."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqcodec.cli import options, report, streams, text
from vqcodec.cli.jobs import PICTURES, STDIO, Job, plan

if TYPE_CHECKING:
    from vqcodec.codec import Codec


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
def encode(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    force: bool,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    rate: str,
    codec_id: str | None,
    strip: bool,
) -> int:
    """Make .vqc files of pictures (PNG, JPEG, WebP, TIFF, BMP, PPM).

    INPUT is a file, a folder or - (stdin). Several inputs, or a folder, go to the folder OUT;
    with -r its folders are repeated there.

    RATE is the number of bits of the codebooks (7bit, 7.3bit: finer with more), the largest
    file (0.25bpp, 12kB, 12000B) or the least PSNR (34dB).
    """
    from vqcodec import files, image, zoo

    card = zoo.find(codec_id)
    jobs = plan(inputs, output, recursive=recursive, input_suffixes=PICTURES, output_suffix=".vqc")

    def load() -> "Codec":
        from vqcodec import codec

        codec.parse_rate(rate)
        options.use_threads(threads)
        return zoo.load(card, device)  # which keeps it

    def work(job: Job) -> report.Done:
        job.check_output(force)
        source = streams.stdin() if job.input == STDIO else Path(job.input)
        picture = image.read(source, job.input)
        model = load()  # after reading: what is no picture is refused without torch
        from vqcodec.codec import compress

        begun = time.perf_counter()
        made = compress(model, picture, rate, strip=strip)
        if job.output == STDIO:
            streams.write(made.data)
        else:
            job.make_folder()
            with files.atomic_write(Path(job.output), force=force) as file:
                file.write(made.data)
        seconds = time.perf_counter() - begun

        n_bytes, width, height = len(made.data), made.width, made.height
        bpp = text.bpp(n_bytes, width, height)
        details = text.sections(made.section_bytes, width, height, made.ideal_bits)
        psnr_db = made.psnr_db
        if psnr_db is not None:
            details.append(f"PSNR {psnr_db:.2f} dB")
            psnr_db = psnr_db if math.isfinite(psnr_db) else None  # JSON has no infinity
        return report.Done(
            summary=f"{text.size(n_bytes)}  {bpp:.3f} bpp  {made.rate}  "
            + text.speed(width, height, seconds),
            record={
                "bytes": n_bytes,
                "bpp": bpp,
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

    if len(jobs) > 1:
        load()  # a wrong rate is said once, not for each file
    return report.run(jobs, work, as_json=as_json, quiet=quiet, verbose=verbose)
