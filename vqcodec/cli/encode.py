"""``vqcodec encode``: pictures to .vqc files."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from vqcodec.card import EFFORTS, TUNES
from vqcodec.cli import options, report, text
from vqcodec.cli.encoding import Encoding
from vqcodec.cli.failure import print_warning
from vqcodec.cli.jobs import Job, names_of, plan, plan_archive
from vqcodec.errors import OutputError, UsageError
from vqcodec.files import PICTURES
from vqcodec.rate import LARGEST_QUALITY, check_rate

# Suffixes of outputs that are asked for by mistake
_NOT_VQC = (*PICTURES, ".gif", ".avif", ".heic", ".jxl", ".jp2", ".pdf")

_EXAMPLES = """\b
Examples:
  vqcodec encode photo.png                  photo.vqc, at the codec's own quality
  vqcodec encode photo.png small.vqc --rate 12kB
  vqcodec encode -r photos -o small --quality 60 --jobs 4
"""


@click.command(cls=options.Stripping, epilog=_EXAMPLES)
@options.files
@click.option(
    "--rate",
    metavar="RATE",
    help="Quality 80q, size 0.25bpp or 12kB, fidelity 34dB, codebooks 7.5bit.  "
    "[default: $VQCODEC_RATE, or the codec's own]",
)
@options.number("--quality", "N", 0.0, LARGEST_QUALITY, help="The same as --rate Nq.")
@options.codec
@click.option(
    "--tune",
    type=click.Choice(TUNES),
    help="What matters: how it looks (visual) or PSNR. For codecs with that choice.",
)
@options.number(
    "--effort",
    "N",
    1,
    EFFORTS,
    default=1,
    help="Search longer for codes that make smaller files, or better pictures. "
    "--update does not see it.",
)
@click.option(
    "--strip",
    type=click.Choice(["metadata", "all"]),
    metavar="[all]",
    help="Drop EXIF, XMP and resolution; all: make the colours sRGB and drop the profile too.",
)
@click.option(
    "--salvage", is_flag=True, help="Take what is there of a JPEG or PNG that ends early."
)
@click.option("--keep-suffix", is_flag=True, help="Name the file of a.png a.png.vqc, not a.vqc.")
@click.option("--names", is_flag=True, help="Store the names of the files in an archive.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="Ray works on a cluster, and reads and writes s3://, gs://, file://. See docs/scale.md.",
)
@click.option("--address", metavar="HOST:PORT", help="Of a Ray cluster.  [default: this machine]")
def encode(
    given: options.Files,
    rate: str | None,
    quality: float | None,
    codec_id: str | None,
    tune: str | None,
    effort: int,
    strip: str | None,
    salvage: bool,
    keep_suffix: bool,
    names: bool,
    engine: str,
    address: str | None,
) -> int:
    """Make .vqc files of pictures (PNG, JPEG, WebP, TIFF, AVIF, GIF, ...).

    HEIC and JPEG XL need packages: pip install pillow-heif pillow-jxl-plugin.

    INPUT is a file, a folder or - (stdin). Several inputs, or a folder, go to the folder OUT;
    with -r its folders are repeated there. If OUT ends in .vqc and is no folder, they become one
    file, an archive. Of two names the second is OUT if it ends in .vqc.

    RATE is the least quality, by SSIMULACRA2 (80q: 90 is hard to tell from the original, 70 is
    good, 50 fair), the largest file (0.25bpp, 12kB, 12000B), the least PSNR (34dB), or the number
    of bits of the codebooks (7bit, 7.3bit: finer with more).
    """
    from vqcodec import zoo

    if rate is not None and quality is not None:
        raise click.UsageError("--quality N is the same as --rate Nq: one of them is enough")
    card = zoo.find(codec_id).tuned(tune, effort if effort > 1 else None)
    for chosen in (tune, f"effort{effort}" if effort > 1 else None):
        if chosen is not None:
            codec_id = f"{codec_id or zoo.default_codec()}:{chosen}"
    rate = rate if quality is None else f"{quality:g}q"
    if rate is None:
        rate = zoo.default_rate(card)
    else:
        check_rate(card, rate)  # a wrong one is said once, not for each file
    if engine == "ray":
        if len(given.inputs) > 1 or given.output is None or names or keep_suffix:
            raise click.UsageError("--engine ray takes one folder or bucket, and one for -o OUT")
        return _on_ray(given, given.output, rate, codec_id, strip or False, address)

    inputs, output = names_of(given.inputs, given.output, _is_output)
    if output is None and len(inputs) == 2 and _is_other_output(*inputs):
        raise UsageError(f"{inputs[1]}: no such picture, and encode makes files that end in .vqc")
    if output and not os.path.isdir(output) and output.lower().endswith(_NOT_VQC):
        raise UsageError(f"{output}: encode makes .vqc files; decode makes other pictures of them")
    leave_out = (lambda why: None) if given.quiet else print_warning
    archived = plan_archive(inputs, output, recursive=given.recursive, leave_out=leave_out)
    jobs = archived or plan(
        inputs,
        output,
        recursive=given.recursive,
        input_suffixes=PICTURES,
        output_suffix=".vqc",
        keep_suffix=keep_suffix,
        leave_out=leave_out,
    )
    if names and not archived:
        raise click.UsageError("--names is for an archive: several inputs and -o X.vqc")
    if given.update and archived:
        raise click.UsageError("--update is not for an archive, which is written as a whole")
    if archived:
        from vqcodec import archive

        jobs[0].check_output(given.force)
        archive.check(len(jobs), rate or card.default_rate)
    processes = given.processes(jobs)
    work = Encoding(
        codec_id, rate, given.device, given.threads_of(processes), given.max_pixels,
        strip=strip or False, salvage=salvage, names=names and bool(archived),
        force=given.force, update=given.update, to_archive=bool(archived),
        measure=given.verbose,
    )  # fmt: skip
    return report.run(
        jobs,
        work,
        processes=processes,
        archive=_packing(jobs, given.force) if archived else None,
        style=given.style,
    )


def _is_output(name: str) -> bool:
    return name.lower().endswith(".vqc")


def _is_other_output(first: str, second: str) -> bool:
    """Whether ``encode a.png b.jpg`` is meant to make b.jpg, and not to encode it too."""
    one, other = (os.path.splitext(name)[1].lower() for name in (first, second))
    return one != other and not os.path.exists(second)


def _packing(jobs: Sequence[Job], force: bool) -> Callable[[list[report.Done]], report.Done]:
    """What makes one file of all, in ``report.run``."""

    def pack(made: list[report.Done]) -> report.Done:
        from vqcodec import container, files

        if len(made) < len(jobs):
            lost = len(jobs) - len(made)
            raise OutputError(f"{jobs[0].output}: not written, as {lost} of its pictures failed")
        packed = [container.read(one.content) for one in made]
        data = container.write_archive(packed)
        with files.atomic_write(Path(jobs[0].output), force=force) as file:
            file.write(data)
        bpp = text.bpp(len(data), sum(one.header.width * one.header.height for one in packed), 1)
        n_read = sum(one.n_read for one in made)
        return report.Done(
            f"{text.sizes(n_read, len(data))}  {bpp:.3f} bpp",
            {"bytes": len(data), "bpp": bpp, "pictures": len(packed), "input_bytes": n_read},
            warnings=text.growth(n_read, len(data)),
        )

    return pack


def _on_ray(
    given: options.Files,
    output: str,
    rate: str | None,
    codec_id: str | None,
    strip: bool | str,
    address: str | None,
) -> int:
    """Encodes on a cluster. Files that are up to date are left out in any case."""
    try:
        from vqcodec.engines import ray
        from vqcodec.engines.storage import Storage
    except ImportError as error:
        need = "--engine ray needs Ray and fsspec: pip install 'ray[data]' fsspec"
        raise click.UsageError(f"{need} ({error})") from None

    task = ray.Encoding(
        Storage(given.inputs[0]), Storage(output), rate, codec_id, strip, given.max_pixels,
        given.device,
    )  # fmt: skip

    def results(bar: object) -> Iterator[report.Result]:
        for row in ray.encode(task, address=address):
            result: report.Done | report.Failed
            if "error" in row:
                result = report.Failed(row["error"], row["exit_code"])
            elif "up_to_date" in row:
                result = report.Done("up to date", {"up_to_date": True}, skipped=True)
            else:
                n_bytes, seconds = row["bytes"], row["seconds"]
                bpp = text.bpp(n_bytes, row["width"], row["height"])
                said = f"{text.size(n_bytes)}  {bpp:.3f} bpp  {row['rate']}  "
                record = {key: row[key] for key in ("bytes", "rate", "width", "height", "seconds")}
                result = report.Done(said + text.seconds(seconds), {**record, "bpp": bpp})
            output = task.target.path(ray.output_of(row["key"]))
            yield task.source.path(row["key"]), output, result

    return report.tell(results, None, style=given.style)
