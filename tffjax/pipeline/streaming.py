"""Batches through a compiled pass: the next one is dispatched before the numbers of the last are fetched."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tffjax.data import Batch, ImageFile, Plan, Variant, batches
from tffjax.data.preprocessing import Transform
from tffjax.pipeline.waiting import Waiting


class Done(NamedTuple):
    """A batch that has been through the pass.

    Attributes:
        position: number of the plan's batches that are done with this one.
        batch: the batch.
        outputs: what the pass returned, as NumPy arrays.
        waiting: what the run waits for, in words.
    """

    position: int
    batch: Batch
    outputs: Any
    waiting: str = ""


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
    waiting = Waiting()
    given = waiting.reading(read(rest, files, transform, batch_size, variants))
    for position, batch in enumerate(given, start + 1):
        with waiting.computing():
            dispatched = Done(position, batch, step(batch))
            fetched = pending and _fetched(pending)
        if fetched:
            yield fetched._replace(waiting=str(waiting))
        pending = dispatched
    if pending:
        yield _fetched(pending)


def _fetched(done: Done) -> Done:
    return done._replace(outputs=jax.tree.map(np.asarray, done.outputs))
