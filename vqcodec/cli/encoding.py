"""The work of ``vqcodec encode``: .vqc files of pictures, several at once where they are small."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vqcodec.cli import options, report, streams, text
from vqcodec.cli.jobs import STDIO, Job
from vqcodec.errors import ImageError, VqcodecError
from vqcodec.rate import parse_rate, rate_index

if TYPE_CHECKING:
    from vqcodec.codec import Codec
    from vqcodec.compress import Compressed
    from vqcodec.image import Picture

MOST = 256  # pictures that are read before they are encoded


class Source(NamedTuple):
    """A picture, and the bytes of the file that it came from."""

    picture: "Picture"
    n_bytes: int


_Read = tuple[Job, "Source | report.Done | report.Failed"]


@dataclass(frozen=True)
class Encoding(report.Work):
    """Makes .vqc files of pictures. See the options of ``encode``."""

    codec_id: str | None
    rate: str | None  # None: the codec's own
    device: str
    threads: int | None
    max_pixels: int
    strip: bool | str
    salvage: bool
    force: bool
    update: bool
    to_archive: bool
    names: bool
    measure: bool  # the quality reached, also where the rate does not ask for it

    def __call__(self, job: Job, watcher: report.Watcher = report.NOBODY, /) -> report.Done:
        source = self._read(job)
        return source if isinstance(source, report.Done) else self._make(job, source, watcher)

    def each(
        self, jobs: Iterable[Job], watcher: report.Watcher = report.NOBODY, /
    ) -> Iterator[tuple[Job, report.Done | report.Failed]]:
        """As many small pictures at once as go through the networks together."""
        some: list[_Read] = []
        n_pixels = 0
        for job in jobs:
            source = report.attempt(partial(self._read, job), job.input, job.output)
            some.append((job, source))
            if isinstance(source, Source):
                n_pixels += source.picture.width * source.picture.height
            if n_pixels >= self._most_pixels(n_pixels, watcher) or len(some) == MOST:
                yield from self._all(some, watcher)
                some, n_pixels = [], 0
        yield from self._all(some, watcher)

    def _most_pixels(self, n_pixels: int, watcher: report.Watcher) -> int:
        """Of pictures that are read before they are encoded."""
        try:
            return self._load(watcher).batch_pixels if n_pixels else 1
        except VqcodecError:
            return 0  # the next that needs the codec will tell

    def _all(
        self, some: list[_Read], watcher: report.Watcher
    ) -> Iterator[tuple[Job, report.Done | report.Failed]]:
        pictures = [read.picture for _, read in some if isinstance(read, Source)]
        made: Iterator[Compressed] = iter(())
        if len(pictures) > 1:
            from vqcodec.compress import compress_many

            begun = time.perf_counter()
            # What one of them cannot do is told when each is done alone.
            with suppress(Exception):
                made = iter(compress_many(self._load(watcher), pictures, self.rate, self.strip))
            seconds = (time.perf_counter() - begun) / len(pictures)
        for job, read in some:
            if not isinstance(read, Source):
                yield job, read
                continue
            compressed = next(made, None)
            if compressed is None:
                write = partial(self._make, job, read, watcher)
            else:
                write = partial(self._write, job, read, compressed, seconds)
            yield job, report.attempt(write, job.input, job.output)

    def _read(self, job: Job) -> Source | report.Done:
        """The picture, or that there is nothing to do."""
        from vqcodec import image

        if self.update and job.is_newer() and self._same_rate(job):
            return report.Done("up to date", {"up_to_date": True}, skipped=True)
        if streams.is_vqc(job.input):
            raise ImageError(f"{job.input}: is a .vqc file already; decode makes a picture of it")
        job.check_output(self._may_overwrite(job))
        file, n_bytes = streams.open_picture(job.input)
        return Source(image.read(file, job.input, self.max_pixels, salvage=self.salvage), n_bytes)

    def _may_overwrite(self, job: Job) -> bool:
        return self.force or self.update or job.again

    def _make(self, job: Job, source: Source, watcher: report.Watcher) -> report.Done:
        model = self._load(watcher)  # after reading: what is no picture is refused without torch
        from vqcodec.compress import compress

        tried: list[str] = []

        def progress(rate: str, share: float) -> None:
            if rate not in tried[-1:]:
                tried.append(rate)
            which = f"try {len(tried)}: " if len(tried) > 1 else ""
            watcher.show(f"{which}{rate}", share)

        begun = time.perf_counter()
        made = compress(model, source.picture, self.rate, self.strip, progress=progress)
        return self._write(job, source, made, time.perf_counter() - begun)

    def _write(self, job: Job, source: Source, made: "Compressed", seconds: float) -> report.Done:
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

        if self.measure:
            from vqcodec.compress import with_quality

            made = with_quality(self._load(report.NOBODY), source.picture, made, self.strip)
        width, height, n_bytes = made.width, made.height, len(made.data)
        said, details = [], text.sections(made.section_bytes, width, height, made.ideal_bits)
        size: dict[str, Any] = {}
        if not self.to_archive:  # in which the bytes of a picture depend on the others
            size = {"bytes": n_bytes, "bpp": text.bpp(n_bytes, width, height)}
            said += [text.sizes(source.n_bytes, n_bytes), f"{size['bpp']:.3f} bpp"]
        said.append(made.rate)
        psnr_db, quality = made.psnr_db, made.quality
        if psnr_db is not None:
            said.append(f"{psnr_db:.2f} dB")
            details.append(f"PSNR {psnr_db:.2f} dB")
            psnr_db = psnr_db if math.isfinite(psnr_db) else None  # JSON has no infinity
        if quality is not None:
            said.append(f"{quality:.1f}q")
            details.append(f"SSIMULACRA2 {quality:.2f}")
        return report.Done(
            summary="  ".join([*said, text.seconds(seconds)]),
            record={
                **size,
                "input_bytes": source.n_bytes,
                "rate": made.rate,
                "width": width,
                "height": height,
                "seconds": seconds,
                "sections": made.section_bytes,
                "ideal_bits": made.ideal_bits,
                "psnr_db": psnr_db,
                "ssimulacra2": quality,
                "not_kept": source.picture.lost,
            },
            details=details,
            warnings=self._warnings(source, made),
            content=content,
            n_read=source.n_bytes,
            n_written=n_bytes,
        )

    def _warnings(self, source: Source, made: "Compressed") -> tuple[str, ...]:
        picture = source.picture
        lost: tuple[str, ...] = ()
        if picture.lost and not self.strip:
            lost = (f"not kept: {', '.join(picture.lost)}",)
        larger = () if self.to_archive else text.growth(source.n_bytes, len(made.data))
        rounded = text.rounding(self.rate or "", made.rate)
        return picture.notes + lost + made.notes + rounded + larger

    def _load(self, watcher: report.Watcher) -> "Codec":
        from vqcodec import zoo

        card = zoo.find(self.codec_id)
        watcher.show(f"loading {card.id}")
        codec = zoo.load(card, self.device)  # which keeps it
        options.use_threads(self.threads)
        return codec

    def _same_rate(self, job: Job) -> bool:
        """Whether the output is of this codec and, as far as a file tells, at this rate."""
        from vqcodec import container, zoo

        try:
            data = streams.read_vqc(job.output)
            header = container.read(data).header
        except VqcodecError:
            return False
        card = zoo.find(self.codec_id)
        wanted = parse_rate(self.rate or card.default_rate)
        if (header.codec, header.weights_hash) != (card.number, card.hash):
            return False
        match wanted.kind:
            case "bit":
                return header.rate == rate_index(card, wanted)
            case "db" | "quality":
                return True  # which only decoding would tell
            case _:
                scale = header.width * header.height / 8 if wanted.kind == "bpp" else 1
                return len(data) <= wanted.value * scale
