"""Which channels of a ranking a study takes: its first ones, named ones, those that respond to color or do not."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tffjax.errors import InputError
from tffjax.nn.model import Model
from tffjax.results.generators import plain_name
from tffjax.results.record import identity_of
from tffjax.results.tables import read_table
from tffjax.results.words import fewer_channels
from tffjax.studies.call import arguments_of
from tffjax.studies.rankings import (
    Channel,
    Ranking,
    RankingLike,
    as_channels,
    check_channels,
    chosen_k,
    digest,
    ranking_of,
)

CONDITIONAL, UNCONDITIONAL = "color-conditional", "not-color-conditional"
GRAYSCALE = "grayscale"
"""The ablation that makes a channel color-conditional."""


class Chosen(NamedTuple):
    """A ranking that the chosen channels come first in.

    Attributes:
        ranking: the chosen channels, best first, then all others in their order.
        count: how many are chosen.
        selected: whether any were left out.
    """

    ranking: Ranking
    count: int
    selected: bool

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The chosen ones."""
        return self.ranking.channels[: self.count]


class Amounts(NamedTuple):
    """Numbers of channels, none above what there is, and a word where one was; "" where none was."""

    ks: tuple[int, ...]
    word: str


def choose(
    ranking: Ranking | None,
    keys: Sequence[str | Channel] | None = None,
    where: str | None = None,
    color: str | os.PathLike[str] | None = None,
    weights: str | None = None,
) -> Chosen:
    """The channels of a ranking that are meant; both conditions hold where both are given.

    Args:
        ranking: None stands for the channels of `keys` or of the color run alone.
        keys: channels or their keys, in the order in which they are wanted; all must be in the ranking.
        where: `color-conditional`: Mood's p is at most 0.05 on the fakes of every generator of a color run with the
            ablation grayscale; `not-color-conditional`: on none of them. With `:GENERATOR` behind, on that one.
            Channels that the run did not test are neither.
        color: run directory of `tffjax color`.
        weights: SHA-256 of the network's weights, which must be the run's; None for any.

    Raises:
        InputError: neither ranking, keys nor `where` are given; a key is not in the ranking, or is named twice; the
            color run is not one, is of another network or generator; no channel is left.
    """
    if (where is None) != (color is None):
        raise InputError(f"--where {CONDITIONAL} and --color RUN, of tffjax color, need each other")
    wanted = None if keys is None else as_channels(keys)
    if wanted is not None and len(set(wanted)) < len(wanted):
        raise InputError(f"channel {next(c for i, c in enumerate(wanted) if c in wanted[:i]).key} is named twice")
    responding = None if where is None else conditional(color, where, weights)
    if ranking is None:
        first = wanted if wanted is not None else responding
        if first is None:
            raise InputError("give --ranking RANK.csv, such as tffjax rank writes, or channels with --keys")
        ranking = Ranking(first, np.full(len(first), np.nan))
    place = {channel: number for number, channel in enumerate(ranking.channels)}
    if missing := [channel for channel in wanted or () if channel not in place]:
        raise InputError(f"--keys names {missing[0].key}, which is none of the channels of the ranking or the runs")
    if wanted is None and responding is None:
        return Chosen(ranking, len(ranking.channels), False)
    chosen = list(ranking.channels if wanted is None else wanted)
    if responding is not None:
        members = set(responding)
        chosen = [channel for channel in chosen if channel in members]
    if not chosen:
        raise InputError(f"none of the channels is {where} in {color}")
    members = set(chosen)
    channels = (*chosen, *(channel for channel in ranking.channels if channel not in members))
    omega = ranking.omega[[place[channel] for channel in channels]]
    return Chosen(Ranking(channels, omega), len(chosen), True)


def conditional(color: str | os.PathLike[str], where: str, weights: str | None = None) -> tuple[Channel, ...]:
    """The channels of a color run that are color-conditional, or not, in its order; see `choose`.

    Raises:
        InputError: as `choose`.
    """
    word, _, generator = where.partition(":")
    if word not in (CONDITIONAL, UNCONDITIONAL):
        raise InputError(f"--where is {CONDITIONAL} or {UNCONDITIONAL}, with :GENERATOR behind for one; got {where}")
    folder = Path(color)
    theirs = identity_of(folder, "color")["weights"].get("weights_sha256")
    if weights and theirs != weights:
        raise InputError(f"{folder} was made with another network; give the color run of this one")
    rows = [row for row in read_table(folder / "tests").to_pylist() if row["ablation"] == GRAYSCALE]
    if not rows:
        raise InputError(f"{folder} did not test grayscale images; run tffjax color with --ablation grayscale")
    tested = [row for row in rows if not generator or plain_name(row["generator"]) == plain_name(generator)]
    if not tested:
        there = ", ".join(dict.fromkeys(row["generator"] for row in rows))
        raise InputError(f"{folder} has no generator {generator}; it has {there}")
    responds: dict[str, list[bool]] = {}
    for row in tested:
        responds.setdefault(row["key"], []).append(row["color_conditional"])
    keys = [key for key, found in responds.items() if (all(found) if word == CONDITIONAL else not any(found))]
    return as_channels(keys)


def amounts(chosen: Chosen, ks: Sequence[int]) -> Amounts:
    """How many of the chosen channels are taken, none twice: numbers above what there is are what there is."""
    word = fewer_channels(chosen.count, max(ks))
    return Amounts(tuple(dict.fromkeys(min(k, chosen.count) for k in ks)) if word else tuple(ks), word)


@dataclasses.dataclass(frozen=True)
class ChannelStudy:
    """What studies of chosen channels share: a network, and which channels of a ranking are meant, see `choose`."""

    model: Model
    ranking: RankingLike | None
    keys: Sequence[str] | None = dataclasses.field(default=None, kw_only=True)
    where: str | None = dataclasses.field(default=None, kw_only=True)
    color: str | None = dataclasses.field(default=None, kw_only=True)

    def identity(self) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`: all channels of the ranking count, the others as random ones."""
        return {
            "arguments": arguments_of(self),
            "weights": dataclasses.asdict(self.model.card),
            "ranking": digest(self.chosen.ranking),
            "chosen": self.chosen.count,
        }

    @functools.cached_property
    def chosen(self) -> Chosen:
        """The channels that are meant, all of this network; read once.

        Raises:
            InputError: as `choose` and `tffjax.studies.rankings.ranking_of`.
        """
        ranking = None if self.ranking is None else ranking_of(self.ranking, self.model)
        chosen = choose(ranking, self.keys, self.where, self.color, self.model.card.weights_sha256)
        if ranking is None:
            check_channels(chosen.channels, self.model)
        return chosen

    def said(self, k: int | None) -> str:
        """The word of `first` as the end of a line."""
        word = self.first(k)[1]
        return f" ({word})" if word else ""

    def first(self, k: int | None) -> tuple[tuple[Channel, ...], str]:
        """The first `k` of them, and a word where there are fewer.

        None is all where channels were selected, else as many as in the paper, or all where there are fewer.

        Raises:
            InputError: as `chosen`; the paper has no number for this network.
        """
        chosen = self.chosen
        wanted = chosen.count if chosen.selected and k is None else chosen_k(self.model, k)
        (count,), word = amounts(chosen, [wanted])
        return chosen.channels[:count], word if k else ""
