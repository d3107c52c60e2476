"""Results of feature-map dropout as tables: probabilities, the layout of table E.1, effects of single channels."""

import csv
import functools
import importlib.resources
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.stats import spearmanr

from tffjax.data import ImageFile
from tffjax.errors import InputError
from tffjax.nn import network_of
from tffjax.nn.card import Card
from tffjax.results.metrics import Metrics, calibrated_threshold, score
from tffjax.studies.dropout.settings import BASELINE, Setting, family
from tffjax.studies.predictions import fake_probability, prediction_table
from tffjax.studies.rankings import Ranking

IMAGE_COLUMNS = ("path", "generator", "category", "label")

TRAINING_GENERATOR = "progan"
"""The paper takes 0.5 for the generator that the detectors were trained on, where others get a calibrated threshold."""

_ALIASES = {"stylegan1": "stylegan", "spade": "gaugan"}


def probability_table(
    card: Card,
    files: Sequence[ImageFile],
    settings: Sequence[Setting],
    logits: Float[np.ndarray, "n settings outputs"],
) -> pa.Table:
    """One row an image: where it comes from, then the probability of being fake under every setting, by its name.

    Raises:
        InputError: the network has several outputs.
    """
    if card.num_outputs != 1:
        raise InputError(f"dropout is scored for detectors with one output, this network has {card.num_outputs}")
    table = prediction_table(card, files, logits[:, 0]).select(IMAGE_COLUMNS)
    for index, setting in enumerate(settings):
        table = table.append_column(setting.name, pa.array(fake_probability(logits[:, index, 0], card)))
    return table


def dropout_table(probabilities: pa.Table, average: bool = True) -> pa.Table:
    """`tffjax.results.metrics.Metrics` of every setting and generator, then over all images; labeled images only.

    The calibrated threshold is the baseline's of the same images; it is 0.5 for ProGAN (SPEC 6).

    Args:
        probabilities: of `probability_table`, with the baseline among the settings.
        average: average the probabilities of an image over the random draws, and score `random-114`; otherwise score
            every draw, `random-114/0`, ...
    """
    columns = {name: np.asarray(probabilities[name]) for name in probabilities.column_names[len(IMAGE_COLUMNS) :]}
    if average:
        columns = {
            name: np.mean([column for draw, column in columns.items() if family(draw) == name], axis=0)
            for name in dict.fromkeys(map(family, columns))
        }
    label = np.array([{"real": 0, "fake": 1, None: -1}[name] for name in probabilities["label"].to_pylist()])
    generator = np.array(probabilities["generator"].to_pylist(), dtype=object)
    generators = list(dict.fromkeys(generator[label >= 0]))
    groups = {name: (generator == name) & (label >= 0) for name in generators}
    if len(generators) > 1:
        groups["all"] = label >= 0
    thresholds = {
        name: _threshold(name, columns[BASELINE.name][members], label[members]) for name, members in groups.items()
    }
    rows = [
        {"setting": setting, "generator": name} | vars(score(probability[members], label[members], thresholds[name]))
        for setting, probability in columns.items()
        for name, members in groups.items()
    ]
    return pa.Table.from_pylist(rows, _schema())


def with_published(table: pa.Table, card: Card) -> pa.Table:
    """Add the published `ap`, `real_calibrated` and `fake_calibrated`, null where there are none for the generator.

    Generators are recognized by name, whatever the case and punctuation.
    """
    detector = network_of(card).published
    found = [
        published().get((detector, setting, _plain(generator)))
        for setting, generator in zip(table["setting"].to_pylist(), table["generator"].to_pylist(), strict=True)
    ]
    for index, name in enumerate(("ap", "real_calibrated", "fake_calibrated")):
        values = [None if row is None else row[index] for row in found]
        table = table.append_column(f"published_{name}", pa.array(values, pa.float64()))
    return table


@functools.cache
def published() -> dict[tuple[str, str, str], tuple[float, float, float]]:
    """Table E.1 of the supplement: (detector, setting, generator) -> AP, accuracy on real and on fake, in [0, 1]."""
    text = (importlib.resources.files("tffjax.published") / "table-e1-dropout.csv").read_text(encoding="utf-8")
    return {
        (row["detector"], row["setting"], _plain(row["generator"])): (
            _share(row["ap"]),
            _share(row["acc_real"]),
            _share(row["acc_fake"]),
        )
        for row in csv.DictReader(text.splitlines())
    }


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


def _schema() -> pa.Schema:
    types = {int: pa.int64(), float: pa.float64()}
    return pa.schema(
        [("setting", pa.string()), ("generator", pa.string())]
        + [(name, types[kind]) for name, kind in Metrics.__annotations__.items()]
    )


def _threshold(generator: str, baseline: np.ndarray, label: np.ndarray) -> float:
    if _plain(generator) == TRAINING_GENERATOR:
        return 0.5
    return calibrated_threshold(baseline, label) if 0 < label.sum() < len(label) else np.nan


def _share(percent: str) -> float:
    return round(float(percent) / 100, 6)


def _plain(generator: str) -> str:
    """A generator's name in lower case without punctuation."""
    name = re.sub(r"[^a-z0-9]", "", generator.lower())
    return _ALIASES.get(name, name)
