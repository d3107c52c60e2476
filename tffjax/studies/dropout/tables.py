"""Results of feature-map dropout as tables: scores, the layout of table E.1, effects of single channels."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.special import log_expit, logsumexp
from scipy.stats import spearmanr

from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.nn.card import Card
from tffjax.results.detection import metrics_table
from tffjax.results.published import dropout_numbers
from tffjax.studies.dropout.settings import BASELINE, Setting, family
from tffjax.studies.predictions import fake_score, prediction_table, scored
from tffjax.studies.rankings import Ranking

IMAGE_COLUMNS = ("path", "generator", "category", "label")


def score_table(
    card: Card,
    files: Sequence[ImageFile],
    settings: Sequence[Setting],
    logits: Float[np.ndarray, "n settings outputs"],
) -> pa.Table:
    """One row an image: where it comes from, then its score (the logit that it is fake) under every setting.

    Raises:
        InputError: the network has several outputs.
    """
    if card.num_outputs != 1:
        raise InputError(f"dropout is scored for detectors with one output, this network has {card.num_outputs}")
    table = prediction_table(card, files, logits[:, 0]).select(IMAGE_COLUMNS)
    for index, setting in enumerate(settings):
        table = table.append_column(setting.name, pa.array(fake_score(logits[:, index, 0], card)))
    return table


def dropout_table(scores: pa.Table, average: bool = True) -> pa.Table:
    """`tffjax.results.metrics.Metrics` of every setting and generator, then over all images; labeled images only.

    The calibrated threshold is the baseline's of the same images; it is 0.5 for ProGAN (SPEC 6).

    Args:
        scores: of `score_table`, with the baseline among the settings.
        average: average the probabilities of an image over the random draws, and score `random-114`; otherwise score
            every draw, `random-114/0`, ...
    """
    columns = {name: np.asarray(scores[name]) for name in scores.column_names[len(IMAGE_COLUMNS) :]}
    if average:
        columns = {
            name: mean_score(np.stack([column for draw, column in columns.items() if family(draw) == name]))
            for name in dict.fromkeys(map(family, columns))
        }
    columns = {BASELINE.name: columns[BASELINE.name], **columns}  # the first is the baseline
    return metrics_table(scored(scores), columns, "setting")


def mean_score(score: Float[np.ndarray, "draws n"]) -> Float[np.ndarray, " n"]:
    """The score of the mean probability over the draws, log(mean p / mean (1 - p)), in which nothing saturates."""
    if len(score) == 1:
        return score[0]
    return logsumexp(log_expit(score), axis=0) - logsumexp(log_expit(-score), axis=0)


def with_published(table: pa.Table, detector: str | None) -> pa.Table:
    """Add the published `ap`, `real_calibrated` and `fake_calibrated`, null where there are none for the generator.

    Args:
        table: of `dropout_table`.
        detector: name in the paper; None if this is none of its detectors.
    """
    found = [
        dropout_numbers(detector, setting, generator)
        for setting, generator in zip(table["setting"].to_pylist(), table["generator"].to_pylist(), strict=True)
    ]
    for index, name in enumerate(("ap", "real_calibrated", "fake_calibrated")):
        values = [None if row is None else row[index] for row in found]
        table = table.append_column(f"published_{name}", pa.array(values, pa.float64()))
    return table


def effect_table(
    card: Card,
    settings: Sequence[Setting],
    logits: Float[np.ndarray, "n settings"],
    baseline: Float[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    ranking: Ranking,
) -> pa.Table:
    """What every channel does alone: `key`, `omega` and `effect`, the largest effect first.

    The effect is the mean over the fake images of how far the logit falls, towards real, when the channel is switched
    off; it is negative where the image then looks more fake. Logits and not probabilities, which are flat near 1.

    Args:
        card: says which way logits point.
        settings: of one channel each (`tffjax.studies.dropout.settings.singles`).
        logits: under each of them.
        baseline: with nothing switched off.
        label: 1 for fake images; others do not count.
        ranking: omega; channels that it does not have get null.

    Raises:
        InputError: no image is fake.
    """
    fake = label == 1
    if not fake.any():
        raise InputError("the effect of a channel is taken on fake images, and there are none")
    sign = 1 if card.high_means == "fake" else -1
    effect = sign * (baseline[fake, None].astype(np.float64) - logits[fake]).mean(axis=0)
    omega = dict(zip(ranking.channels, map(float, ranking.omega), strict=True))
    order = np.argsort(-effect, kind="stable")
    channels = [settings[index].channels[0] for index in order]
    return pa.table(
        {
            "key": [channel.key for channel in channels],
            "omega": pa.array([omega.get(channel) for channel in channels], pa.float64()),
            "effect": effect[order],
        }
    )


def effect_correlation(effects: pa.Table) -> float:
    """Spearman's rank correlation of omega and effect over the channels that have both; NaN if one is constant."""
    omega, effect = np.array(effects["omega"].to_pylist(), float), np.asarray(effects["effect"])
    omega, effect = omega[np.isfinite(omega)], effect[np.isfinite(omega)]
    if len(omega) < 2 or np.ptp(omega) == 0 or np.ptp(effect) == 0:
        return np.nan
    return float(spearmanr(omega, effect).statistic)
