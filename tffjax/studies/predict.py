"""Probabilities of any number of images, and metrics per generator."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from tffjax.compile.logits import forward
from tffjax.compile.placement import put
from tffjax.data import Batch
from tffjax.data.preprocessing import Resize, normalize
from tffjax.errors import InputError
from tffjax.nn import Model
from tffjax.nn.input_scale import scale_warning
from tffjax.pipeline.images import Images
from tffjax.pipeline.parts import Rows
from tffjax.pipeline.programs import check_sizes, compile_sizes, prepared, size_types, sizes_in
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.detection import interval_table, metrics_table, threshold_hint
from tffjax.results.run_result import RunResult
from tffjax.results.tables import has_table, read_table, write_table
from tffjax.studies.call import PathLike, arguments_of, call, model_of
from tffjax.studies.predictions import prediction_table, scored, threshold_from

SHOWN = 20
LOOKED_AT = 16  # images of the first batch, for the scale of the input
SHOWN_METRICS = {
    "generator": "",
    **{"ap": ".1%", "ap_95_%": "", "auc": ".1%", "eer": ".1%", "tpr_at_5_fpr": ".1%"},
    **dict.fromkeys(("accuracy", "real", "fake"), ".1%"),
    "threshold": ".2f",
    **dict.fromkeys(("accuracy_calibrated", "real_calibrated", "fake_calibrated"), ".1%"),
    **dict.fromkeys(("num_real", "num_fake"), "d"),
}


@dataclasses.dataclass(frozen=True)
class Predict:
    """The study of `tffjax.predict` and of `tffjax predict`."""

    model: Model
    threshold_from: str | None = None
    name: str = dataclasses.field(default="predict", init=False)

    def identity(self) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        own = {"threshold": self._threshold()} if self.threshold_from else {}
        return {"arguments": arguments_of(self), "weights": dataclasses.asdict(self.model.card), **own}

    def plan(self, images: Images) -> str:
        """As `tffjax.pipeline.study.Study`."""
        if self.threshold_from and self.model.card.num_outputs != 1:
            raise InputError(
                f"--threshold-from is for detectors with one output; this network has {self.model.card.num_outputs}"
            )
        check_sizes(self.model, images)
        sizes = ", ".join(f"{height}x{width}" for height, width in images.shapes)
        batches = len(images.plan.batches)
        return (f"score {images.total} images ({sizes}) in {batches} batches of {images.batch_size} with "
                f"{self.model.card.architecture}")  # fmt: skip

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        """As `tffjax.pipeline.study.Study`."""
        if ended:
            return None
        card, outputs = self.model.card, self.model.card.num_outputs
        schema = pa.schema([("index", pa.int64()), ("logits", pa.list_(pa.float32(), outputs))])

        def start(reporter: Reporter) -> Callable[[Batch], Any]:
            model = prepared(self.model, images.shapes, images.batch_size)
            programs = compile_sizes(reporter, images, "the forward pass", forward, model, *size_types(images))
            looked = False

            def step(batch: Batch) -> Any:
                nonlocal looked
                present = batch.images[batch.weights > 0][:LOOKED_AT]
                if not looked and len(present) and not images.padded:
                    looked = True
                    if warning := scale_warning(self.model, jnp.asarray(normalize(present, card.normalization))):
                        reporter.warn(warning)
                return programs[batch.images.shape[1:3]](model, put(batch.images), *sizes_in(images, batch))

            return step

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
        write_table(predictions, folder / "predictions")
        if self.model.card.num_outputs == 1 and any(file.label is not None for file in files):
            of, score, threshold = scored(predictions), predictions["score"].to_numpy(), self._threshold()
            write_table(metrics_table(of, {"": score}, threshold=threshold), folder / "metrics")
            write_table(interval_table(of, score, threshold), folder / "intervals")
        return {"images": len(table)}

    def _threshold(self) -> float | None:
        return threshold_from(Path(self.threshold_from)) if self.threshold_from else None

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """As `tffjax.pipeline.study.Study`."""
        if has_table(folder / "metrics"):
            metrics, intervals = read_table(folder / "metrics"), read_table(folder / "intervals")
            ranges = {
                row["generator"]: "-" if np.isnan(row["low"]) else f"{row['low']:.1%} to {row['high']:.1%}"
                for row in intervals.to_pylist()
                if row["metric"] == "ap"
            }
            metrics = metrics.append_column("ap_95_%", [[ranges[name] for name in metrics["generator"].to_pylist()]])
            reporter.table(metrics, "detection per generator", SHOWN_METRICS)
            if hint := threshold_hint(metrics):
                reporter.warn(hint)
        else:
            table = read_table(folder / "predictions").slice(0, SHOWN)
            columns = [
                name for name in ("path", "output", "class", "logit", "probability") if name in table.column_names
            ]
            formats = {name: ".4f" if name in ("logit", "probability") else "" for name in columns}
            reporter.table(table, "first predictions", formats)
        reporter.say(f"{results['images']} images scored, {results['skipped']} skipped; results in {folder}")


def predict(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    threshold_from: PathLike | None = None,
    resize: Resize | None = None,
    crop: int | None = None,
    pad_to: int | None = None,
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
        threshold_from: predictions of other images, with labels, whose calibrated threshold the metrics take.
        pad_to: fill images up to multiples of so many pixels, so that images of many sizes share few programs, and
            compute each as if it were alone; refused for networks where that is not exact (`tffjax.nn.padded`).
        resize, crop, batch_size, strict, labels, overwrite, shard, reporter: as of `tffjax.rank`.

    Returns:
        The run: `table("predictions")` (an image a row) and, where labels are known,
        `table("metrics")` and `table("intervals")`.

    Raises:
        InputError: as `tffjax.load` and `tffjax.pipeline.run.run`.
    """
    loaded, weights = model_of(model)
    reading = Reading(resize=resize, crop=crop, pad_to=pad_to, batch_size=batch_size, strict=strict, labels=labels)
    other = None if threshold_from is None else os.fspath(threshold_from)
    return call(Predict(loaded, other), weights, data, out, reading, overwrite, shard, reporter)
