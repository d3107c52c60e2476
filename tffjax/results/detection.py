"""The metrics table: how well images are detected, by generator and in all, and how sure that is."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from tffjax.results.generators import by_generator, fixed_threshold
from tffjax.results.metrics import Metrics, Ranked, measure, measures, ranked

REPLICATES, FEWER, MANY = 1000, 200, 5000  # fewer where there are more images than many
SEED, LEVEL = 0, 0.95
_CHUNK = 2**22  # numbers of an array of replicates

_SCORED = tuple(name for name in Metrics.__annotations__ if not name.startswith(("num_", "threshold")))


class Scored(NamedTuple):
    """Labeled images.

    Attributes:
        generator: names.
        label: 0 real, 1 fake; images of any other number do not count.
    """

    generator: Shaped[np.ndarray, " n"]
    label: Int[np.ndarray, " n"]


def metrics_table(
    images: Scored, scores: Mapping[str, Float[np.ndarray, " n"]], column: str = "", threshold: float | None = None
) -> pa.Table:
    """`Metrics` of every generator, then of all images if there are several; once for every variant of the scores.

    The calibrated threshold of a row is `threshold`, else 0.5 for ProGAN, else that of the first variant of the scores
    on the same images (`tffjax.results.generators.fixed_threshold`).

    Args:
        images: generator and label of each.
        scores: variant -> score of each image; the first is the baseline.
        column: name of the column that says the variant; "" for none.
        threshold: one from elsewhere, for all rows.
    """
    groups = by_generator(images.generator, images.label >= 0)
    baseline = next(iter(scores.values()))
    thresholds = {
        name: measure(baseline[of], images.label[of], _first(threshold, fixed_threshold(name))).threshold
        for name, of in groups.items()
    }
    rows = [
        ({column: variant} if column else {})
        | {"generator": name}
        | vars(measure(score[of], images.label[of], thresholds[name]))
        for variant, score in scores.items()
        for name, of in groups.items()
    ]
    types = {int: pa.int64(), float: pa.float64()}
    words = [(name, pa.string()) for name in (column, "generator") if name]
    return pa.Table.from_pylist(rows, pa.schema(words + [(n, types[t]) for n, t in Metrics.__annotations__.items()]))


def interval_table(
    images: Scored,
    score: Float[np.ndarray, " n"],
    threshold: float | None = None,
    replicates: int | None = None,
    seed: int = SEED,
) -> pa.Table:
    """95 % bootstrap intervals of the metrics of `metrics_table`.

    Each replicate draws as many real and as many fake images as there are, with replacement, from those of the group:
    the bootstrap is stratified by label. A threshold that is found on the images is found anew in each replicate. The
    interval goes from the 2.5th to the 97.5th percentile of the replicates.

    Args:
        images, score, threshold: as for `metrics_table`.
        replicates: None is `REPLICATES`, or `FEWER` of more than `MANY` images.
        seed: of the draws.

    Returns:
        Columns `generator`, `metric`, `estimate`, `low`, `high`; NaN where the metric is.
    """
    rows = []
    for place, (name, of) in enumerate(by_generator(images.generator, images.label >= 0).items()):
        group, fixed = ranked(score[of], images.label[of]), _first(threshold, fixed_threshold(name))
        estimate = measures(group.levels, group.counts[None], fixed)
        count = replicates or (FEWER if of.sum() > MANY else REPLICATES)
        drawn = _replicates(group, fixed, count, np.random.default_rng([seed, place]))
        tail = 100 * (1 - LEVEL) / 2
        for metric in _SCORED:
            low, high = np.percentile(drawn[metric], [tail, 100 - tail])
            values = {"estimate": float(estimate[metric][0]), "low": float(low), "high": float(high)}
            rows.append({"generator": name, "metric": metric, **values})
    numbers = [(name, pa.float64()) for name in ("estimate", "low", "high")]
    return pa.Table.from_pylist(rows, pa.schema([("generator", pa.string()), ("metric", pa.string()), *numbers]))


def threshold_hint(metrics: pa.Table) -> str | None:
    """A line on the rows whose scores tell the images apart, but not at 0.5; None if there are none.

    Their AP is at least 0.95, and their accuracy at least 0.1 higher at the calibrated threshold than at 0.5.
    """
    told = [
        f"{row['generator'] or 'the images'} (AP {row['ap']:.3f}, accuracy {row['accuracy']:.1%} at 0.5, "
        f"{row['accuracy_calibrated']:.1%} at logit {row['threshold']:.2f})"
        for row in metrics.to_pylist()
        if row["ap"] >= 0.95 and row["accuracy_calibrated"] - row["accuracy"] >= 0.1
    ]
    if not told:
        return None
    return f"0.5 is the wrong threshold for {', '.join(told)}; take one from other data with --threshold-from"


def _replicates(group: Ranked, threshold: float | None, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The metrics of so many draws."""
    totals = group.counts.sum(axis=1)
    shares = group.counts / np.maximum(totals, 1)[:, None]
    step = max(1, _CHUNK // max(len(group.levels), 1))
    parts = []
    for start in range(0, count, step):
        size = min(step, count - start)
        counts = [_draws(rng, total, share, size) for total, share in zip(totals.tolist(), shares, strict=True)]
        parts.append(measures(group.levels, np.stack(counts, axis=1), threshold))
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in _SCORED}


def _draws(rng: np.random.Generator, total: int, share: np.ndarray, size: int) -> np.ndarray:
    return rng.multinomial(total, share, size) if total else np.zeros((size, len(share)), np.int64)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
