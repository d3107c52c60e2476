"""How large a difference Mood's median test finds in so many images: the power of the color study's test.

    python scripts/demo_power.py

prints the table of the demonstration's model card.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from tffjax.studies.color.statistics import ALPHA

POWER = 0.8
NUMBERS = (24, 48, 100, 500, 2000)
_DRAWS = 2000


def found(before: Float[np.ndarray, "r n"], after: Float[np.ndarray, "r n"]) -> Bool[np.ndarray, " r"]:
    """Whether the test has p <= `ALPHA`, for each of r pairs of samples without ties (`scipy.stats.median_test`)."""
    n = before.shape[1]
    above = (before > np.median(np.hstack([before, after]), axis=1, keepdims=True)).sum(1)
    # above of n lie above in one sample, n - above in the other; Yates' correction takes 1/2 off the distance from n/2
    distance = np.maximum(np.abs(above - n / 2) - 0.5, 0)
    return stats.chi2.sf(4 * distance**2 / (n / 2), 1) <= ALPHA


def power(n: int, shift: float, seed: int = 0) -> float:
    """Share of pairs of samples of n normal numbers, `shift` standard deviations apart, in which the test finds it."""
    before, after = np.random.default_rng(seed).standard_normal((2, _DRAWS, n))
    return float(found(before + shift, after).mean())


def smallest(n: int) -> float:
    """The shift, in standard deviations, that is found with a power of `POWER` in n images; to 0.01."""
    low, high = 0.0, 4.0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if power(n, middle) < POWER else (low, middle)
    return high


if __name__ == "__main__":
    for n in NUMBERS:
        print(f"{n} images: {smallest(n):.2f} standard deviations")
