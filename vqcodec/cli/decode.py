"""``vqcodec decode``: .vqc files to pictures."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli import options, report, streams, text
from vqcodec.cli.failure import print_warning
from vqcodec.cli.jobs import STDIO, Job, names_of, plan, unpack
from vqcodec.errors import UsageError, VqcodecError
from vqcodec.files import WRITTEN
from vqcodec.rate import rate_name

if TYPE_CHECKING:
    from vqcodec.container import Archive

_FORMATS = [suffix[1:] for suffix in WRITTEN]


class Region(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2
    """Four numbers with commas between."""

    name = "region"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", value, re.ASCII)
        if not match:
            self.fail(f"{value!r} is not x,y,width,height", param, ctx)
        return tuple(map(int, match.groups()))


_EXAMPLES = """\b
Examples:
  vqcodec decode photo.vqc                  photo.png
  vqcodec decode photo.vqc part.jpg --region 0,0,640,480
"""


@click.command(epilog=_EXAMPLES)
@options.files
@options.codec
@options.number("--levels", "N", help="Decode the N coarsest levels only: a preview.")
@click.option(
    "--salvage", is_flag=True, help="Decode what is whole of a damaged file; say what is missing."
)
@options.number(
    "--codes columns",
    "N",
    help="Use the first N codes of each cell only: a preview, of systems such as pqvae.",
)
@click.option(
    "--sample",
    "seed",
    type=options.SEED,
    metavar="SEED",
    help="Draw what the decoder may choose, of systems such as hqa.",
)
@options.number("--average", "N", 1, 10000, help="The mean of N pictures drawn as by --sample.")
@options.number(
    "--index number",
    "N",
    help="Decode picture N of an archive only, to a file or stdout; the first is 1.",
)
@click.option(
    "--region",
    type=Region(),
    metavar="X,Y,W,H",
    help="Decode this part only: pixels from the left and the top, width, height.",
)
@click.option(
    "--background",
    type=options.Colour(),
    metavar="COLOUR",
    help="Put this behind the picture, which then has no alpha: white, #ff8000, 255,128,0.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(_FORMATS),
    metavar="FORMAT",
    help=f"{', '.join(_FORMATS)}.  [default: by OUT's suffix, else png]",
)
def decode(
    given: options.Files,
    codec_id: str | None,
    levels: int | None,
    salvage: bool,
    columns: int | None,
    seed: int | None,
    average: int | None,
    number: int | None,
    region: tuple[int, int, int, int] | None,
    background: tuple[int, int, int] | None,
    format_name: str | None,
) -> int:
    """Make pictures of .vqc files.

    INPUT is a file, a folder or - (stdin). Several inputs, or a folder, go to the folder OUT;
    with -r its folders are repeated there. The pictures of an archive go to the folder OUT, or
    to one with the archive's name. Of two names the second is OUT if it is that of a picture.
    """
    from vqcodec import archive

    _opened.cache_clear()  # of another command in this process
    inputs, output = names_of(given.inputs, given.output, _is_output)
    if output and output.lower().endswith(".vqc") and not os.path.isdir(output):
        raise UsageError(f"{output}: decode makes pictures, such as .png; encode makes .vqc files")
    suffix = f".{format_name or 'png'}"
    jobs = plan(
        inputs,
        output,
        recursive=given.recursive,
        input_suffixes=(".vqc",),
        output_suffix=suffix,
        leave_out=(lambda why: None) if given.quiet else print_warning,
    )

    def stems(name: str) -> Sequence[str]:
        try:
            return archive.stems(_opened(name)) if streams.is_archive(name) else ()
        except VqcodecError:
            return ()  # its one job will tell

    if number is not None:
        jobs = [replace(job, index=number - 1) for job in jobs]
    else:
        one_file = len(inputs) == 1 and not os.path.isdir(inputs[0])
        folder = output if one_file else None
        jobs = unpack(jobs, folder, suffix, stems)
        as_file = folder and os.path.splitext(folder)[1][1:].lower() in _FORMATS
        if jobs[0].index is not None and (folder == STDIO or as_file):
            raise UsageError(
                f"{inputs[0]}: an archive goes to a folder; --index N picks a picture of it"
            )

    processes = given.processes(jobs)
    drawn = seed if average is None else seed or 0
    work = Decoding(
        codec_id, given.device, given.threads_of(processes), given.max_pixels, format_name, levels,
        columns, drawn, average or 1, region, background,
        salvage=salvage, force=given.force, update=given.update,
    )  # fmt: skip
    return report.run(jobs, work, processes=processes, style=given.style)


@dataclass(frozen=True)
class Decoding(report.Work):
    """Makes a picture of a .vqc file. See the options of ``decode``."""

    codec_id: str | None
    device: str
    threads: int | None
    max_pixels: int
    format_name: str | None
    levels: int | None
    columns: int | None
    seed: int | None
    average: int
    region: tuple[int, int, int, int] | None
    background: tuple[int, int, int] | None
    salvage: bool
    force: bool
    update: bool

    def __call__(self, job: Job, watcher: report.Watcher = report.NOBODY, /) -> report.Done:
        from vqcodec import container, image, zoo
        from vqcodec.boxes import ALPHA
        from vqcodec.image import rowfile

        if self.update and job.is_newer():
            return report.Done("up to date", {"up_to_date": True}, skipped=True)
        force = self.force or self.update or job.again
        data, n_bytes = self._file(job)
        job.check_output(force)
        first = self.levels
        missing: tuple[str, ...] = ()
        if self.salvage:
            whole, missing = container.salvage(data)
            data = container.write(whole)
            if missing:
                first = min(first or len(whole.sections), len(whole.sections))
        content = container.read(data, first)  # what is broken is refused without weights
        if self.region:
            content.header.check_region(*self.region)
        named = self.format_name is None and job.output != STDIO
        format = image.format_of(
            Path(job.output) if named else Path(f"picture.{self.format_name or 'png'}")
        )
        alpha, grey = any(box.type == ALPHA for box in content.boxes), content.header.grey
        if alpha and self.background:
            alpha, grey = False, grey and len(set(self.background)) == 1
        image.check_holds(format, alpha=alpha, grey=grey)
        card = zoo.for_header(content.header, self.codec_id)
        if (self.columns, self.seed, self.average) != (None, None, 1):
            card.check_choices()
        watcher.show(f"loading {card.id}")
        model = zoo.load_decoder(card, self.device)  # which keeps it
        options.use_threads(self.threads)
        from vqcodec.decompress import Choices, decompress, decompress_rows

        begun = time.perf_counter()
        large = content.header.width * content.header.height >= report.LARGE
        choices = Choices(self.columns, self.seed, self.average)
        shown = partial(watcher.show, "decoding")
        how = model, data, first, choices, self.region, shown, self.max_pixels
        target = streams.Stdout() if job.output == STDIO else Path(job.output)
        if isinstance(target, Path):
            job.make_folder()
        if large and format in rowfile.FORMATS:
            rows = decompress_rows(*how)
            if self.background:
                rows = image.blended_rows(rows, self.background)
            notes = rowfile.write(rows, target, format, force=force)
            width, height = rows.width, rows.height
        else:
            picture = decompress(*how)
            if self.background:
                picture = image.blended(picture, self.background)
            notes = image.write(picture, target, format, force=force)
            width, height = picture.width, picture.height
        seconds = time.perf_counter() - begun

        rate = rate_name(card, content.header.rate)
        section_bytes = [len(section) for section in content.sections]
        size = content.header.width, content.header.height
        n_written = os.path.getsize(target) if isinstance(target, Path) else target.n_bytes
        return report.Done(
            summary="  ".join(
                [text.sizes(n_bytes, n_written), f"{width}x{height}", rate, text.seconds(seconds)]
            ),
            record={
                "bytes": n_bytes,
                "bpp": text.bpp(n_bytes, *size),
                "output_bytes": n_written,
                "rate": rate,
                "width": width,
                "height": height,
                "seconds": seconds,
                "sections": section_bytes,
                **({"missing": missing} if self.salvage else {}),
            },
            details=text.sections(section_bytes, *size),
            warnings=missing + notes,
            n_read=n_bytes,
            n_written=n_written,
        )

    def _file(self, job: Job) -> tuple[bytes, int]:
        """A file of one picture, and the bytes that it has, or adds to its archive."""
        from vqcodec import archive, container

        if job.index is None:
            data = streams.read_vqc(job.input)
            return data, len(data)
        pictures = _opened(job.input)
        picture = archive.picked(pictures, job.index + 1)
        return container.write(picture), pictures.cost(job.index)


def _is_output(name: str) -> bool:
    suffix = os.path.splitext(name)[1][1:].lower()
    # What is not there is no input, unless it looks like one: that its format is unknown is told.
    return suffix in _FORMATS or (suffix not in ("", "vqc") and not os.path.exists(name))


@lru_cache(maxsize=1)
def _opened(name: str) -> "Archive":
    return streams.open_archive(name)
