"""Two rankings of the same channels: overlap of their top-k, rank correlations, and the channels that moved most."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy import stats

from tffjax.errors import InputError
from tffjax.studies.ffrs.bootstrap import ranks
from tffjax.studies.rankings import Channel, Ranking


class Pair(NamedTuple):
    """Two rankings A and B over one list of channels, in the order of A.

    Attributes:
        channels: the channels, C of them.
        omega: FF-RS in A and in B.
        rank: rank in A and in B, from 1; channels of equal omega keep the order of their file.
    """

    channels: tuple[Channel, ...]
    omega: Float[np.ndarray, "2 c"]
    rank: Int[np.ndarray, "2 c"]


def pair_up(a: Ranking, b: Ranking) -> Pair:
    """Bring B into the order of A.

    Raises:
        InputError: their channels differ, or one of them names a channel twice or has a value that is not a number.
    """
    for name, ranking in (("first", a), ("second", b)):
        if len(set(ranking.channels)) < len(ranking.channels):
            raise InputError(f"the {name} ranking names a channel twice")
        if not np.isfinite(ranking.omega).all():
            bad = ranking.channels[int(np.flatnonzero(~np.isfinite(ranking.omega))[0])]
            raise InputError(f"the {name} ranking has no finite relevance for {bad.key}")
    position = {channel: i for i, channel in enumerate(b.channels)}
    if position.keys() != set(a.channels):
        raise InputError(_difference(a.channels, b.channels))
    in_b = [position[channel] for channel in a.channels]
    return Pair(a.channels, np.stack([a.omega, b.omega[in_b]]), np.stack([ranks(a.omega), ranks(b.omega)[in_b]]))


def overlap_curve(rank: Int[np.ndarray, "2 c"]) -> Int[np.ndarray, " c"]:
    """How many channels the two top-k have in common, for k = 1 to C."""
    worse = rank.max(axis=0)
    return np.cumsum(np.bincount(worse, minlength=len(worse) + 1)[1:])


def overlap_table(pair: Pair, ks: Sequence[int]) -> pa.Table:
    """A row for each k: what the two top-k have in common, and what two random lists would have.

    `common` channels, `share` = common / k, `jaccard` = common / (2 k - common); by chance `expected` = k^2 / C of
    them, and `p_value` = P(at least so many), hypergeometric.

    Raises:
        InputError: k is not between 1 and the number of channels.
    """
    total, curve = len(pair.channels), overlap_curve(pair.rank)
    if bad := [k for k in ks if not 1 <= k <= total]:
        raise InputError(f"k must be between 1 and the {total} channels of the rankings, got {bad[0]}")
    rows = []
    for k in ks:
        common = int(curve[k - 1])
        rows.append(
            {
                "k": k,
                "common": common,
                "share": common / k,
                "jaccard": common / (2 * k - common),
                "expected": k**2 / total,
                "p_value": float(stats.hypergeom.sf(common - 1, total, k, k)),
            }
        )
    return pa.Table.from_pylist(rows)


def correlation_table(pair: Pair, ks: Sequence[int]) -> pa.Table:
    """Spearman's rho and Kendall's tau-b of omega, over all channels (k null), then over the union of each two top-k.

    Over a union they are lower than over all channels, down to negative values where the two top-k hardly overlap: a
    channel that is only in one of them is high in it and lower in the other. Null where omega is constant.
    """
    scopes = [(None, np.ones(len(pair.channels), bool)), *((k, (pair.rank <= k).any(axis=0)) for k in ks)]
    rows = []
    for k, members in scopes:
        omega = pair.omega[:, members]
        varies = (omega != omega[:, :1]).any(axis=1).all()
        rho, tau = (stats.spearmanr(*omega)[0], stats.kendalltau(*omega)[0]) if varies else (None, None)
        rows.append({"k": k, "channels": int(members.sum()), "spearman": rho, "kendall": tau})
    types = [("k", pa.int64()), ("channels", pa.int64()), ("spearman", pa.float64()), ("kendall", pa.float64())]
    return pa.Table.from_pylist(rows, pa.schema(types))


def movers_table(pair: Pair, k: int) -> pa.Table:
    """The channels in either top-k, those whose rank differs most first; `change` = rank in B - rank in A."""
    change = pair.rank[1] - pair.rank[0]
    members = np.flatnonzero((pair.rank <= k).any(axis=0))
    members = members[np.argsort(-np.abs(change[members]), kind="stable")]
    return pa.table(
        {
            "key": [pair.channels[i].key for i in members],
            "rank_a": pair.rank[0, members],
            "rank_b": pair.rank[1, members],
            "change": change[members],
            "omega_a": pair.omega[0, members],
            "omega_b": pair.omega[1, members],
        }
    )


def _difference(a: Sequence[Channel], b: Sequence[Channel]) -> str:
    in_a, in_b = set(a), set(b)
    only = [
        f"{len(missing)} are only in the {name}, such as {missing[0].key}"
        for name, missing in (
            ("first", [channel for channel in a if channel not in in_b]),
            ("second", [channel for channel in b if channel not in in_a]),
        )
        if missing
    ]
    return f"the rankings are not of the same channels ({len(a)} and {len(b)}): {'; '.join(only)}"
