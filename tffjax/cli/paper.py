"""`tffjax paper`: every figure and table of the paper's supplement, for a detector."""

from pathlib import Path
from typing import Any

import click

from tffjax.cli.asked import published_option
from tffjax.cli.console import Talk, overwrite_option, quiet_option, start_jax
from tffjax.cli.images import labels_option, size_options
from tffjax.cli.numbers import RealRange
from tffjax.supplement.run import paper
from tffjax.whole.command import going_on

_FOLDER = click.Path(path_type=Path)


@click.command("paper")
@click.argument("weights", type=_FOLDER)
@click.argument("data", type=_FOLDER, nargs=-1, required=True, metavar="DATA...")
@click.option("--out", type=_FOLDER, required=True, help="Folder for figures, tables and the page.")
@click.option("--imagenet", type=_FOLDER, help="An ImageNet network for G and J; left out without it.")
@click.option("--generator", type=_FOLDER, help="A generator for M.1; left out without it.")
@click.option("--released", type=_FOLDER, help="A clone of the paper's released code: its ranking beside ours.")
@published_option
@click.option("--seen", metavar="GENERATOR", help="What the detector was trained on. [default: ProGAN, if it is there]")
@click.option(
    "--rank-on", type=_FOLDER, help="Images on which channels are ranked: progan_val in the paper. [default: seen ones]"
)
@size_options
@labels_option
@click.option("--confidence", type=RealRange(0, 1), default=0.9, show_default=True, help="Of tffjax rank; 0 keeps all.")
@click.option("--k", type=click.IntRange(min=1), help="How many top channels. [default: the paper's, else find-k's]")
@click.option("--dry-run", is_flag=True, help="Print the commands, and what they will take, then stop.")
@overwrite_option
@quiet_option
def paper_command(weights: Path, data: tuple[Path, ...], out: Path, quiet: bool, **options: Any) -> None:
    """Make every figure and table of the paper's supplement for a detector, on a page beside what the paper reports.

    WEIGHTS is a folder written by `tffjax convert`, DATA are folders of labeled images. For the paper's own detectors,
    fetch resnet50/blur_jpg_prob0.5.pth or efb0/blur_jpg_prob0.5.pth (pre-trained models of
    github.com/sutd-visual-computing-group/transferable-forensic-features) and ForenSynths, test and ProGAN validation
    sets (github.com/peterwang512/CNNDetection): GENERATOR/[CLASS/]{0_real,1_fake}/*.png.

    Writes index.html, figures (figure-D1.png, .pdf, ...), tables (table-E1.csv, .tex, .html, ...), and the run
    directories below runs/. What lacks its input is left out with a line. Interrupted at any moment, it goes on when it
    is called again.

    \b
    Example:
      tffjax convert resnet50/blur_jpg_prob0.5.pth detector --published ResNet-50
      tffjax paper detector CNN_synth_testset/ --rank-on progan_val/ --imagenet imagenet --out supplement
      tffjax paper my-detector images/ --seen stylegan --resize 256 --crop 224 --out supplement
    """
    start_jax()
    options["rank_on"] = options["rank_on"] or ()
    with going_on("tffjax paper with the same words", out):
        paper(weights, data, out, **options, reporter=Talk(quiet))
