"""Which channels are switched off: the mask sets of feature-map dropout (SPEC 6).

A setting's name says what it is: `baseline`, `top-114`, `low-114`, `random-114/0` (draw 0), `file`, or
`single layer1.0.conv1.#63(T=64)`.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tffjax.errors import InputError
from tffjax.files import read_text
from tffjax.nn.model import Model
from tffjax.studies.rankings import Channel, Ranking, check_channels, parse_key

_COUNTED = re.compile(r"(?P<kind>top|low|random)-(?P<k>\d+)(?:/\d+)?")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A mask set: a name and the channels that are switched off together."""

    name: str
    channels: tuple[Channel, ...]


BASELINE = Setting("baseline", ())
"""Nothing switched off."""


def top_k(ranking: Ranking, k: int) -> Setting:
    """The first k channels of a ranking.

    Raises:
        InputError: k is not in 1...number of channels.
    """
    _check_k(ranking, k)
    return Setting(f"top-{k}", ranking.channels[:k])


def low_k(ranking: Ranking, k: int) -> Setting:
    """The last k channels of a ranking.

    Raises:
        InputError: k is not in 1...number of channels.
    """
    _check_k(ranking, k)
    return Setting(f"low-{k}", ranking.channels[-k:])


def random_k(ranking: Ranking, k: int, draws: int, seed: int) -> tuple[Setting, ...]:
    """`draws` sets of k channels outside the first k of a ranking, each drawn without replacement.

    Every (seed, k, draw) has its own stream of random numbers: a set does not depend on what else is drawn.

    Raises:
        InputError: k is not in 1...number of channels, fewer than k channels are left outside the first k, or the
            seed is negative.
    """
    _check_k(ranking, k)
    if seed < 0:
        raise InputError(f"the seed must be at least 0, got {seed}")
    rest = ranking.channels[k:]
    if draws and k > len(rest):
        raise InputError(
            f"cannot draw {k} random channels outside the first {k}: only {len(rest)} of {len(ranking.channels)} are "
            f"left; random-k needs k of at most {len(ranking.channels) // 2}; without it, --random 0"
        )
    drawn = [np.random.default_rng([seed, k, draw]).choice(len(rest), k, replace=False) for draw in range(draws)]
    return tuple(
        Setting(f"random-{k}/{draw}", tuple(rest[i] for i in np.sort(indices))) for draw, indices in enumerate(drawn)
    )


def singles(channels: Iterable[Channel]) -> tuple[Setting, ...]:
    """Every channel alone."""
    return tuple(Setting(f"single {channel.key}", (channel,)) for channel in channels)


def read_setting(path: Path, model: Model) -> Setting:
    """The setting `file`: channel keys one a line; empty lines and what follows a comma are ignored.

    So a ranking, or part of one, can be given: its header is skipped.

    Raises:
        InputError: the file cannot be read or holds no key, a line is not a key, a channel is not in the network or
            is named twice.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not a text file'})") from None
    channels = []
    for number, line in enumerate(lines, start=1):
        key = line.partition(",")[0].strip()
        if not key or (number == 1 and key == "key"):
            continue
        try:
            channels.append(parse_key(key))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
    if not channels:
        raise InputError(f"{path}: holds no channel key; give one a line, such as layer1.0.conv1.#63(T=64)")
    try:
        check_channels(channels, model)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Setting("file", tuple(channels))


def check_settings(settings: Sequence[Setting]) -> None:
    """Raise an InputError if two settings have one name, such as when the same k is given twice."""
    names = [setting.name for setting in settings]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"setting {twice} is asked for twice")


def family(name: str) -> str:
    """The name of a setting without its draw: the draws `random-114/0`, `random-114/1`... make up `random-114`."""
    return name.partition("/")[0] if _COUNTED.fullmatch(name) else name


def counted(name: str) -> tuple[str, int] | None:
    """(`top`, `low` or `random`, k) of a setting that takes k channels, None of any other."""
    match = _COUNTED.fullmatch(name)
    return (match["kind"], int(match["k"])) if match else None


def _check_k(ranking: Ranking, k: int) -> None:
    if not 1 <= k <= len(ranking.channels):
        raise InputError(f"k must be from 1 to {len(ranking.channels)}, the number of ranked channels; got {k}")
