"""The finding of the study of a generator, in words.

With d the share of images that the detector finds (p at least the study's threshold), the damage of masked channels is
the part of d that they take away: t for the top channels, r for random ones (over all draws).

    yes      t >= BROKEN and r <= SPARED
    partly   otherwise, if t - r >= MORE
    no       otherwise

Where d is below 1/2, the detector does not take the images for fakes, and nothing can be said.
"""

from collections.abc import Sequence
from typing import Any

from tffjax.whole.findings import BROKEN, MORE, SPARED, UNSAID, Finding

QUESTION = "Do a generator's top channels make the traces that the detector sees, while random channels do not?"


def generator_finding(masking: Sequence[dict[str, Any]], results: dict[str, Any]) -> Finding:
    """The finding, from the rows of masking.csv and the results of `tffjax generator`."""
    k, rows = results["k"], {row["setting"]: row for row in masking}
    base, top, random = (rows[name] for name in ("baseline", f"top-{k}", f"random-{k}"))
    draws = f"in {random['draws']} draws medians of {random['median_low']:.1%} to {random['median_high']:.1%}"
    lines = [
        f"Of {results['images']} images of {results['generator']}, {base['detected']:.1%} are found (p >= "
        f"{results['threshold']:g}); {top['detected']:.1%} without the top {k} of {results['channels']} channels, "
        f"{random['detected']:.1%} without {k} random ones.",
        f"Median probability {base['median']:.1%}, {top['median']:.1%} and {random['median']:.1%} ({draws}).",
        f"The images move by a PSNR of {top['psnr']:.1f} dB (random: {random['psnr']:.1f} dB) and their mean color by "
        f"{top['color']:.1f} levels ({random['color']:.1f}); {top['detail']:.0%} of their fine detail is left "
        f"({random['detail']:.0%}).",
        f"Yes is: the top channels take at least {BROKEN:.0%} of what is found, random ones at most {SPARED:.0%}.",
        "In the supplement's figure M.1 (ProGAN bedrooms), scores collapse without the top 5 % and hardly move without "
        "a random 5 %.",
    ]
    return Finding(QUESTION, verdict(*(float(row["detected"]) for row in (base, top, random))), "\n".join(lines))


def verdict(base: float, top: float, random: float) -> str:
    """The answer in a word or two, from shares of images that are found."""
    if base < 0.5:
        return UNSAID
    t, r = (base - top) / base, (base - random) / base
    if t >= BROKEN and r <= SPARED:
        return "yes"
    return "partly" if t - r >= MORE else "no"
