"""Which channels, and how many, must be switched off: search over k, and greedy choice. Pure logic over a callback."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from tffjax.errors import InputError
from tffjax.results.generators import ALL
from tffjax.studies.dropout.settings import BASELINE, counted
from tffjax.studies.rankings import Channel

Evaluate = Callable[[Sequence[int]], pa.Table]
Metric = Literal["either", "ap", "fake"]

_COLUMNS = {"either": ("ap", "fake_calibrated"), "ap": ("ap",), "fake": ("fake_calibrated",)}
_IN_WORDS = {"ap": "AP", "fake_calibrated": "the accuracy on fake images at the baseline's calibrated threshold"}


class Found(NamedTuple):
    """What `find_k` found.

    Attributes:
        k: the smallest k with a substantial drop, None if none of those tried has one.
        criterion: what counts as one, in words.
        curve: all that was evaluated, in the layout of `tffjax.studies.dropout.tables.dropout_table`, by k.
        warning: why the result should not be trusted, None if there is no reason.
    """

    k: int | None
    criterion: str
    curve: pa.Table
    warning: str | None


def find_k(evaluate: Evaluate, num_channels: int, share: float = 0.5, metric: Metric = "either") -> Found:
    """The smallest k such that switching off the top k channels makes a substantial drop.

    On every generator, AP, the accuracy on fake images (calibrated) or, of `either`, one of them must fall by `share`
    of its way from the baseline to chance: m_k <= m_0 - share (m_0 - chance). Chance is the share of fake images for AP
    and 1/2 for the accuracy. A generator on which the baseline is not above chance does not count.

    The search tries k = 1, 2, 4, ..., num_channels / 2 in one call, then halves the interval between the first that
    drops and the one before it. It assumes that a drop stays when k grows. If it does not, the result still drops and
    the result minus one does not, but a smaller k between two of those tried may drop as well.

    Args:
        evaluate: from some ks to the table with the rows `baseline`, `top-k` and, if wanted, `random-k` of each
            generator.
        num_channels: of the ranking; k goes up to half of them, so that random channels are left.
        share: in (0, 1].
        metric: what must fall.

    Raises:
        InputError: the share is out of range, there is no k to try, or no generator is told from chance.
    """
    if not 0 < share <= 1:
        raise InputError(f"the share of the way to chance must be above 0 and at most 1, got {share}")
    if num_channels < 2:
        raise InputError("a search over k needs at least two ranked channels")
    tables: dict[int, pa.Table] = {}

    def drops(ks: Sequence[int]) -> list[bool]:
        found = evaluate(ks)
        tables.update(dict.fromkeys(ks, found))
        return [all(_fallen(found, f"top-{k}", share, metric).values()) for k in ks]

    last = num_channels // 2
    grid = first_ks(last)
    dropped = drops(grid)
    k = None
    if any(dropped):
        place = dropped.index(True)
        low, k = (grid[place - 1] if place else 0), grid[place]
        while k - low > 1:
            middle = (low + k) // 2
            low, k = (low, middle) if drops([middle])[0] else (middle, k)
    return Found(k, _criterion(share, metric), _curve(tables), _warning(tables, k, share, metric, last))


def first_ks(last: int) -> list[int]:
    """The ks that a search up to `last` evaluates at once: 1, 2, 4, ..., last."""
    return sorted({2**power for power in range(last.bit_length())} | {last})


def most_calls(last: int) -> int:
    """How often a search up to `last` evaluates at most."""
    return 1 + max((b - a - 1).bit_length() for a, b in itertools.pairwise((0, *first_ks(last))))


class Step(NamedTuple):
    """One step of `greedy`: the channel that was added, and the effect of all channels up to it together."""

    channel: Channel
    effect: float


def greedy(
    evaluate: Callable[[Sequence[tuple[Channel, ...]]], Float[np.ndarray, " sets"]],
    candidates: Sequence[Channel],
    steps: int,
) -> tuple[Step, ...]:
    """Add channels one after the other, each time the one whose addition makes the largest effect.

    Channels that do the same are not chosen twice, other than at the top of a ranking. Costs one setting for every
    candidate left and step.

    Args:
        evaluate: from sets of channels to their effects, larger is more.
        candidates: to choose from; the first on ties.
        steps: how many to choose, at most as many as there are candidates.
    """
    chosen: tuple[Channel, ...] = ()
    found: list[Step] = []
    for _ in range(min(steps, len(candidates))):
        left = [channel for channel in candidates if channel not in chosen]
        effects = evaluate([(*chosen, channel) for channel in left])
        best = int(np.argmax(effects))
        chosen = (*chosen, left[best])
        found.append(Step(left[best], float(effects[best])))
    return tuple(found)


def _fallen(table: pa.Table, setting: str, share: float, metric: Metric) -> dict[str, bool]:
    """Whether a setting has a substantial drop, by generator."""
    rows = {(row["setting"], row["generator"]): row for row in table.to_pylist()}
    generators = [generator for name, generator in rows if name == BASELINE.name]
    fallen = {}
    for generator in generators if len(generators) == 1 else [name for name in generators if name != ALL]:
        base, row = rows[BASELINE.name, generator], rows[setting, generator]
        chance_ap = base["num_fake"] / max(base["num_fake"] + base["num_real"], 1)
        chances = {"ap": chance_ap, "fake_calibrated": 0.5}
        limits = {
            name: base[name] - share * (base[name] - chances[name])
            for name in _COLUMNS[metric]
            if base[name] > chances[name]
        }
        if limits:
            fallen[generator] = any(row[name] <= limit for name, limit in limits.items())
    if not fallen:
        raise InputError("the baseline is not above chance on any generator: there is nothing that could fall")
    return fallen


def _criterion(share: float, metric: Metric) -> str:
    what = " or ".join(_IN_WORDS[column] for column in _COLUMNS[metric])
    return f"on every generator, {what} falls by {share:.0%} of its way from the baseline to chance"


def _warning(tables: dict[int, pa.Table], k: int | None, share: float, metric: Metric, last: int) -> str | None:
    if k is None:
        return f"no k up to {last} has a substantial drop"
    if f"random-{k}" not in tables[k]["setting"].to_pylist():
        return None
    fallen = [name for name, value in _fallen(tables[k], f"random-{k}", share, metric).items() if value]
    if fallen:
        return (
            f"{k} random channels make a substantial drop too (on {', '.join(fallen)}): "
            "the drop does not show that the top channels matter more than others"
        )
    return None


def _curve(tables: dict[int, pa.Table]) -> pa.Table:
    first = next(iter(tables.values()))
    rows = [row for row in first.to_pylist() if row["setting"] == BASELINE.name]
    for k in sorted(tables):
        rows += [row for row in tables[k].to_pylist() if (counted(row["setting"]) or ("", 0))[1] == k]
    return pa.Table.from_pylist(rows, first.schema)
