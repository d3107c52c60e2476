"""`tffjax demo`: the whole study of the detector and the images that come with tffjax."""

import shlex
from pathlib import Path

import click

from tffjax import embedded
from tffjax.cli.console import Talk, overwrite_option, quiet_option, start_jax
from tffjax.embedded.demonstration import demonstration
from tffjax.errors import InputError
from tffjax.whole.command import do_whole
from tffjax.whole.steps import QUESTIONS


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("tffjax-demo"),
    show_default=True,
    help="Folder for the results; called again with the same one, the demo goes on where it was.",
)
@click.option("--dry-run", is_flag=True, help="Print the commands, and what they will take, then stop.")
@overwrite_option
@quiet_option
def demo(out: Path, dry_run: bool, overwrite: bool, quiet: bool) -> None:
    """See the whole study: on a small detector and its images, both part of tffjax, in some minutes and offline.

    The detector was trained on the fakes of one generator; the images are of that one and of three that it has never
    seen. Channels are ranked on the generator of the training, then switched off on all. It is `tffjax study` on these,
    with little of each step.

    Writes a folder for each command, report.html with all of them, and findings.md: the findings in words with their
    numbers. Interrupted at any moment, the demo goes on when it is called again.

    \b
    Example:
      tffjax demo
      tffjax demo --out demo --overwrite
    """
    given = embedded.EMBEDDED
    if not all(path.is_dir() for path in (given.detector, given.images, given.generator)):
        raise InputError("this installation of tffjax lacks its detector, generator or images; install it anew")
    start_jax()
    again = shlex.join(["tffjax", "demo", "--out", str(out)])
    do_whole(Talk(quiet), demonstration(given), out, tuple(QUESTIONS), dry_run, overwrite, again)
