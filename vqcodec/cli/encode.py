"""``vqcodec encode``: pictures to .vqc files."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli import options, report, streams, text
from vqcodec.cli.jobs import STDIO, Job, plan, plan_archive
from vqcodec.errors import OutputError, VqcodecError
from vqcodec.files import PICTURES
from vqcodec.progress import Progress, unseen
from vqcodec.rate import TUNES, parse_rate

if TYPE_CHECKING:
    from vqcodec.codec import Codec
    from vqcodec.compress import Compressed
    from vqcodec.image import Picture

_Read = tuple[Job, "Picture | report.Done | report.Failed"]
MOST = 256  # pictures that are read before they are encoded


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
@click.option(
    "--tune",
    type=click.Choice(TUNES),
    help="What matters: how it looks (visual) or PSNR. For codecs with that choice.",
)
@click.option("--strip", is_flag=True, help="Drop EXIF and ICC profile.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="Ray works on a cluster, and reads and writes s3://, gs://, file://. See docs/scale.md.",
)
@click.option("--address", metavar="HOST:PORT", help="Of a Ray cluster.  [default: this machine]")
@click.option("--names", is_flag=True, help="Store the names of the files in an archive.")
def encode(
    given: options.Files,
    rate: str,
    codec_id: str | None,
    tune: str | None,
    strip: bool,
    engine: str,
    address: str | None,
    names: bool,
) -> int:
    """Make .vqc files of pictures (PNG, JPEG, WebP, TIFF, BMP, PPM).

    INPUT is a file, a folder or - (stdin). Several inputs, or a folder, go to the folder OUT;
    with -r its folders are repeated there. If OUT ends in .vqc and is no folder, they become one
    file, an archive.

    RATE is the number of bits of the codebooks (7bit, 7.3bit: finer with more), the largest
    file (0.25bpp, 12kB, 12000B) or the least PSNR (34dB).
    """
    from vqcodec import archive, container, files, zoo

    card = zoo.find(codec_id).tuned(tune)
    if tune is not None:
        codec_id = f"{codec_id or zoo.DEFAULT}:{tune}"
    if engine == "ray":
        if len(given.inputs) > 1 or given.output is None or names:
            raise click.UsageError("--engine ray takes one folder or bucket, and one for -o OUT")
        results = _on_ray(
            given.inputs[0],
            given.output,
            rate,
            codec_id,
            strip,
            given.max_pixels,
            given.device,
            address=address,
        )
        return report.tell(lambda bar: results, None, style=given.style)
    to_archive = plan_archive(given.inputs, given.output, recursive=given.recursive)
    jobs = to_archive or plan(
        given.inputs,
        given.output,
        recursive=given.recursive,
        input_suffixes=PICTURES,
        output_suffix=".vqc",
    )
    if names and not to_archive:
        raise click.UsageError("--names is for an archive: several inputs and -o X.vqc")
    if given.update and to_archive:
        raise click.UsageError("--update is not for an archive, which is written as a whole")
    processes = given.processes(jobs)
    work = Encoding(
        codec_id, rate, given.device, given.threads_of(processes), given.max_pixels, strip=strip,
        force=given.force, update=given.update, to_archive=bool(to_archive), names=names,
    )  # fmt: skip

    def pack(contents: list[bytes]) -> report.Done:
        if len(contents) < len(jobs):
            lost = len(jobs) - len(contents)
            raise OutputError(f"{jobs[0].output}: not written, as {lost} of its pictures failed")
        packed = [container.read(content) for content in contents]
        data = container.write_archive(packed)
        with files.atomic_write(Path(jobs[0].output), force=given.force) as file:
            file.write(data)
        size = _size(len(data), sum(one.header.width * one.header.height for one in packed))
        return report.Done(_said(size).rstrip(), {**size, "pictures": len(packed)})

    if to_archive:
        jobs[0].check_output(given.force)
        archive.check(len(jobs), rate)
    if len(jobs) > 1 or to_archive:  # a wrong rate is said once, not for each file
        parse_rate(rate)
        if processes == 1:
            zoo.load(card, given.device)
    return report.run(
        jobs,
        work,
        processes=processes,
        archive=pack if to_archive else None,
        style=given.style,
    )


@dataclass(frozen=True)
class Encoding(report.Work):
    """Makes .vqc files of pictures. See the options of ``encode``."""

    codec_id: str | None
    rate: str
    device: str
    threads: int | None
    max_pixels: int
    strip: bool
    force: bool
    update: bool
    to_archive: bool
    names: bool

    def __call__(self, job: Job, progress: Progress = unseen, /) -> report.Done:
        picture = self._read(job)
        return picture if isinstance(picture, report.Done) else self._make(job, picture, progress)

    def each(
        self, jobs: Iterable[Job], progress: Progress = unseen, /
    ) -> Iterator[tuple[Job, report.Done | report.Failed]]:
        """As many small pictures at once as go through the networks together."""
        some: list[_Read] = []
        n_pixels = 0
        for job in jobs:
            picture = report.attempt(partial(self._read, job), job.input, job.output)
            some.append((job, picture))
            if not isinstance(picture, report.Done | report.Failed):
                n_pixels += picture.width * picture.height
            if n_pixels >= self._most_pixels(n_pixels) or len(some) == MOST:
                yield from self._all(some, progress)
                some, n_pixels = [], 0
        yield from self._all(some, progress)

    def _most_pixels(self, n_pixels: int) -> int:
        """Of pictures that are read before they are encoded."""
        try:
            return self._load().batch_pixels if n_pixels else 1
        except VqcodecError:
            return 0  # the next that needs the codec will tell

    def _all(
        self, some: list["_Read"], progress: Progress
    ) -> Iterator[tuple[Job, report.Done | report.Failed]]:
        pictures = [read for _, read in some if not isinstance(read, report.Done | report.Failed)]
        made: Iterator[Compressed] = iter(())
        if len(pictures) > 1:
            from vqcodec.compress import compress_many

            begun = time.perf_counter()
            # What one of them cannot do is told when each is done alone.
            with suppress(Exception):
                made = iter(compress_many(self._load(), pictures, self.rate, self.strip))
            seconds = (time.perf_counter() - begun) / len(pictures)
        for job, read in some:
            if isinstance(read, report.Done | report.Failed):
                yield job, read
                continue
            compressed = next(made, None)
            if compressed is None:
                write = partial(self._make, job, read, progress)
            else:
                write = partial(self._write, job, read, compressed, seconds)
            yield job, report.attempt(write, job.input, job.output)

    def _read(self, job: Job) -> "Picture | report.Done":
        """The picture, or that there is nothing to do."""
        from vqcodec import image

        if self.update and job.is_newer() and self._same_rate(job):
            return report.Done("up to date", {"up_to_date": True}, skipped=True)
        job.check_output(self._may_overwrite(job))
        source = streams.stdin() if job.input == STDIO else Path(job.input)
        return image.read(source, job.input, self.max_pixels)

    def _may_overwrite(self, job: Job) -> bool:
        return self.force or self.update or job.again

    def _make(self, job: Job, picture: "Picture", progress: Progress) -> report.Done:
        model = self._load()  # after reading: what is no picture is refused without torch
        from vqcodec.compress import compress

        begun = time.perf_counter()
        shown = progress if picture.width * picture.height >= report.LARGE else unseen
        made = compress(
            model, picture, self.rate, self.strip, progress=lambda _, share: shown(share)
        )
        return self._write(job, picture, made, time.perf_counter() - begun)

    def _write(
        self, job: Job, picture: "Picture", made: "Compressed", seconds: float
    ) -> report.Done:
        from vqcodec import archive, container, files

        content = b""
        if self.to_archive:
            content = made.data
            if self.names:
                whole = archive.with_name(container.read(content), Path(job.input).stem)
                content = container.write(whole)
        elif job.output == STDIO:
            streams.write(made.data)
        else:
            job.make_folder()
            with files.atomic_write(Path(job.output), force=self._may_overwrite(job)) as file:
                file.write(made.data)

        width, height = made.width, made.height
        # In an archive the bytes of a picture depend on the others.
        size = {} if self.to_archive else _size(len(made.data), width * height)
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
            warnings=picture.notes + made.notes + text.rounding(self.rate, made.rate),
            content=content,
        )

    def _load(self) -> "Codec":
        from vqcodec import zoo

        parse_rate(self.rate)
        options.use_threads(self.threads)
        return zoo.load(zoo.find(self.codec_id), self.device)  # which keeps it

    def _same_rate(self, job: Job) -> bool:
        """Whether the output is of this codec and, as far as a file tells, at this rate."""
        from vqcodec import container

        try:
            data = streams.read_vqc(job.output)
            header = container.read(data).header
        except VqcodecError:
            return False
        model, wanted = self._load(), parse_rate(self.rate)
        if (header.codec, header.weights_hash) != (model.card.number, model.card.hash):
            return False
        match wanted.kind:
            case "bit":
                return header.rate == model.rate_index(wanted)
            case "db":
                return True  # which only decoding would tell
            case _:
                scale = header.width * header.height / 8 if wanted.kind == "bpp" else 1
                return len(data) <= wanted.value * scale


def _on_ray(
    source: str,
    target: str,
    rate: str,
    *options_of_encoding: Any,
    address: str | None,
) -> Iterator[report.Result]:
    """Encodes on a cluster. Files that are up to date are left out in any case."""
    try:
        from vqcodec.engines import ray
        from vqcodec.engines.storage import Storage
    except ImportError as error:
        need = "--engine ray needs Ray and fsspec: pip install 'vqcodec[ray]'"
        raise click.UsageError(f"{need} ({error})") from None

    parse_rate(rate)
    task = ray.Encoding(Storage(source), Storage(target), rate, *options_of_encoding)
    for row in ray.encode(task, address=address):
        result: report.Done | report.Failed
        if "error" in row:
            result = report.Failed(row["error"], row["exit_code"])
        elif "up_to_date" in row:
            result = report.Done("up to date", {"up_to_date": True}, skipped=True)
        else:
            width, height, seconds = row["width"], row["height"], row["seconds"]
            record = {**_size(row["bytes"], width * height), "rate": row["rate"]}
            record |= {"width": width, "height": height, "seconds": seconds}
            said = _said(record) + f"{row['rate']}  {text.speed(width, height, seconds)}"
            result = report.Done(said, record)
        yield task.source.path(row["key"]), task.target.path(ray.output_of(row["key"])), result


def _size(n_bytes: int, n_pixels: int) -> dict[str, Any]:
    return {"bytes": n_bytes, "bpp": text.bpp(n_bytes, n_pixels, 1)}


def _said(size: dict[str, Any]) -> str:
    return f"{text.size(size['bytes'])}  {size['bpp']:.3f} bpp  " if size else ""
