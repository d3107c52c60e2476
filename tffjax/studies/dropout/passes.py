"""Passes that score images with channels dropped, and studies that decide by what one found what the next looks at."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from tffjax.compile.placement import put
from tffjax.data import Batch
from tffjax.errors import InputError
from tffjax.nn import Model
from tffjax.nn.normalization import normalized
from tffjax.pipeline.images import Images
from tffjax.pipeline.parts import Rows
from tffjax.pipeline.programs import announcing, check_sizes, prepared, sizes_in
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.study import Ended, Pass
from tffjax.studies.dropout.logits import masked_logits
from tffjax.studies.dropout.settings import Setting


class Scores(NamedTuple):
    """The images that could be read, by their indices, and their logits under every setting."""

    files: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "n settings outputs"]


Score = Callable[[Sequence[Setting], str], Scores]
"""From settings, and a title for the pass, to scores of all images."""


class ScoreRows(Rows):
    """The scores of a pass, on the disk while it lasts."""

    def __init__(self, folder: Path, schema: pa.Schema, make: Callable[[Batch, Any], pa.Table], settings: int) -> None:
        super().__init__(folder, schema, make)
        self._settings = settings

    @functools.cached_property
    def scores(self) -> Scores:
        """All of them, once the pass has ended: read once, however many passes come after it."""
        table = self.table()
        flat = table["logits"].combine_chunks().flatten().to_numpy()
        return Scores(table["index"].to_numpy(), flat.reshape(len(table), self._settings, -1))


class _Wanted(Exception):
    """A pass that has not ended yet."""

    def __init__(self, settings: Sequence[Setting], title: str) -> None:
        super().__init__(title)
        self.settings, self.title = settings, title


def next_pass(
    model: Model, images: Images, ended: Sequence[Ended], chunk: int | None, search: Callable[[Score], Any]
) -> Pass | None:
    """The next pass of a search, which is repeated with the scores of those that have ended; None when it is over."""
    try:
        replayed(ended, search)
    except _Wanted as wanted:
        return _score_pass(model, images, wanted.settings, chunk, wanted.title)
    return None


def replayed(ended: Sequence[Ended], search: Callable[[Score], Any]) -> Any:
    """What a search finds with the scores of passes that have ended, which come in the order in which it asks."""
    left = iter(ended)

    def score(settings: Sequence[Setting], title: str) -> Scores:
        found = next(left, None)
        if found is None:
            raise _Wanted(settings, title)
        scores = found.sums.scores
        if scores.logits.shape[1] != len(settings):
            raise InputError("the run holds scores of other settings; start another run")
        return scores

    return search(score)


def _score_pass(model: Model, images: Images, settings: Sequence[Setting], chunk: int | None, title: str) -> Pass:
    names = json.dumps([setting.name for setting in settings])
    width = len(settings) * model.card.num_outputs
    fields = [("index", pa.int64()), ("logits", pa.list_(pa.float32(), width))]
    schema = pa.schema(fields, metadata={"settings": names})

    def rows(batch: Batch, logits: np.ndarray) -> pa.Table:
        present, who = images.rows(batch)
        flat = logits[present].reshape(-1).astype(np.float32)
        if not np.isfinite(flat).all():
            raise InputError(f"the network gives NaN or infinity, first in the batch with {who['path'][0]}")
        return pa.table([who["index"], pa.FixedSizeListArray.from_arrays(flat, width)], schema=schema)

    def start(reporter: Reporter) -> Callable[[Batch], Any]:
        ready = prepared(model, images.shapes, images.batch_size)
        check_sizes(model, images)

        def step(batch: Batch) -> Any:
            inputs = normalized(put(batch.images), ready.card.normalization)
            return masked_logits(ready, inputs, settings, chunk, sizes_in(images, batch))

        return announcing(reporter, step)

    def sums(folder: Path) -> ScoreRows:
        return ScoreRows(folder, schema, rows, len(settings))

    return Pass(title, sums, start)
