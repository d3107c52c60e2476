"""Several trainings that differ in their seed alone, and how far their scores are apart.

RUN/seed-N/train/    a training (`tffjax.training.run`)
RUN/seed-N/scores/   its detector on the validation images (`tffjax.studies.predict`)
RUN/seeds.csv        the scores of every seed for every generator, and in full precision seeds.parquet
RUN/repeats.csv      their mean and spread
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tffjax.errors import InputError
from tffjax.pipeline import directory
from tffjax.pipeline.directory import Run
from tffjax.pipeline.passes import resumable
from tffjax.pipeline.provenance import run_record
from tffjax.pipeline.reporter import Reporter
from tffjax.results.tables import write_table
from tffjax.studies.predict import predict
from tffjax.training.run import TrainRequest, run_training

MEASURED = ("ap", "accuracy", "real", "fake", "real_calibrated", "fake_calibrated")
"""Metrics whose mean and spread are taken, of `tffjax.results.metrics.Metrics`."""

_SHOWN = {"generator": "", **{f"{name}_{of}": ".1%" for name in MEASURED[:4] for of in ("mean", "sd")}, "repeats": "d"}


def run_repeats(request: TrainRequest, reporter: Reporter) -> None:
    """Train `request.repeats` detectors, with the seeds from that of the request on, and score them.

    Raises:
        InputError: there are no validation images of their own; as `run_training`.
    """
    seeds = range(request.arguments["seed"], request.arguments["seed"] + request.repeats)
    if not request.validation:
        raise InputError("repeats are compared on the same images: name those with --validation")
    if request.dry_run:
        for seed in seeds:
            run_training(_of_seed(request, seed), reporter)
        reporter.say(f"would then score the {request.repeats} detectors on the validation images")
        return
    with _opened(request) as run:
        rows = [row for seed in seeds for row in _scores(request, seed, reporter)]
        scores = pa.Table.from_pylist(rows)
        spread = spread_table(scores)
        if not run.done:
            with run.finish() as (folder, results):
                write_table(scores, folder / "seeds")
                write_table(spread, folder / "repeats")
                results |= {"seeds": list(seeds)}
    reporter.table(spread, f"mean and standard deviation of {request.repeats} seeds", _SHOWN)
    reporter.say(f"{request.repeats} detectors below {request.out}, their scores in seeds.csv and repeats.csv")


@contextlib.contextmanager
def _opened(request: TrainRequest) -> Iterator[Run]:
    """The run directory, made or found, and locked; gone again where the first training is refused."""
    identity = {"arguments": request.arguments | {"repeats": request.repeats}}
    record = run_record("train", identity, request.init, data=request.data, validation=request.validation)
    if request.resume:
        entered = directory.resume(request.out, record)
    else:
        entered = directory.start(request.out, record, overwrite=request.overwrite)
    with entered as run, resumable(run, f"tffjax train --resume {request.out}", request.resume):
        try:
            yield run
        except InputError:
            if not any(request.out.glob("seed-*")):
                run.discard()
            raise


def spread_table(scores: pa.Table) -> pa.Table:
    """Mean and spread over the seeds for every generator, generators as they come.

    Columns: `generator`, `repeats`, `num_real`, `num_fake`, and for each of `MEASURED` its `_mean`, `_sd` (standard
    deviation with n - 1; NaN of one seed), `_low` and `_high` (the extremes).

    Args:
        scores: columns `seed`, `generator`, `num_real`, `num_fake` and `MEASURED`, a seed and a generator a row.
    """
    rows = scores.to_pylist()
    table = []
    for generator in dict.fromkeys(row["generator"] for row in rows):
        own = [row for row in rows if row["generator"] == generator]
        found = {"generator": generator, "repeats": len(own)} | {key: own[0][key] for key in ("num_real", "num_fake")}
        for name in MEASURED:
            values = np.array([row[name] for row in own])
            spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            found |= {f"{name}_mean": float(values.mean()), f"{name}_sd": spread}
            found |= {f"{name}_low": float(values.min()), f"{name}_high": float(values.max())}
        table.append(found)
    return pa.Table.from_pylist(table)


def _of_seed(request: TrainRequest, seed: int) -> TrainRequest:
    out = request.out / f"seed-{seed}" / "train"
    return dataclasses.replace(
        request,
        arguments=request.arguments | {"seed": seed},
        out=out,
        resume=(out / directory.RECORD).exists(),
        overwrite=False,
        part_of=request.out,
    )


def _scores(request: TrainRequest, seed: int, reporter: Reporter) -> list[dict[str, Any]]:
    """Train with a seed; metrics of the detector on the validation images, a generator a row."""
    folder, arguments = request.out / f"seed-{seed}", request.arguments
    reporter.say(f"seed {seed}: {folder}")
    run_training(_of_seed(request, seed), reporter)
    scored = predict(
        folder / "train" / "checkpoint",
        request.validation,
        folder / "scores",
        resize=arguments["load_size"] or None,
        crop=arguments["crop"],
        labels=arguments["labels"],
        reporter=reporter,
    )
    columns = ["generator", "num_real", "num_fake", *MEASURED]
    return [{"seed": seed} | row for row in scored.table("metrics").select(columns).to_pylist()]
