"""``vqcodec bench``: our codecs against JPEG, WebP, AVIF, JPEG XL and JPEG 2000."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqcodec.card import TUNES
from vqcodec.cli import options
from vqcodec.cli.failure import print_error, print_warning
from vqcodec.cli.jobs import pictures_in
from vqcodec.errors import OutputError, RateError, one_line
from vqcodec.files import atomic_write, check_output, make_folder
from vqcodec.progress import Bars

if TYPE_CHECKING:
    from vqcodec.bench.plan import Plan


def _references() -> list[str]:
    from vqcodec.bench import references

    return list(references.available())


_EXAMPLES = """\b
Examples:
  vqcodec bench PICTURES --html report.html
  vqcodec bench photo.png --vs jpeg,avif --rates 7bit,34dB --no-speed
"""


@click.command(epilog=_EXAMPLES)
@click.argument("inputs", metavar="DIR|IMAGE...", nargs=-1, required=True, type=options.FILE)
@click.option(
    "--codec",
    "codecs",
    type=options.CODEC,
    metavar="ID|DIR",
    multiple=True,
    help="Ours; may be repeated.",
)
@click.option(
    "--vs",
    metavar="LIST",
    type=options.Names(_references),
    callback=options.names,
    help="References, such as jpeg,webp,avif,jxl,jpeg2000.  [default: all at hand]",
)
@click.option("--external", is_flag=True, help="Also cjxl, avifenc and mozjpeg found on PATH.")
@click.option(
    "--rates", metavar="LIST", callback=options.names, help="Ours.  [default: 5bit,5.5bit...]"
)
@click.option(
    "--tune",
    "tunes",
    metavar="LIST",
    type=options.Names(lambda: TUNES),
    callback=options.names,
    help="Ours, where a codec has the choice: visual, psnr or both.",
)
@options.metrics(
    "Such as psnr,ms_ssim, or all.  [default: psnr,psnr_y,ssimulacra2; of ours and AVIF also the "
    "panel of seven others, with vqcodec's extra bench]"
)
@click.option("--html", metavar="FILE", type=options.PATH, help="A page to look at.")
@click.option("--json", "json_", metavar="FILE", type=options.PATH, help="All that was measured.")
@click.option(
    "--csv", "csv_", metavar="FILE", type=options.PATH, help="A line per picture and setting."
)
@click.option("--plot", metavar="FILE", type=options.PATH, help="Curves as PNG.")
@click.option(
    "--cache",
    metavar="DIR",
    type=options.PATH,
    help="Keep here what is measured, and use what is there.",
)
@options.number("--jobs", "N", help="Processes that measure pictures.  [default: as many as cores]")
@options.number("--limit", "N", help="The first N pictures.")
@options.recursive
@click.option("--no-speed", is_flag=True, help="Leave out the timing, which needs an idle machine.")
@click.option("--force", is_flag=True, help="Overwrite outputs that exist.")
@options.device
@options.threads
@options.quiet
def bench(
    inputs: Sequence[str],
    codecs: tuple[str, ...],
    vs: tuple[str, ...],
    external: bool,
    rates: tuple[str, ...],
    tunes: tuple[str, ...],
    metrics: tuple[str, ...],
    html: Path | None,
    json_: Path | None,
    csv_: Path | None,
    plot: Path | None,
    cache: Path | None,
    jobs: int | None,
    limit: int | None,
    recursive: bool,
    no_speed: bool,
    force: bool,
    device: str,
    threads: int | None,
    quiet: bool,
) -> int:
    """Compare codecs on pictures, by the bytes of finished files.

    Without other options: the default codec against every reference that the installed Pillow has
    (JPEG XL with `pip install pillow-jxl-plugin`), as tables in the terminal.
    """
    paths = pictures_in(inputs, recursive)[:limit]
    _check_outputs([path for path in (html, json_, csv_, plot) if path], paths, force)
    plan = _plan(codecs, tunes, vs, external, rates, metrics, html is not None)
    if cache:
        make_folder(cache)
    if plot:
        options.need_matplotlib("--plot")
    # What follows brings torch: what can be refused without it has been.
    from rich.console import Console

    from vqcodec import zoo
    from vqcodec.bench import output, report, speed, summary
    from vqcodec.bench.run import run
    from vqcodec.image import read_rgb

    options.use_threads(threads)
    plan = replace(plan, device=zoo.device_of(device))
    with Bars(quiet) as bars:
        with bars.task("pictures measured", len(paths)) as advance:
            records, skipped = run(
                paths,
                plan,
                jobs=jobs or min(os.cpu_count() or 1, len(paths)),
                cache=cache,
                advance=advance,
            )
        for row in skipped:
            print_error(one_line(f"{row['path']}: {row['why']}"), row["exit_code"])
        if not records:
            return int(skipped[0]["exit_code"])
        left_out = summary.left_out(records, plan)
        if not any(record["points"][codec] for record in records for codec in plan.codecs):
            raise RateError(left_out[0])
        for line in () if quiet else left_out:
            print_warning(line)
        timed: dict[str, Any] = {}
        if not no_speed:
            unread = {row["path"] for row in skipped}
            pixels = read_rgb(next(path for path in paths if str(path) not in unread))
            with bars.task(
                "settings timed", 2 * len(plan.codecs) + len(plan.references)
            ) as advance:
                timed = speed.all_of(plan, pixels, cache, advance)
    pictures = [record["picture"] for record in records if "picture" in record]
    result = summary.report(
        records,
        plan,
        command=shlex.join(["vqcodec", *sys.argv[1:]]),
        skipped=skipped,
        **timed,
    )
    if json_:
        _write(json_, json.dumps(result, ensure_ascii=False, separators=(",", ":")), force)
    if csv_:
        _write(csv_, output.to_csv(result), force)
    if html:
        _write(html, report.html(result, pictures), force)
    if plot:
        _write(plot, output.plot(result), force)
    if not quiet:
        output.print_report(result, Console())
    return int(skipped[0]["exit_code"]) if skipped else 0


def _check_outputs(outputs: Sequence[Path], inputs: Sequence[Path], force: bool) -> None:
    """Before the work, and not after it."""
    taken = {os.path.realpath(path) for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in taken:
            raise OutputError(f"{path}: is an input or another output")
        taken.add(os.path.realpath(path))
        check_output(path, force=force)


def _plan(
    codecs: tuple[str, ...],
    tunes: tuple[str, ...],
    vs: tuple[str, ...],
    external: bool,
    rates: tuple[str, ...],
    metrics: tuple[str, ...],
    pictures: bool,
) -> "Plan":
    """Refuses unknown names before any work."""
    from vqcodec import metrics as known
    from vqcodec import zoo
    from vqcodec.bench import aims, references
    from vqcodec.bench.plan import RATES, USUAL, Plan
    from vqcodec.rate import parse_rate

    for rate in rates:
        parse_rate(rate)
    at_hand = list(references.available())
    chosen_metrics = options.known_metrics(metrics)
    usual = tuple(m for m in known.computable() if m in (*USUAL, *known.PANEL))
    # Others of JPEG's settings are compared when they are asked for.
    default_vs = [name for name in at_hand if not name.startswith("jpeg-")]
    chosen = list(vs or default_vs)
    if external:
        outside = list(references.external())
        chosen += outside
        if not outside:
            print_warning("--external: none of cjxl, avifenc and mozjpeg's cjpeg is on PATH")
    names = codecs or (zoo.DEFAULT,)
    codecs = tuple(dict.fromkeys(f"{c}:{t}" if t else c for c in names for t in tunes or ("",)))
    for name in codecs:
        zoo.find(name)
    plan = Plan(
        codecs=codecs,
        references=tuple(dict.fromkeys(chosen)),
        rates=rates or RATES,
        metrics=chosen_metrics if metrics else usual,
        pictures=pictures,
        panel_of=None if metrics else (aims.BESIDE,),
    )
    _ = plan.found
    return plan


def _write(path: Path, content: str | bytes, force: bool) -> None:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    with atomic_write(path, force=force) as file:
        file.write(data)
