"""Rounds of mask sets over all images, for `tffjax dropout` and `tffjax find-k`; each round is kept in the run."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float, Int

from tffjax.cli.console import prepared
from tffjax.cli.study import Job, gather_skipped, go_through, row_columns
from tffjax.compile.placement import put
from tffjax.data import Batch
from tffjax.distributed import wait_for_all
from tffjax.dropout import masked_logits
from tffjax.errors import InputError
from tffjax.files import replace_file
from tffjax.masks import Setting
from tffjax.nn.normalization import normalized
from tffjax.per_image import PartWriter, Rows, read_parts
from tffjax.runs import Run


class Round(NamedTuple):
    """What a round found: which files it could read, and their logits under every setting."""

    files: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "n settings 1"]


class Rounds:
    """Call it with settings; a round that the run directory already holds is read instead of computed."""

    def __init__(self, job: Job, run: Run, chunk: int | None) -> None:
        self._job, self._run, self._chunk = job, run, chunk
        self._model = prepared(job.model, job.work.shapes, job.batch_size)
        self._count = 0
        self._compiled: set[Any] = set()
        self.skipped: dict[int, str] = {}

    def __call__(self, settings: Sequence[Setting], what: str) -> Round:
        """The next round."""
        job, run, number = self._job, self._run, self._count
        self._count += 1
        folder, path = run.work / f"parts-{number}", run.work / f"round-{number}.parquet"
        names = json.dumps([setting.name for setting in settings])
        if not path.exists():
            schema = pa.schema([("index", pa.int64()), ("logits", pa.list_(pa.float32(), len(settings)))])
            rows = Rows(
                PartWriter(folder, job.asked.process.index, schema), lambda b, found: _rows(job, b, found, schema)
            )
            skipped = go_through(job, run, what, lambda batch: self._step(batch, settings), rows, stage=number)
            skipped = gather_skipped(job, skipped)
            wait_for_all(f"round {number}", job.asked.process)
            if job.asked.process.index == 0:
                table = read_parts(folder).replace_schema_metadata({"settings": names, "skipped": json.dumps(skipped)})
                with replace_file(path) as temporary:
                    pyarrow.parquet.write_table(table, temporary)
            wait_for_all(f"round {number} written", job.asked.process)
        table = pyarrow.parquet.read_table(path)
        wait_for_all(f"round {number} read", job.asked.process)
        metadata = table.schema.metadata
        if metadata[b"settings"].decode() != names:
            raise InputError(f"{path} holds other settings; start another run")
        self.skipped = {int(index): reason for index, reason in json.loads(metadata[b"skipped"]).items()}
        flat = table["logits"].combine_chunks().flatten().to_numpy()
        return Round(table["index"].to_numpy(), flat.reshape(len(table), len(settings), 1))

    def _step(self, batch: Batch, settings: Sequence[Setting]) -> Float[np.ndarray, "n settings 1"]:
        model, form = self._model, (batch.images.shape, len(settings))
        images = normalized(put(batch.images), model.card.normalization)
        if form in self._compiled:
            return masked_logits(model, images, settings, self._chunk)
        self._compiled.add(form)
        with self._job.talk.busy("compiling (the first time takes a while, later runs find it in the cache)"):
            return masked_logits(model, images, settings, self._chunk)


def _rows(job: Job, batch: Batch, logits: np.ndarray, schema: pa.Schema) -> pa.Table:
    present, columns = row_columns(job, batch)
    flat = logits[present].reshape(-1).astype(np.float32)
    if not np.isfinite(flat).all():
        raise InputError(f"the network gives NaN or infinity, first in the batch with {columns['path'][0]}")
    return pa.table([columns["index"], pa.FixedSizeListArray.from_arrays(flat, logits.shape[1])], schema=schema)
