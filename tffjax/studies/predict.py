"""Probabilities of any number of images, and metrics per generator."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tffjax.compile.logits import forward
from tffjax.compile.placement import put
from tffjax.data import Batch
from tffjax.errors import InputError
from tffjax.nn import Model
from tffjax.pipeline.images import Images
from tffjax.pipeline.parts import Rows
from tffjax.pipeline.programs import compile_sizes, prepared
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading
from tffjax.pipeline.run_result import RunResult
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.tables import write_table
from tffjax.studies.call import PathLike, arguments_of, call, model_of
from tffjax.studies.predictions import metrics_table, prediction_table

SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Predict:
    """The study of `tffjax.predict` and of `tffjax predict`."""

    model: Model
    name: str = dataclasses.field(default="predict", init=False)

    def identity(self) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        return {"arguments": arguments_of(self), "weights": dataclasses.asdict(self.model.card)}

    def plan(self, images: Images) -> str:
        """As `tffjax.pipeline.study.Study`."""
        sizes = ", ".join(f"{height}x{width}" for height, width in images.shapes)
        batches = len(images.plan.batches)
        return (f"score {images.total} images ({sizes}) in {batches} batches of {images.batch_size} with "
                f"{self.model.card.architecture}")  # fmt: skip

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        """As `tffjax.pipeline.study.Study`."""
        if ended:
            return None
        outputs = self.model.card.num_outputs
        schema = pa.schema([("index", pa.int64()), ("logits", pa.list_(pa.float32(), outputs))])

        def start(reporter: Reporter) -> Callable[[Batch], Any]:
            model = prepared(self.model, images.shapes, images.batch_size)
            programs = compile_sizes(reporter, images, "the forward pass", forward, model)
            return lambda batch: programs[batch.images.shape[1:3]](model, put(batch.images))

        def rows(batch: Batch, logits: np.ndarray) -> pa.Table:
            present, who = images.rows(batch)
            flat = logits[present].reshape(-1)
            if not np.isfinite(flat).all():
                raise InputError(f"the network gives NaN or infinity, first in the batch with {who['path'][0]}")
            return pa.table([who["index"], pa.FixedSizeListArray.from_arrays(flat, outputs)], schema=schema)

        return Pass("scoring", lambda folder: Rows(folder, schema, rows), start)

    def finish(self, images: Images, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        table = ended[0].sums.table()
        files = [images.files[index] for index in table["index"].to_pylist()]
        logits = table["logits"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        names = pa.array([images.names[index] for index in table["index"].to_pylist()], pa.string())
        predictions = prediction_table(self.model.card, files, logits).set_column(0, "path", names)
        for ending in ("csv", "parquet"):
            write_table(predictions, folder / f"predictions.{ending}")
        if self.model.card.num_outputs == 1 and any(file.label is not None for file in files):
            write_table(metrics_table(predictions), folder / "metrics.csv")
        return {"images": len(table)}

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """As `tffjax.pipeline.study.Study`."""
        if (folder / "metrics.csv").exists():
            percent = dict.fromkeys(["ap", "real", "fake"], ".1%")
            calibrated = {"threshold": ".3f", "real_calibrated": ".1%", "fake_calibrated": ".1%"}
            formats = {"generator": "", **percent, **calibrated, "num_real": "d", "num_fake": "d"}
            reporter.table(pyarrow.csv.read_csv(folder / "metrics.csv"), "detection per generator", formats)
        else:
            table = pyarrow.parquet.read_table(folder / "predictions.parquet").slice(0, SHOWN)
            columns = [name for name in ("path", "output", "logit", "probability") if name in table.column_names]
            formats = {name: ".4f" if name in ("logit", "probability") else "" for name in columns}
            reporter.table(table, "first predictions", formats)
        reporter.say(f"{results['images']} images scored, {results['skipped']} skipped; results in {folder}")


def predict(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    resize: int | None = None,
    crop: int | None = None,
    batch_size: int | None = None,
    strict: bool = False,
    labels: str | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Score any number of images: logits, probabilities of being fake, and metrics per generator.

    Args:
        model: a model with a card, or the folder of a checkpoint.
        data: images or folders; labels are known below folders named 0_real and 1_fake.
        out: the run directory; an unfinished run of the same request there is gone on with.
        resize, crop, batch_size, strict, labels, overwrite, shard, reporter: as of `tffjax.rank`.

    Returns:
        The run: `table("predictions")` (an image a row) and, where labels are known, `table("metrics")`.

    Raises:
        InputError: as `tffjax.load` and `tffjax.pipeline.run.run`.
    """
    loaded, weights = model_of(model)
    reading = Reading(resize=resize, crop=crop, batch_size=batch_size, strict=strict, labels=labels)
    return call(Predict(loaded), weights, data, out, reading, overwrite, shard, reporter)
