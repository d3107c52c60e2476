"""Metrics of a detector on one group of images, ranked by score.

The **score** of an image is the logit that it is fake, log p / (1 - p), in float64: probabilities tie at 1.0 from a
logit of 37 on (in float32 from 17 on), and what ties has lost its rank.

All metrics follow from how many real and how many fake images have at least each of the different scores. scikit-learn
computes the same for one sample; here a thousand bootstrap replicates are one array (`tffjax.results.detection`).
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

HALF = 0.0
"""The score at which the probability is 0.5."""


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics of one group of images; one that needs a label which is absent is NaN.

    With the threshold t an image is called fake if its score is at least t; at 0.5 if its probability is above 0.5.

    Attributes:
        ap: average precision, sum over the different scores of (change of recall) x precision.
        auc: area under the ROC curve.
        accuracy, real, fake: of all, of real and of fake images at 0.5.
        threshold: the calibrated threshold: given, or that of the ROC point with the largest sqrt(tpr (1 - fpr)), the
            highest on ties; above all scores where nothing is better than calling nothing fake.
        accuracy_calibrated, real_calibrated, fake_calibrated: at that threshold.
        threshold_best: that of the largest total accuracy on these images themselves, the highest on ties.
        accuracy_best, real_best, fake_best: at that threshold.
        tpr_at_1_fpr, tpr_at_5_fpr: the largest share of fakes called fake at a threshold at which at most 1 % (5 %) of
            the real images are.
        eer: equal error rate: where fpr = 1 - tpr on the ROC curve, whose points are joined by straight lines.
        num_real, num_fake: how many images.
    """

    ap: float
    auc: float
    accuracy: float
    real: float
    fake: float
    threshold: float
    accuracy_calibrated: float
    real_calibrated: float
    fake_calibrated: float
    threshold_best: float
    accuracy_best: float
    real_best: float
    fake_best: float
    tpr_at_1_fpr: float
    tpr_at_5_fpr: float
    eer: float
    num_real: int
    num_fake: int


class Ranked(NamedTuple):
    """Images by score.

    Attributes:
        levels: the different scores, the highest first.
        counts: how many real and how many fake images have each of them.
    """

    levels: Float[np.ndarray, " t"]
    counts: Int[np.ndarray, "2 t"]


def ranked(score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]) -> Ranked:
    """Images by score; `label` is 0 for real, 1 for fake."""
    levels, place = np.unique(-score.astype(np.float64), return_inverse=True)
    counts = [np.bincount(place[label == value], minlength=len(levels)) for value in (0, 1)]
    return Ranked(-levels, np.stack(counts).astype(np.int64))


def measure(score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], threshold: float | None = None) -> Metrics:
    """Metrics of scores.

    Args:
        score: of each image, finite.
        label: 0 real, 1 fake.
        threshold: the calibrated threshold, a score; None finds it on these images.
    """
    levels, counts = ranked(score, label)
    values = measures(levels, counts[None], threshold)
    kinds = Metrics.__annotations__
    return Metrics(**{name: kinds[name](value[0]) for name, value in values.items()})


def measures(
    levels: Float[np.ndarray, " t"], counts: Int[np.ndarray, "r 2 t"], threshold: float | None = None
) -> dict[str, Shaped[np.ndarray, " r"]]:
    """The fields of `Metrics`, each of r samples with the same different scores: what `Ranked` holds of each."""
    zero = np.zeros((*counts.shape[:-1], 1), np.int64)
    called = np.concatenate([zero, counts.cumsum(axis=-1)], axis=-1)  # fake, at each level and, first, at none
    wrong, right = called[..., 0, :], called[..., 1, :]
    reals, fakes = wrong[..., -1], right[..., -1]
    cuts = np.concatenate([[np.nextafter(levels[0], np.inf) if len(levels) else np.nan], levels])
    both = (reals > 0) & (fakes > 0)

    def accuracies(at: np.ndarray, known: np.ndarray | bool = True) -> list[np.ndarray]:
        hits, errors = (np.take_along_axis(of, at[..., None], axis=-1)[..., 0] for of in (right, wrong))
        parts = ((hits + reals - errors, reals + fakes), (reals - errors, reals), (hits, fakes))
        return [np.where(known, _share(*part), np.nan) for part in parts]

    def at(cut: float | int) -> np.ndarray:
        return np.broadcast_to(cut, reals.shape)

    columns = (..., None)
    precision = right / np.maximum(right + wrong, 1)
    found = {
        "ap": np.where(both, _share((np.diff(right) * precision[..., 1:]).sum(-1), fakes), np.nan),
        "auc": _share((np.diff(wrong) * (right[..., 1:] + right[..., :-1])).sum(-1), 2 * reals * fakes),
    }
    found |= zip(("accuracy", "real", "fake"), accuracies(at(int((levels > HALF).sum()))), strict=True)
    if threshold is None:
        place = (right * (reals[columns] - wrong)).argmax(-1)
        found["threshold"], known = np.where(both, cuts[place], np.nan), both
    else:
        place, known = at(int((levels >= threshold).sum())), not np.isnan(threshold)
        found["threshold"] = at(threshold)
    names = ("accuracy_calibrated", "real_calibrated", "fake_calibrated")
    found |= zip(names, accuracies(place, known), strict=True)
    best = (right + reals[columns] - wrong).argmax(-1)
    found["threshold_best"] = np.where(both, cuts[best], np.nan)
    found |= zip(("accuracy_best", "real_best", "fake_best"), accuracies(best, both), strict=True)
    for percent in (1, 5):
        allowed = 100 * wrong <= percent * reals[columns]
        found[f"tpr_at_{percent}_fpr"] = np.where(reals > 0, _share(np.where(allowed, right, 0).max(-1), fakes), np.nan)
    found["eer"] = _equal_error_rate(wrong, right, reals, fakes)
    return found | {"num_real": reals, "num_fake": fakes}


def _equal_error_rate(wrong: np.ndarray, right: np.ndarray, reals: np.ndarray, fakes: np.ndarray) -> np.ndarray:
    """Where (fpr + tpr - 1) x reals x fakes, which rises along the curve, is zero."""
    columns = (..., None)
    excess = wrong * fakes[columns] + right * reals[columns] - (reals * fakes)[columns]
    after = np.maximum((excess >= 0).argmax(-1), 1) if excess.shape[-1] > 1 else np.zeros(reals.shape, np.int64)
    (low, high), (start, end) = (
        [np.take_along_axis(of, np.maximum(place, 0)[columns], -1)[..., 0] for place in (after - 1, after)]
        for of in (excess, wrong)
    )
    return np.where((reals > 0) & (fakes > 0), _share(start + _share(-low, high - low) * (end - start), reals), np.nan)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where there is no whole."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
