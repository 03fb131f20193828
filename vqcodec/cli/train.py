"""``vqcodec train``: a codec from a folder of pictures."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqcodec.cli import options

if TYPE_CHECKING:
    from vqcodec.training.finetune import Compared

_EXAMPLES = """\b
Examples:
  vqcodec train PHOTOS --out /tmp/smoke --smoke
  vqcodec train PHOTOS --from photo-3 --minutes 60 --name mine
  vqcodec train PHOTOS --recipe photo-2 --out my-codec
"""


# What is said where no recipe is named: the two usual ways, and all recipes.
_HOW = (
    "--from CODEC, --recipe NAME, --system NAME or --smoke is needed: "
    "`vqcodec train PHOTOS --from photo-3 --minutes 60 --name mine` trains a codec further, "
    "`vqcodec train PHOTOS --recipe photo-2 --out my-codec` begins anew; recipes: {recipes}"
)


def _systems() -> list[str]:
    from vqcodec.autoencoders import SYSTEMS

    return ["ladder", *SYSTEMS]


@click.command(epilog=_EXAMPLES)
@click.argument("data", type=options.PATH, required=False)
@click.option(
    "--recipe",
    metavar="FILE",
    type=options.Recipe(path_type=Path),
    help="A file with all settings, or the name of a recipe of ours.  "
    "[default: that of the run in DIR]",
)
@click.option(
    "--from",
    "start",
    metavar="CODEC",
    type=options.CODEC,
    help="Train a codec further for such pictures: its recipe, as many steps as fit into "
    "--minutes, a new codec, and a table of both.",
)
@click.option("--name", metavar="NAME", help="What the new codec calls itself.  [default: as DIR]")
@click.option(
    "--system",
    metavar="NAME",
    type=options.Names(_systems, most=1),
    help="ladder, hqa, dqae, ...; as card.system=NAME.",
)
@click.option("--quantizer", metavar="NAME", help="ste, diveq, ...; as shape.quantizer=NAME.")
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting in place of the recipe's, such as lr=1e-4 or training.lr=1e-4; repeatable.",
)
@options.output(
    "DIR",
    "Folder for checkpoints, the log and the finished codec.  [default: NAME]",
    options.PATH,
    name="out",
)
@click.option("--smoke", is_flag=True, help="A tiny codec in under a minute, to try things out.")
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on from the last checkpoint in DIR, if there is one.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    metavar="M",
    help="Stop after so long, with a checkpoint; the same command goes on. "
    "With --from the time that all takes.  [default: 60]",
)
@click.option("--tensorboard", is_flag=True, help="Curves and pictures in DIR/tensorboard too.")
@options.device
@options.threads
@options.quiet
def train(
    data: Path | None,
    recipe: Path | None,
    system: str | None,
    quantizer: str | None,
    settings: tuple[str, ...],
    start: str | None,
    name: str | None,
    out: Path | None,
    smoke: bool,
    resume: bool,
    minutes: float | None,
    tensorboard: bool,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Train a codec on the pictures in DATA: a folder, a list, .tar shards or an .npz file.

    Ctrl-C, SIGTERM and loss of power are safe: `vqcodec train --out DIR` goes on from the last
    checkpoint. With `torchrun -m vqcodec train ...` several processes share the work.
    """
    from vqcodec import zoo
    from vqcodec.training.recipe import read_recipe
    from vqcodec.training.refusals import check_training, recipe_file

    begun = out is not None and (out / "recipe.toml").exists()
    if not (recipe or system or smoke or start or begun):
        raise click.UsageError(_HOW.format(recipes=", ".join(zoo.recipes())))
    path = None if recipe is None else recipe_file(recipe)
    if out is None and name is None:
        raise click.UsageError("--out DIR or --name NAME is needed")
    out = Path(str(name)) if out is None else out
    if start and (recipe or system or smoke):
        raise click.UsageError("--from has the recipe of its codec: no --recipe, --system, --smoke")
    if system and system not in _systems():
        raise click.UsageError(f"no system {system!r}; there are {', '.join(_systems())}")
    named = {"card.system": system, "shape.quantizer": quantizer}
    changes = [f"{key}={value}" for key, value in named.items() if value] + list(settings)
    check_training(data, start, name, out, resume)
    # MKL else sums in an order that depends on where a tensor lies in memory: a run that is resumed
    # would not be the one that was never stopped. It is read when torch is imported.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    if not start:  # whose recipe takes torch
        read_recipe(out / "recipe.toml" if begun and path is None else path, changes)
    from vqcodec.training.interrupts import exit_on_sigterm
    from vqcodec.training.run import Wanted, train_command

    wanted = Wanted(
        data=data, smoke=smoke, resume=resume, minutes=minutes, start=start, name=name,
        threads=threads, device=device, tensorboard=tensorboard, quiet=quiet,
    )  # fmt: skip
    with exit_on_sigterm():
        compared = train_command(recipe, changes, out, wanted)
    if compared and not quiet:
        click.echo(_as_text(compared))


def _as_text(compared: "Compared") -> str:
    """Both codecs at each rate, how many bytes the new one saves, and how to use it."""
    from vqcodec.training.display import to_use

    lines = [
        f"{compared.pictures} held-out pictures, means of finished files:",
        f"{'':16}{compared.start:<24}{compared.codec.name}",
    ]
    for rows in zip(compared.before, compared.after, strict=True):
        points = [f"{row['bpp']:.4f} bpp  {_quality(row)}" for row in rows]
        name = f"{rows[0].get('tune', '')} {rows[0]['rate']}".strip()
        lines.append(f"{name:<16}{points[0]:<24}{points[1]}")
    for tune in dict.fromkeys(row.get("tune") for row in compared.after):
        lines += _saving(compared, tune)
    return "\n".join([*lines, to_use(compared.codec)])


def _quality(row: dict[str, Any]) -> str:
    """At the aim of its tune: SSIMULACRA2 for the eye, where the pictures have one."""
    if row.get("tune") == "visual" and "ssimulacra2" in row:
        return f"{row['ssimulacra2']:.2f}q"
    return f"{row['psnr_db']:.2f} dB"


def _saving(compared: "Compared", tune: str | None) -> list[str]:
    """How many bytes fewer the files of a tune have at equal quality: a line, or none."""
    from vqcodec.bench.bdrate import bd_rate

    metric, name = ("ssimulacra2", "SSIMULACRA2") if tune == "visual" else ("psnr_db", "PSNR")
    new, old = (
        [row for row in rows if row.get("tune") == tune]
        for rows in (compared.after, compared.before)
    )
    if any(metric not in row for row in (*new, *old)):
        return []  # the pictures are too small for it
    (rate, quality), (anchor_rate, anchor_quality) = (
        ([row["bpp"] for row in rows], [row[metric] for row in rows]) for rows in (new, old)
    )
    percent = bd_rate(rate, quality, anchor_rate, anchor_quality).percent
    if percent is None:
        return []
    than = "fewer" if percent < 0 else "more"
    tuned = f", tuned for {tune}" if tune else ""
    return [f"At equal {name}{tuned}: {abs(percent):.1f} % {than} bytes than {compared.start}."]
