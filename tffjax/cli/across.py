"""`tffjax across`: the same ablation on several networks."""

from pathlib import Path

import click

from tffjax.cli.console import Talk, overwrite_option, quiet_option
from tffjax.studies.color.across import across
from tffjax.studies.selection import GRAYSCALE


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for table and figure.")
@click.option("--ablation", default=GRAYSCALE, show_default=True, help="Which one, as it is called in the runs.")
@overwrite_option
@quiet_option
def across_command(runs: tuple[Path, ...], out: Path, ablation: str, overwrite: bool, quiet: bool) -> None:
    """Compare what the same ablation does to several networks: within one model against across models.

    RUN are finished run directories of `tffjax color`, of detectors and of networks with classes. A detector's decision
    is that a fake is fake (fakes with p >= 0.20), a classifier's is its top class on the original image.

    Writes the table networks (median probability of the decision before and after, their drop, the share of decisions
    that are kept), its figure (PNG and PDF), and run.json with the provenance. Supplement G of the paper.

    \b
    Example:
      tffjax rank imagenet images/ --target top --confidence 0 --out imagenet-rank
      tffjax color imagenet images/ --ranking imagenet-rank/ranking_top.csv --out imagenet-color
      tffjax across color/ imagenet-color/ --out across
    """
    across(runs, out, ablation=ablation, overwrite=overwrite, reporter=Talk(quiet))
