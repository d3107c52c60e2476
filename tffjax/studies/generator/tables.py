"""Tables of the study: what masking does, and what each layer has of the relevance."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from tffjax.studies.dropout.settings import Setting, family
from tffjax.studies.generator.settings import scale_of
from tffjax.studies.rankings import Channel

MEASURES = ("probability", "psnr", "color", "detail")


def masking_table(
    settings: Sequence[Setting],
    channels: int,
    measures: dict[str, Float[np.ndarray, "n settings"]],
    threshold: float = 0.5,
) -> pa.Table:
    """A row for each family of sets (`top-12`, all draws of `random-12`, `scale 8`), the baseline first.

    setting, k, percent (of all channels), draws; of the probability of being fake: its median over images and draws,
    `drop` (that of the baseline less it), median_low and median_high (smallest and largest median of a draw), mean and
    detected (share of p >= threshold); medians of psnr, color and detail.

    Args:
        settings: the sets.
        channels: how many there are in all.
        measures: `MEASURES`, and `logit`, of every image and set.
        threshold: of the probability.
    """
    families: dict[str, list[int]] = {}
    for index, setting in enumerate(settings):
        families.setdefault(family(setting.name), []).append(index)
    base = float(np.median(measures["probability"][:, 0]))
    rows = []
    for name, members in families.items():
        probability = measures["probability"][:, members]
        medians = np.median(probability, axis=0)
        k = len(settings[members[0]].channels)
        rows.append(
            {
                "setting": name,
                "k": k,
                "percent": 100 * k / channels,
                "draws": len(members),
                "median": float(np.median(probability)),
                "drop": base - float(np.median(probability)),
                "median_low": float(medians.min()),
                "median_high": float(medians.max()),
                "mean": float(probability.mean()),
                "detected": float((probability >= threshold).mean()),
                "logit": float(np.median(measures["logit"][:, members])),
                **{name: float(np.median(measures[name][:, members])) for name in MEASURES[1:]},
            }
        )
    return pa.Table.from_pylist(rows)


def layer_table(channels: Sequence[Channel], top: Sequence[Channel], net: Float[np.ndarray, "n sites"]) -> pa.Table:
    """A row for each site: site, scale (pixels), channels, relevance, top, share.

    relevance is the sum over positions and channels, mean over images, of a start relevance of 1; top is how many of
    the top channels are there, share which part of the site's channels that is.
    """
    sites = {channel.site: channel for channel in channels}
    counts = {site: sum(channel.site == site for channel in top) for site in sites}
    mean = net.mean(axis=0, dtype=np.float64)
    rows = [
        {
            "site": site,
            "scale": scale_of(channel),
            "channels": channel.channels,
            "relevance": float(value),
            "top": counts[site],
            "share": counts[site] / channel.channels,
        }
        for (site, channel), value in zip(sites.items(), mean, strict=True)
    ]
    return pa.Table.from_pylist(rows)
