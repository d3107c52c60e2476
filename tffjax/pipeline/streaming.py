"""Batches through a compiled pass: the next one is dispatched before the numbers of the last are fetched."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tffjax.data import Batch, ImageFile, Plan, Variant, batches
from tffjax.data.preprocessing import Transform


class Done(NamedTuple):
    """A batch that has been through the pass.

    Attributes:
        position: number of the plan's batches that are done with this one.
        batch: the batch.
        outputs: what the pass returned, as NumPy arrays.
    """

    position: int
    batch: Batch
    outputs: Any


def stream(
    step: Callable[[Batch], Any],
    work: Plan,
    files: Sequence[ImageFile],
    transform: Transform,
    batch_size: int,
    variants: Sequence[Variant] = (),
    start: int = 0,
    read: Callable[..., Iterator[Batch]] = batches,
) -> Iterator[Done]:
    """`step(batch)` for the planned batches from `start` on, in their order, as `read` gives them.

    See `tffjax.data.batches`, which it is by default.
    """
    rest = dataclasses.replace(work, batches=work.batches[start:])
    pending: Done | None = None
    for position, batch in enumerate(read(rest, files, transform, batch_size, variants), start + 1):
        dispatched = Done(position, batch, step(batch))
        if pending:
            yield _fetched(pending)
        pending = dispatched
    if pending:
        yield _fetched(pending)


def _fetched(done: Done) -> Done:
    return done._replace(outputs=jax.tree.map(np.asarray, done.outputs))
