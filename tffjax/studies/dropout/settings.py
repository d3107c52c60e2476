"""Which channels are switched off: the mask sets of feature-map dropout (SPEC 6).

A setting's name says what it is: `baseline`, `top-114`, `low-114`, `random-114/0` (draw 0), or
`single layer1.0.conv1.#63(T=64)`.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from tffjax.errors import InputError
from tffjax.studies.rankings import Channel, Ranking

_COUNTED = re.compile(r"(?P<kind>top|low|random)-(?P<k>\d+)(?:/\d+)?")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A mask set: a name and the channels that are switched off together."""

    name: str
    channels: tuple[Channel, ...]


BASELINE = Setting("baseline", ())
"""Nothing switched off."""

_ORDER = (BASELINE.name, "top", "random", "low")


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
            f"left; give a ranking of more channels, a k of at most half of them, or --random 0"
        )
    drawn = [np.random.default_rng([seed, k, draw]).choice(len(rest), k, replace=False) for draw in range(draws)]
    return tuple(
        Setting(f"random-{k}/{draw}", tuple(rest[i] for i in np.sort(indices))) for draw, indices in enumerate(drawn)
    )


def singles(channels: Iterable[Channel]) -> tuple[Setting, ...]:
    """Every channel alone."""
    return tuple(Setting(f"single {channel.key}", (channel,)) for channel in channels)


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


def paper_name(name: str) -> str:
    """What a setting is called in the layout of table E.1: `k = 0`, `top-k, k = 114`; others as they are."""
    if name == BASELINE.name:
        return "k = 0"
    kind_k = counted(name)
    return f"{kind_k[0]}-k, k = {kind_k[1]}" if kind_k else name


def paper_order(name: str) -> tuple[int, int]:
    """Where a setting stands in the layout of table E.1: k = 0, then the top, random and last k, each by k."""
    kind, k = counted(name) or (name, 0)
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), k


def _check_k(ranking: Ranking, k: int) -> None:
    if not 1 <= k <= len(ranking.channels):
        raise InputError(f"k must be from 1 to {len(ranking.channels)}, the number of ranked channels; got {k}")
