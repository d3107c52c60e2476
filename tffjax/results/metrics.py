"""Detection metrics, per generator."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import average_precision_score, roc_curve


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Scores of one group of images; a figure that needs a label which is absent is NaN.

    Attributes:
        ap: average precision of the probability against real/fake.
        real, fake: accuracy on real and on fake images at 0.5.
        threshold: the calibrated threshold.
        real_calibrated, fake_calibrated: accuracies at that threshold.
        num_real, num_fake: how many images.
    """

    ap: float
    real: float
    fake: float
    threshold: float
    real_calibrated: float
    fake_calibrated: float
    num_real: int
    num_fake: int


def score(
    probability: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], threshold: float | None = None
) -> Metrics:
    """Metrics of probabilities of being fake.

    An image counts as fake at 0.5 if p > 0.5, and at the calibrated threshold t if p >= t.

    Args:
        probability: of being fake.
        label: 0 real, 1 fake.
        threshold: the calibrated threshold; None finds it on these images (`calibrated_threshold`).
    """
    real, fake = probability[label == 0], probability[label == 1]
    both = len(real) > 0 and len(fake) > 0
    if threshold is None:
        threshold = calibrated_threshold(probability, label) if both else np.nan
    calibrated = not np.isnan(threshold)
    return Metrics(
        ap=float(average_precision_score(label, probability)) if both else np.nan,
        real=_share(real <= 0.5),
        fake=_share(fake > 0.5),
        threshold=float(threshold),
        real_calibrated=_share(real < threshold) if calibrated else np.nan,
        fake_calibrated=_share(fake >= threshold) if calibrated else np.nan,
        num_real=len(real),
        num_fake=len(fake),
    )


def calibrated_threshold(probability: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]) -> float:
    """The threshold of the ROC point with the largest sqrt(tpr * (1 - fpr)); the highest one on ties."""
    fpr, tpr, thresholds = roc_curve(label, probability, drop_intermediate=False)
    return float(thresholds[np.argmax(tpr * (1 - fpr))])


def _share(hits: np.ndarray) -> float:
    return float(np.mean(hits)) if len(hits) else np.nan
