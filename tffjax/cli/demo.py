"""`tffjax demo`: the whole study of the detector and the images that come with tffjax."""

import shlex
from pathlib import Path

import click

from tffjax import embedded
from tffjax.cli.console import Talk, overwrite_option, quiet_option, start_jax
from tffjax.cli.study import do_whole
from tffjax.embedded import Embedded
from tffjax.errors import InputError
from tffjax.nn import network_of
from tffjax.whole.run import examples
from tffjax.whole.steps import QUESTIONS, Whole

CONFIDENCE = 0.9  # rank's default, the paper's
THRESHOLD = 0.225
"""From here on an image of the bundled generator counts as found; 10 % of held-out photographs at its scale do, too."""


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("tffjax-demo"),
    show_default=True,
    help="Folder for the results; called again with the same one, the demo goes on where it was.",
)
@click.option("--dry-run", is_flag=True, help="Print the commands, then stop.")
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


def demonstration(given: Embedded) -> Whole:
    """The study of the demo: images keep their size, and channels are ranked on the generator of the training alone."""
    return Whole(
        given.detector,
        (given.images,),
        (given.images / given.seen,),
        given.seen,
        own_size=True,
        confidence=CONFIDENCE,
        bootstrap=50,
        max_k=1024,
        shown=(8, 4),  # every site that is shown is compiled
        color_channels=network_of("efficientnet_b0").paper_k,
        heatmaps=examples((given.images,), given.seen),
        generator=given.generator,
        generated=(64, 20),
        threshold=THRESHOLD,
    )
