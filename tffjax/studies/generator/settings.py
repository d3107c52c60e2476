"""Which sets of a generator's channels are masked."""

import math
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from tffjax.errors import InputError
from tffjax.studies.dropout.settings import BASELINE, Setting, low_k, random_k, top_k
from tffjax.studies.rankings import Channel, Ranking

SWEEP = (1.0, 2.0, 5.0, 10.0)
"""Percent of the channels."""


def parse_percent(text: str) -> float:
    """`5%` as 5.0.

    Raises:
        InputError: it is no percentage between 0 and 50.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text.strip())
    if not match or not 0 < float(match[1]) <= 50:
        raise InputError(f"--top {text}: give a percentage of the channels above 0% and up to 50%, such as 5%")
    return float(match[1])


def count_of(percent: float, channels: int) -> int:
    """How many channels a percentage means: at least one, rounded up."""
    return max(1, math.ceil(round(percent * channels / 100, 9)))


def settings_of(ranking: Ranking, percent: float, draws: int, seed: int) -> tuple[Setting, ...]:
    """The sets, the empty one first: top, low and random ones of the sweep; the top ones of each scale alone.

    Random sets are drawn outside of the top one of their size: `draws` of the size that is asked about, a quarter as
    many, rounded up, of the others.
    """
    total = len(ranking.channels)
    asked = count_of(percent, total)
    counts = sorted({asked, *(count_of(share, total) for share in SWEEP)})
    found = [BASELINE]
    for k in (k for k in counts if k <= total // 2):
        many = draws if k == asked else -(-draws // 4)
        found += [top_k(ranking, k), low_k(ranking, k), *random_k(ranking, k, many, seed)]
    top = ranking.channels[:asked]
    scales = sorted({scale_of(channel) for channel in top})
    found += [Setting(f"scale {scale}", tuple(c for c in top if scale_of(c) == scale)) for scale in scales]
    return tuple(found)


def scale_of(channel: Channel) -> int:
    """The height of the maps of a channel, from the name of its site, `8x8.conv0`."""
    return int(channel.site.partition("x")[0])


def masks_of(settings: Sequence[Setting], channels: Sequence[Channel]) -> Bool[np.ndarray, "settings channels"]:
    """Which of all channels each set masks."""
    place = {channel: index for index, channel in enumerate(channels)}
    masks = np.zeros((len(settings), len(channels)), bool)
    for mask, setting in zip(masks, settings, strict=True):
        mask[[place[channel] for channel in setting.channels]] = True
    return masks
