"""Tables of the color study: probabilities and metrics before and after ablations (SPEC 7).

Arrays come before (the original images) and after (an ablation of the same images, in the same order), or as variants,
of which the first are the original images. `generator` is an array of names, one an image.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Shaped

from tffjax.data.ablations import ORIGINAL
from tffjax.results.generators import names_of
from tffjax.results.published import grayscale_numbers

DETECTED = 0.20
"""Fakes count in whisker plots if their probability before is at least this."""


def detected(label: Int[np.ndarray, " n"], before: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which images a whisker plot takes: the fakes (label 1) whose probability before is at least `DETECTED`."""
    return (label == 1) & (before >= DETECTED)


def whisker_table(
    generator: Shaped[np.ndarray, " n"], before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]
) -> pa.Table:
    """Box plots of probabilities in percent, before and after, per generator, and the drop of the medians.

    Columns: `generator`, `num`, `drop` (median before - median after, in percentage points), and for both samples
    `median_`, `q1_`, `q3_` (quartiles, linear interpolation), `low_`, `high_` (the outermost values within 1.5
    interquartile ranges of the box). Select the images first, see `detected`; a generator of which no image is left has
    no row.
    """
    rows = []
    for name in names_of(generator):
        members = generator == name
        boxes = _box(100 * before[members], "before") | _box(100 * after[members], "after")
        drop = boxes["median_before"] - boxes["median_after"]
        rows.append({"generator": name, "num": int(members.sum()), "drop": drop, **boxes})
    return pa.Table.from_pylist(rows, schema=_WHISKERS)


def grayscale_table(metrics: pa.Table, detector: str | None) -> pa.Table:
    """Table I.1 of the supplement, ours beside the published one, in percent.

    Columns `input` (`Baseline` or `Grayscale`), `generator`, `num_real`, `num_fake`, `ap`, `acc_real`, `acc_fake`, and
    the last three again with `published_`: null where the paper has no such generator. Accuracies are at 0.5 for ProGAN
    and at the calibrated threshold of the baseline for the others (SPEC 6).

    Args:
        metrics: from `tffjax.results.detection.metrics_table` with the column `ablation`, of which the original and
            `grayscale` are taken.
        detector: name in the paper, such as `ResNet-50` or `CR-ResNet-50`; None if this is none of its detectors.
    """
    inputs = {ORIGINAL: "Baseline", "grayscale": "Grayscale"}
    rows = []
    for row in metrics.to_pylist():
        if row["ablation"] not in inputs:
            continue
        kind = inputs[row["ablation"]]
        theirs = grayscale_numbers(detector, kind, row["generator"]) or (None,) * 3
        rows.append(
            {"input": kind, "generator": row["generator"], "num_real": row["num_real"], "num_fake": row["num_fake"]}
            | {name: 100 * row[key] for name, key in zip(COLUMNS, OURS, strict=True)}
            | {f"published_{name}": value and 100 * value for name, value in zip(COLUMNS, theirs, strict=True)}
        )
    return pa.Table.from_pylist(rows, schema=_GRAYSCALE)


def _box(values: np.ndarray, suffix: str) -> dict[str, float]:
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (q3 - q1)
    # interpolated quartiles can lie beyond the outermost value that is no outlier
    low, high = min(values[values >= q1 - reach].min(), q1), max(values[values <= q3 + reach].max(), q3)
    box = {"median": median, "q1": q1, "q3": q3, "low": low, "high": high}
    return {f"{name}_{suffix}": float(value) for name, value in box.items()}


OURS = ("ap", "real_calibrated", "fake_calibrated")
COLUMNS = ("ap", "acc_real", "acc_fake")
_GRAYSCALE = pa.schema(
    [("input", pa.string()), ("generator", pa.string()), ("num_real", pa.int64()), ("num_fake", pa.int64())]
    + [(f"{prefix}{name}", pa.float64()) for prefix in ("", "published_") for name in COLUMNS]
)
_WHISKERS = pa.schema(
    [("generator", pa.string()), ("num", pa.int64()), ("drop", pa.float64())]
    + [(f"{n}_{s}", pa.float64()) for s in ("before", "after") for n in ("median", "q1", "q3", "low", "high")]
)
