"""``vqcodec train``: a codec from a folder of pictures."""

import os
from pathlib import Path

import click

from vqcodec.cli import options

_EXAMPLES = """\b
Examples:
  vqcodec train PHOTOS --out /tmp/smoke --smoke
  vqcodec train PHOTOS --recipe recipes/photo-2.toml --out my-codec
"""


def _systems() -> list[str]:
    from vqcodec.autoencoders import SYSTEMS

    return ["ladder", *SYSTEMS]


@click.command(epilog=_EXAMPLES)
@click.argument("data", type=options.PATH, required=False)
@click.option(
    "--recipe",
    metavar="FILE",
    type=options.PATH,
    help="recipes/*.toml: all settings.  [default: that of the run in DIR]",
)
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
    "Folder for checkpoints, the log and the finished codec.",
    options.PATH,
    name="out",
    required=True,
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
    help="Stop after so long, with a checkpoint; the same command goes on.",
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
    out: Path,
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
    begun = (out / "recipe.toml").exists()
    if recipe is None and system is None and not smoke and not begun:
        raise click.UsageError("--recipe FILE, --system NAME or --smoke is needed")
    # MKL else sums in an order that depends on where a tensor lies in memory: a run that is resumed
    # would not be the one that was never stopped. It is read when torch is imported.
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    from vqcodec.training.interrupts import exit_on_sigterm
    from vqcodec.training.run import Wanted, train_command

    named = {"card.system": system, "shape.quantizer": quantizer}
    changes = [f"{key}={value}" for key, value in named.items() if value] + list(settings)
    wanted = Wanted(data, smoke, resume, minutes, threads, device, tensorboard, quiet)
    with exit_on_sigterm():
        train_command(recipe, changes, out, wanted)
