"""`tffjax compare`: how much do two rankings agree?"""

import json
from pathlib import Path

import click
import pyarrow as pa

from tffjax.cli.console import Talk, overwrite_option, quiet_option, refuse_unused
from tffjax.pipeline.output import output_folder
from tffjax.results.figures import save_figure
from tffjax.results.tables import screen_table, write_table
from tffjax.studies.compare import correlation_table, movers_table, overlap_table, pair_up
from tffjax.studies.ffrs.figures import comparison
from tffjax.studies.rankings import read_ranking

SHOWN = 10


@click.command()
@click.argument("a", type=click.Path(path_type=Path), metavar="A.csv")
@click.argument("b", type=click.Path(path_type=Path), metavar="B.csv")
@click.option(
    "--k",
    "ks",
    type=click.IntRange(min=1),
    multiple=True,
    default=(27, 114),
    show_default=True,
    help="Length of the lists of top channels; give it several times for several. Movers are of the longest.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for tables and plots. [default: only print]")
@overwrite_option
@quiet_option
def compare(a: Path, b: Path, ks: tuple[int, ...], out: Path | None, overwrite: bool, quiet: bool) -> None:
    """Compare two rankings of the channels of one network.

    A.csv and B.csv are rankings in the form of `tffjax rank` and of the paper's release: key,mean_relevance.

    Prints what the two lists of k top channels have in common and what chance would give (random lists have k^2/C
    channels in common; p is the probability of at least so many), Spearman's and Kendall's rank correlation, and the
    channels whose rank differs most.

    With --out, writes overlap.csv, movers.csv (all channels in either list), correlations.json, and a plot (PNG and
    PDF).

    \b
    Example:
      tffjax compare run/ranking_fake.csv published/omega-resnet50-progan_val-fake.csv --k 114 --out agreement
    """
    talk = Talk(quiet)
    if out is None:
        refuse_unused("without --out", "overwrite")
    ks = tuple(sorted(set(ks)))
    pair = pair_up(read_ranking(a), read_ranking(b))
    overlap = overlap_table(pair, ks)
    correlations, movers = correlation_table(pair, ks), movers_table(pair, ks[-1])
    if out is not None:
        with output_folder(out, overwrite) as folder:
            write_table(overlap, folder / "overlap")
            write_table(movers, folder / "movers")
            report = {"a": str(a), "b": str(b), "correlations": correlations.to_pylist()}
            (folder / "correlations.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            save_figure(comparison(pair.rank, ks[-1], (a.stem, b.stem)), folder / "compare")
    talk.say(f"A = {a}\nB = {b}\n{len(pair.channels)} channels")
    shares = {"share": ".1%", "jaccard": ".3f", "expected": ".2f", "p_value": ".1e"}
    talk.say(screen_table(overlap, "channels that the two top-k have in common", {"k": "d", "common": "d", **shares}))
    talk.say(screen_table(_named(correlations), "correlation of omega",
                          {"over": "", "channels": "d", "spearman": ".3f", "kendall": ".3f"}))  # fmt: skip
    talk.say(screen_table(movers.slice(0, SHOWN), f"largest movers of {len(movers)} channels in either top-{ks[-1]}",
                          {"key": "", "rank_a": "d", "rank_b": "d", "change": "+d", "omega_a": ".2e",
                           "omega_b": ".2e"}))  # fmt: skip
    if out is not None:
        talk.say(f"tables and plot in {out}")


def _named(correlations: pa.Table) -> pa.Table:
    ks = correlations["k"].to_pylist()
    return correlations.append_column(
        "over", [["all channels" if k is None else f"union of the two top-{k}" for k in ks]]
    )
