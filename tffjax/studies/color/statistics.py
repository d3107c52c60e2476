"""Statistics of the color study: does a channel respond to the images as before the ablation? (SPEC 7)

Samples are maximal activations of one channel (`tffjax.studies.color.activations`) before (on the original images) and
after (on an ablation of the same images, in the same order). `generator` is an array of names, one an image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped
from scipy import stats

from tffjax.errors import InputError
from tffjax.results.generators import names_of
from tffjax.studies.rankings import Channel

ALPHA = 0.05
"""A channel is color-conditional if the p-value of Mood's median test is at most this."""

FEW = 30
"""Below so many images a histogram is drawn: a kernel density would show more shape than there is."""


class Comparison(NamedTuple):
    """What the tests say about one channel.

    Attributes:
        statistic, p: of Mood's median test, the paper's.
        p_paired: of Wilcoxon's signed-rank test; the samples are the same images twice.
        median_before, median_after: of the samples.
        effect: (median before - median after) / pooled median absolute deviation, positive where the ablation lowers
            the activation, see `effect_size`.
        note: what is degenerate about the samples, in words; "" where nothing is.
    """

    statistic: float
    p: float
    p_paired: float
    median_before: float
    median_after: float
    effect: float
    note: str


def compare(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> Comparison:
    """Mood's median test, Wilcoxon's signed-rank test and the effect size of one channel.

    Mood's test has `scipy.stats.median_test`'s defaults: values at the grand median count as below, and Yates'
    continuity correction. Where no value lies above the grand median it cannot say anything: p is 1 and the note says
    why. Where no image changes, the paired p is 1. At least one image is needed.

    Notes: `all equal`, `no value above the grand median`, `no spread around the medians` (the effect is 0 or infinite).
    """
    before, after = before.astype(np.float64), after.astype(np.float64)
    both = np.concatenate([before, after])
    effect, spread = effect_size(before, after)
    undecided = both.max() == np.median(both)
    if (both == both[0]).all():
        note = "all equal"
    elif undecided:
        note = "no value above the grand median"
    else:
        note = "" if spread else "no spread around the medians"
    statistic, p = (0.0, 1.0) if undecided else stats.median_test(before, after)[:2]
    return Comparison(
        statistic=float(statistic),
        p=float(p),
        p_paired=_paired(before, after),
        median_before=float(np.median(before)),
        median_after=float(np.median(after)),
        effect=effect,
        note=note,
    )


def effect_size(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """(median(before) - median(after)) / MAD, and MAD, the pooled median absolute deviation.

    MAD is the median of all |x - median of its own sample| over both samples, without a factor for normal
    distributions. If it is 0, the effect is 0 for equal medians, else plus or minus infinity.
    """
    medians = np.median(before), np.median(after)
    difference = float(medians[0] - medians[1])
    deviations = np.abs(np.concatenate([before - medians[0], after - medians[1]]))
    spread = float(np.median(deviations))
    if spread == 0:
        return float(np.sign(difference) * np.inf) if difference else 0.0, spread
    return difference / spread, spread


def channel_table(
    channels: Sequence[Channel],
    generator: Shaped[np.ndarray, " n"],
    before: Float[np.ndarray, "n k"],
    after: Float[np.ndarray, "n k"],
) -> pa.Table:
    """Every channel's tests for every generator: one row each, generators as they come, channels in their order.

    Columns: `generator`, `key`, `num` (images), the fields of `Comparison`, `p_adjusted` (Benjamini-Hochberg over the
    channels of one generator) and `color_conditional` (p <= `ALPHA`, the paper's criterion, on the raw p).

    Raises:
        InputError: there are no images.
    """
    if not len(generator):
        raise InputError("no images are left to compare the activations of; give generated images with their labels")
    rows = []
    for name in names_of(generator):
        members = generator == name
        tests = [compare(b, a) for b, a in zip(before[members].T, after[members].T, strict=True)]
        adjusted = stats.false_discovery_control([test.p for test in tests])
        rows += [
            {
                "generator": name,
                "key": channel.key,
                "num": int(members.sum()),
                "median_before": test.median_before,
                "median_after": test.median_after,
                "statistic": test.statistic,
                "p": test.p,
                "color_conditional": test.p <= ALPHA,
                "p_adjusted": float(p_adjusted),
                "p_paired": test.p_paired,
                "effect": test.effect,
                "note": test.note,
            }
            for channel, test, p_adjusted in zip(channels, tests, adjusted, strict=True)
        ]
    return pa.Table.from_pylist(rows)


def share_table(tests: pa.Table) -> pa.Table:
    """Share of color-conditional channels per generator, from `channel_table`.

    Columns: `generator`, `num` (images), `num_channels`, `num_conditional`, `share` (raw p, the paper's criterion),
    `share_adjusted` (Benjamini-Hochberg), `share_paired` (Wilcoxon, raw), `median_effect` (over channels, of |effect|)
    and `num_noted` (degenerate channels).
    """
    columns = {name: np.array(tests[name].to_pylist()) for name in tests.column_names}
    rows = []
    for name in names_of(columns["generator"]):
        own = {column: values[columns["generator"] == name] for column, values in columns.items()}
        rows.append(
            {
                "generator": name,
                "num": int(own["num"][0]),
                "num_channels": len(own["p"]),
                "num_conditional": int(own["color_conditional"].sum()),
                "share": float(own["color_conditional"].mean()),
                "share_adjusted": float((own["p_adjusted"] <= ALPHA).mean()),
                "share_paired": float((own["p_paired"] <= ALPHA).mean()),
                "median_effect": float(np.median(np.abs(own["effect"]))),
                "num_noted": int((own["note"] != "").sum()),
            }
        )
    return pa.Table.from_pylist(rows)


def extremes(tests: pa.Table, count: int) -> tuple[list[str], list[str]]:
    """Keys of the most and of the least color-conditional channels over all generators, the most extreme first.

    By the median over the generators of Mood's p, then of the size of the effect, then by the order of the table;
    channels that are degenerate on a generator come last in both.

    Args:
        tests: from `channel_table`.
        count: of keys at each end; none is at both.
    """
    columns = {name: tests[name].to_pylist() for name in ("key", "p", "effect", "note")}
    keys = list(dict.fromkeys(columns["key"]))
    at = {key: [place for place, other in enumerate(columns["key"]) if other == key] for key in keys}
    noted = {key: any(columns["note"][place] for place in at[key]) for key in keys}
    p = {key: np.median([columns["p"][place] for place in at[key]]) for key in keys}
    effect = {key: np.median([abs(columns["effect"][place]) for place in at[key]]) for key in keys}
    most = sorted(keys, key=lambda key: (noted[key], p[key], -effect[key]))[:count]
    least = sorted(keys, key=lambda key: (noted[key], -p[key], effect[key]))
    return most, [key for key in least if key not in most][:count]


def density_table(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"], points: int = 200) -> pa.Table:
    """Densities of a channel's samples on a common grid, as lines: columns `activation`, `before`, `after`.

    Of `FEW` images or more Gaussian kernel densities (`scipy.stats.gaussian_kde`, Scott's rule) at `points` places; a
    sample without spread has none: its column is NaN everywhere, but for infinity at its one value. Of fewer images a
    histogram over common bins (Sturges' rule), with both ends of each bin as a row.
    """
    if len(before) < FEW:
        return _histograms(before, after)
    samples = [sample.astype(np.float64) for sample in (before, after)]
    kernels = [_kernel(sample) for sample in samples]
    low, high = np.min(samples), np.max(samples)
    widths = [3 * float(np.sqrt(kernel.covariance[0, 0])) for kernel in kernels if kernel is not None]
    margin = max(widths, default=0.0) or (high - low) / 4 or max(abs(low), 1.0)
    lines = [sample[0] for sample, kernel in zip(samples, kernels, strict=True) if kernel is None]
    grid = np.unique([*np.linspace(low - margin, high + margin, points), *lines])
    columns = [
        np.where(grid == sample[0], np.inf, np.nan) if kernel is None else kernel(grid)
        for sample, kernel in zip(samples, kernels, strict=True)
    ]
    return pa.table({"activation": grid, "before": columns[0], "after": columns[1]})


def _histograms(before: np.ndarray, after: np.ndarray) -> pa.Table:
    edges = np.histogram_bin_edges(np.concatenate([before, after]).astype(np.float64), "sturges")
    heights = (np.histogram(sample, edges, density=True)[0] for sample in (before, after))
    columns = (np.concatenate([[0.0], np.repeat(height, 2), [0.0]]) for height in heights)
    return pa.table(dict(zip(("activation", "before", "after"), (np.repeat(edges, 2), *columns), strict=True)))


def _paired(before: np.ndarray, after: np.ndarray) -> float:
    return 1.0 if (before == after).all() else float(stats.wilcoxon(before, after).pvalue)


def _kernel(sample: np.ndarray) -> stats.gaussian_kde | None:
    """The density; None where all values are (nearly) equal, or there is one only."""
    try:
        return stats.gaussian_kde(sample)
    except (np.linalg.LinAlgError, ValueError):
        return None
