"""Duplicates: images that are there twice, as the same file or as nearly the same picture."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tffjax.data.facts import Facts

DISTANCE = 3
"""Bits in which the perceptual hashes of near duplicates differ at most."""

_CHUNK = 4096


class Group(NamedTuple):
    """Images that are duplicates of each other.

    Attributes:
        kind: `exact`, the same file; or `near`, nearly the same picture in another file.
        members: their indices.
        labels: their labels differ.
        splits: they lie in several of the folders that were given, or of train, val and test.
    """

    kind: str
    members: tuple[int, ...]
    labels: bool
    splits: bool


def duplicate_groups(facts: Sequence[Facts], labels: Sequence[int | None], splits: Sequence[str]) -> tuple[Group, ...]:
    """All groups, exact ones first. Near ones hold one image of each exact group."""
    of_file: dict[bytes, list[int]] = {}
    for index, one in enumerate(facts):
        of_file.setdefault(one.sha256, []).append(index)
    firsts = [members[0] for members in of_file.values() if facts[members[0]].hash is not None]
    near = _near([facts[index].hash for index in firsts])
    found = [("exact", members) for members in of_file.values() if len(members) > 1]
    found += [("near", [firsts[i] for i in members]) for members in near]
    return tuple(
        Group(kind, tuple(members), _differ(labels, members), _differ(splits, members)) for kind, members in found
    )


def _differ(values: Sequence[object], members: Iterable[int]) -> bool:
    return len({values[index] for index in members}) > 1


def _near(hashes: Sequence[int]) -> list[list[int]]:
    """Groups of hashes that a chain of steps of at most `DISTANCE` bits connects."""
    if not hashes:
        return []
    every = np.array(hashes, np.uint64)
    pairs = np.array([pair for band in range(DISTANCE + 1) for pair in _pairs(every, band)], np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(len(every),) * 2)
    _, component = connected_components(graph, directed=False)
    members: dict[int, list[int]] = collections.defaultdict(list)
    for index, number in enumerate(component.tolist()):
        members[number].append(index)
    return [group for group in members.values() if len(group) > 1]


def _pairs(hashes: UInt64[np.ndarray, " n"], band: int) -> Iterator[tuple[int, int]]:
    """Near pairs that agree in one of `DISTANCE` + 1 bands of bits, as every near pair does in at least one."""
    width = 64 // (DISTANCE + 1)
    keys = (hashes >> np.uint64(band * width)) & np.uint64((1 << width) - 1)
    order = np.argsort(keys, kind="stable")
    for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        for start in range(0, len(bucket) if len(bucket) > 1 else 0, _CHUNK):
            rows = bucket[start : start + _CHUNK]
            close = np.bitwise_count(hashes[rows, None] ^ hashes[None, bucket]) <= DISTANCE
            for i, j in np.argwhere(close).tolist():
                if rows[i] < bucket[j]:
                    yield int(rows[i]), int(bucket[j])
