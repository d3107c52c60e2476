"""What the paper reports on each part of its supplement: its definitions, and what its published numbers say.

Only numbers of tables E.1, I.1 and I.2 are known here (`tffjax.results.published`); of other figures, what they show.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tffjax.results.generators import ALL, PAPER, shown_name
from tffjax.results.published import dropout_numbers, grayscale_numbers

RANKING = (
    "The code's release has the FF-RS of every channel on ProGAN's validation images, taken on random crops without a "
    "seed: small differences are expected."
)
FEATURES = (
    "LRP-max patches and largest activations of T-FF, channels by generators. A channel is color-conditional if Mood's "
    "median test between its largest activations on fakes and on their grayscale versions has p <= 0.05. The paper's "
    "finding is that color is a critical T-FF."
)
MEDIANS = (
    "Box plots of fakes whose probability is at least 20 %, on the original and on grayscale images, with the drop of "
    "the medians."
)
CONTROL = (
    "The control: what grayscale does to an ImageNet network, by the probability of its class, against what it does to "
    "detectors across generators. Its numbers are not known here."
)
HEATMAPS = (
    "Guided Grad-CAM and LRP, of the detector and of an ImageNet network on the same fakes, positive parts. The "
    "released code resizes images to 256 and crops them to 224 pixels."
)
GENERATOR = (
    "The detector's scores of ProGAN bedrooms collapse without the top 5 % of the generator's channels, and hardly "
    "move without a random 5 %."
)


def dropout_facts(detector: str, k: int) -> str:
    """Table E.1 of a detector of the paper, in words."""
    top, random, base = (
        {name: dropout_numbers(detector, setting, name) for name in PAPER}
        for setting in (f"top-{k}", f"random-{k}", "baseline")
    )
    known = [name for name in PAPER if top[name] and random[name] and base[name]]
    if not known:
        return f"The paper has no numbers of {detector} for k = {k}."
    mean = {
        label: np.mean([(row[name].ap, row[name].fake) for name in known], axis=0)
        for label, row in (("base", base), ("top", top), ("random", random))
    }
    return (
        f"{detector}, mean over {len(known)} generators: AP {mean['base'][0]:.1%}, without the top {k} channels "
        f"{mean['top'][0]:.1%}, without {k} random ones {mean['random'][0]:.1%}; accuracy on fakes "
        f"{mean['base'][1]:.1%}, {mean['top'][1]:.1%} and {mean['random'][1]:.1%}."
    )


def grayscale_facts(detector: str) -> str:
    """Tables I.1 and I.2 of a detector of the paper, in words."""
    base, gray = (
        np.mean([grayscale_numbers(detector, kind, name)[:3] for name in PAPER], axis=0)
        for kind in ("Baseline", "Grayscale")
    )
    return (
        f"{detector}, mean over {len(PAPER)} generators: AP {base[0]:.1%}, on grayscale images {gray[0]:.1%}; accuracy "
        f"on fakes {base[2]:.1%} and {gray[2]:.1%}."
    )


def agreement(table: pa.Table, setting: str, columns: Sequence[str], scale: int) -> str:
    """How far our numbers of a long table are from the published ones beside them, in a sentence.

    Args:
        table: with a column `published_NAME` for each NAME of `columns`.
        setting: name of the column of settings.
        columns: of the numbers.
        scale: from the numbers to percentage points.
    """
    apart = [
        (abs(row[name] - row[f"published_{name}"]) * scale, row[setting], row["generator"], name)
        for row in table.to_pylist()
        for name in columns
        if row["generator"] != ALL and row[f"published_{name}"] is not None and row[name] == row[name]
    ]
    if not apart:
        return "The paper has no numbers for these images."
    worst = max(apart)
    names = {"ap": "AP", "fake": "accuracy on fakes", "real": "accuracy on reals"}
    what = next(word for part, word in names.items() if part in worst[3])
    return (
        f"Of {len(apart)} numbers that the paper has, ours differ by {np.median([one[0] for one in apart]):.1f} "
        f"percentage points in the median and by {worst[0]:.1f} at most ({what}, {worst[1]}, {shown_name(worst[2])})."
    )
