"""Channel keys and rankings: the released CSV form `key,mean_relevance`, one channel a line, largest first."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tffjax.errors import InputError
from tffjax.nn.model import Model
from tffjax.nn.sites import sites_of

HEADER = ("key", "mean_relevance")

_KEY = re.compile(r"(?P<site>[\w.@]+)\.#(?P<index>\d+)\(T=(?P<channels>\d+)\)")


class Channel(NamedTuple):
    """A channel of a site: the site's name, the index in it, and how many channels the site has."""

    site: str
    index: int
    channels: int

    @property
    def key(self) -> str:
        """The channel key of published rankings, e.g. `layer1.0.conv1.#63(T=64)` (SPEC section 1)."""
        return f"{self.site}.#{self.index}(T={self.channels})"


class Ranking(NamedTuple):
    """Channels and their FF-RS omega (>= 0), in the order of the file: best first."""

    channels: tuple[Channel, ...]
    omega: Float[np.ndarray, " c"]


def parse_key(key: str) -> Channel:
    """The channel that a key names.

    Raises:
        InputError: it is not a channel key.
    """
    match = _KEY.fullmatch(key.strip())
    if not match or int(match["index"]) >= int(match["channels"]):
        raise InputError(f"{key!r} is not a channel key such as layer1.0.conv1.#63(T=64)")
    return Channel(match["site"], int(match["index"]), int(match["channels"]))


def all_channels(model: Model, size: tuple[int, ...] | None = None) -> tuple[Channel, ...]:
    """Every channel of every site of a network, in the order of the sites and then of the channels.

    `size` is one of images that the network takes, as for `tffjax.nn.sites_of`.
    """
    sites = sites_of(model, size)
    return tuple(Channel(site.name, index, site.channels) for site in sites for index in range(site.channels))


def check_channels(channels: Sequence[Channel], model: Model, size: tuple[int, ...] | None = None) -> None:
    """Raise an InputError unless the network has all these channels, and none is named twice."""
    known = set(all_channels(model, size))
    unknown = [channel for channel in channels if channel not in known]
    if unknown:
        raise InputError(
            f"the network has no channel {unknown[0].key} ({len(unknown)} of {len(channels)} are unknown); "
            "the list was made with another network"
        )
    if len(set(channels)) < len(channels):
        twice = next(channel for i, channel in enumerate(channels) if channel in channels[:i])
        raise InputError(f"channel {twice.key} is named twice")


def read_ranking(path: Path) -> Ranking:
    """Read a ranking.

    Raises:
        InputError: not a CSV with the columns key and mean_relevance, a line that cannot be read, an empty file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"{path}: cannot be read as a ranking ({reason})") from None
    if tuple(header[:2]) != HEADER or not rows:
        raise InputError(
            f"{path}: not a ranking; expected a CSV with the header {','.join(HEADER)} and a channel a line"
        )
    channels, omega = [], np.empty(len(rows))
    for i, row in enumerate(rows):
        try:
            channels.append(parse_key(row[0]))
            omega[i] = float(row[1])
        except (InputError, ValueError, IndexError):
            raise InputError(f"{path}, line {i + 2}: {','.join(row)!r} is not `key,mean_relevance`") from None
    return Ranking(tuple(channels), omega)


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Write a ranking in the released form; values are printed so that they read back to the same number."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((channel.key, repr(float(value))) for channel, value in zip(*ranking, strict=True))
