"""Two rankings compared, as a function and a folder of results."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tffjax.pipeline.output import output_folder
from tffjax.pipeline.provenance import run_record
from tffjax.pipeline.reporter import Reporter
from tffjax.results.figures import save_figure
from tffjax.results.record import write_record
from tffjax.results.run_result import RunResult
from tffjax.results.tables import write_table
from tffjax.results.words import fewer_channels
from tffjax.studies.compare import Pair, correlation_table, movers_table, overlap_table, pair_up
from tffjax.studies.ffrs.figures import comparison
from tffjax.studies.rankings import Ranking, digest, read_ranking

SHOWN = 10

BIASED = (
    "Over a union of top lists correlations are biased down: a channel of one list only is high in it and low in the "
    "other, so that\nrankings that agree well can be near 0 there, or below. Read the agreement from all channels and "
    "from what is in common."
)


class Comparison(NamedTuple):
    """What two rankings A and B have in common.

    Attributes:
        files: of A and B.
        rankings: that they hold.
        ks: lengths of the lists of top channels, ascending.
        pair: the channels, with omega and rank in A and in B.
        overlap: see `tffjax.studies.compare.overlap_table`.
        correlations: see `tffjax.studies.compare.correlation_table`.
        movers: see `tffjax.studies.compare.movers_table`, of the largest k.
        word: on a k above the number of channels; "" where there is none.
    """

    files: tuple[Path, Path]
    rankings: tuple[Ranking, Ranking]
    ks: tuple[int, ...]
    pair: Pair
    overlap: pa.Table
    correlations: pa.Table
    movers: pa.Table
    word: str


def compare_rankings(a: str | os.PathLike[str], b: str | os.PathLike[str], ks: Sequence[int] = (27, 114)) -> Comparison:
    """Compare two rankings of the channels of one network: overlap of their top k, correlations, largest movers.

    Args:
        a, b: files in the form of `tffjax.rank` and of the paper's release, key,mean_relevance.
        ks: lengths of the lists of top channels; what is above their number is their number.

    Raises:
        InputError: a file cannot be read as a ranking, or the channels differ.
    """
    files = (Path(a), Path(b))
    rankings = read_ranking(files[0]), read_ranking(files[1])
    pair = pair_up(*rankings)
    count = len(pair.channels)
    word, ks = fewer_channels(count, max(ks)), tuple(sorted({min(k, count) for k in ks}))
    tables = overlap_table(pair, ks), correlation_table(pair, ks), movers_table(pair, ks[-1])
    return Comparison(files, rankings, ks, pair, *tables, word)


def write_comparison(found: Comparison, out: str | os.PathLike[str], *, overwrite: bool = False) -> RunResult:
    """Write the tables overlap, correlations and movers, a plot (PNG and PDF), and run.json with the provenance.

    Raises:
        InputError: as `tffjax.pipeline.output.check_output`.
    """
    digests = dict(zip("ab", map(digest, found.rankings), strict=True))
    identity = {"arguments": {"ks": list(found.ks)}, "rankings": digests}
    record = run_record("compare", identity, computes=False, rankings=found.files)
    with output_folder(Path(out), overwrite) as folder:
        for name in ("overlap", "correlations", "movers"):
            write_table(getattr(found, name), folder / name)
        names = tuple(path.stem for path in found.files)
        save_figure(comparison(found.pair.rank, found.ks[-1], names), folder / "compare")
        write_record(folder, record | {"results": {"channels": len(found.pair.channels)}})
    return RunResult(Path(out))


def say_comparison(found: Comparison, reporter: Reporter) -> None:
    """Tell what was found."""
    reporter.say(f"A = {found.files[0]}\nB = {found.files[1]}\n{len(found.pair.channels)} channels")
    if found.word:
        reporter.warn(found.word)
    shares = {"share": ".1%", "jaccard": ".3f", "expected": ".2f", "p_value": ".1e"}
    reporter.table(found.overlap, "channels that the two top-k have in common", {"k": "d", "common": "d", **shares})
    over = ["all channels" if k is None else f"union of the two top-{k}" for k in found.correlations["k"].to_pylist()]
    named = found.correlations.append_column("over", [over])
    formats = {"over": "", "channels": "d", "spearman": ".3f", "kendall": ".3f"}
    reporter.table(named, "correlation of omega", formats)
    reporter.say(BIASED)
    columns = {"key": "", "rank_a": "d", "rank_b": "d", "change": "+d", "omega_a": ".2e", "omega_b": ".2e"}
    title = f"largest movers of {len(found.movers)} channels in either top-{found.ks[-1]}"
    reporter.table(found.movers.slice(0, SHOWN), title, columns)
