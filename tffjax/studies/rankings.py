"""Channel keys and rankings: the released CSV form `key,mean_relevance`, one channel a line, largest first."""

import csv
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from tffjax.errors import InputError
from tffjax.files import read_text, regular, replace_file
from tffjax.nn.model import Model
from tffjax.nn.networks import network_of
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


def broken(key: str) -> str:
    """A channel's name in short lines, for narrow figures: `layer1.0.`, `conv1`, `#63`."""
    channel = parse_key(key)
    block, dot, layer = channel.site.rpartition(".")
    return f"{block}{dot}\n{layer}\n#{channel.index}".lstrip("\n")


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
        with open(path, newline="", encoding="utf-8", opener=regular) as stream:
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
            if not np.isfinite(omega[i]):
                raise ValueError("no finite number")
        except (InputError, ValueError, IndexError):
            raise InputError(f"{path}, line {i + 2}: {','.join(row)!r} is not `key,mean_relevance`") from None
    return Ranking(tuple(channels), omega)


def read_keys(path: Path) -> tuple[Channel, ...]:
    """Channels of a file: a key a line; empty lines and what follows a comma are ignored.

    So a ranking, or part of one, can be given: its header is skipped.

    Raises:
        InputError: the file cannot be read or holds no key, or a line is not a key.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not a text file'})") from None
    channels = []
    for number, line in enumerate(lines, start=1):
        key = line.partition(",")[0].strip()
        if not key or (number == 1 and key == HEADER[0]):
            continue
        try:
            channels.append(parse_key(key))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
    if not channels:
        raise InputError(f"{path}: holds no channel key; give one a line, such as layer1.0.conv1.#63(T=64)")
    return tuple(channels)


def ranking_table(ranking: Ranking) -> pa.Table:
    """A ranking as a table, with the columns of the released form."""
    columns = ([channel.key for channel in ranking.channels], ranking.omega)
    return pa.table(dict(zip(HEADER, columns, strict=True)))


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Write a ranking in the released form; values are printed so that they read back to the same number."""
    with replace_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows((channel.key, repr(float(value))) for channel, value in zip(*ranking, strict=True))


def chosen_k(model: Model, k: int | None) -> int:
    """How many channels count as the top ones: `k`, or as many as in the paper.

    Raises:
        InputError: neither is there.
    """
    k = k or network_of(model.card).paper_k
    if k is None:
        raise InputError(f"the paper has no number of channels for {model.card.architecture}; give --k")
    return k


RankingLike = str | os.PathLike[str] | Ranking | Sequence[str | Channel]
"""A ranking, its file, or channels or channel keys, best first."""


def as_channels(given: Sequence[str | Channel]) -> tuple[Channel, ...]:
    """Channels, given themselves or by their keys.

    Raises:
        InputError: a key cannot be read.
    """
    return tuple(parse_key(channel) if isinstance(channel, str) else channel for channel in given)


def ranking_of(given: RankingLike | None, model: Model) -> Ranking:
    """The ranking that is meant, for this network.

    Raises:
        InputError: none is given, the file cannot be read, or it is a ranking of another network.
    """
    if given is None:
        raise InputError("give --ranking RANK.csv, such as tffjax rank writes")
    if isinstance(given, Ranking):
        ranking = given
    elif isinstance(given, str | os.PathLike):
        ranking = read_ranking(Path(given))
    else:
        channels = as_channels(given)
        ranking = Ranking(channels, np.full(len(channels), np.nan))
    check_channels(ranking.channels, model)
    return ranking


def argument_of(given: Any) -> str | None:
    """A ranking, or a list of channels, as a run's argument: its file; None for one from memory."""
    return os.fspath(given) if isinstance(given, str | os.PathLike) else None


def digest(ranking: Ranking) -> str:
    """SHA-256 of the keys in their order."""
    return hashlib.sha256("\n".join(channel.key for channel in ranking.channels).encode()).hexdigest()
