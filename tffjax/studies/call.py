"""Studies as Python functions: what they share."""

import dataclasses
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tffjax.errors import InputError
from tffjax.nn import Model, checkpoint
from tffjax.pipeline import directory
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading, Request, Shard
from tffjax.pipeline.run import run
from tffjax.pipeline.study import Study
from tffjax.results.run_result import RunResult
from tffjax.studies import STUDIES
from tffjax.studies.rankings import argument_of

PathLike = str | os.PathLike[str]


def model_of(model: Model | PathLike) -> tuple[Model, Path | None]:
    """A model, given itself or by its checkpoint, and the checkpoint.

    Raises:
        InputError: as `tffjax.load`; or the model has no card, so that nobody could tell later whose results these are.
    """
    if not isinstance(model, Model):
        return checkpoint.load(Path(model)), Path(model)
    if model.card is None:
        raise InputError("studies over many images need a model with a card; see docs/own-network.md")
    if not model.card.weights_sha256:
        card = dataclasses.replace(model.card, weights_sha256=checkpoint.digest(model.variables))
        model = dataclasses.replace(model, card=card)
    return model, None


def paths_of(data: PathLike | Sequence[PathLike]) -> tuple[Path, ...]:
    """One or several paths."""
    return (Path(data),) if isinstance(data, str | os.PathLike) else tuple(map(Path, data))


def call(
    study: Study,
    weights: Path | None,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    reading: Reading,
    overwrite: bool,
    shard: tuple[int, int] | None,
    reporter: Reporter | None,
) -> RunResult:
    """Do a study, or go on with it where `out` holds a run of the very same request.

    Raises:
        InputError: as `tffjax.pipeline.run.run`; `out` holds a run of another request.
    """
    out = Path(out)
    resume = (out / directory.RECORD).exists() and not overwrite and shard is None
    request = Request(
        data=paths_of(data),
        out=out,
        reading=reading,
        weights=weights,
        resume=resume,
        overwrite=overwrite,
        shard=Shard(*shard) if shard else None,
    )
    return RunResult(run(study, request, reporter))


def study_class(command: str) -> type:
    """The study that a command does, one of `tffjax.studies.STUDIES`."""
    module, _, name = STUDIES[command].partition(":")
    return getattr(importlib.import_module(module), name)


def arguments_of(study: Study) -> dict[str, Any]:
    """The arguments of a run: a study's options by name, a ranking by its file; `options_of` takes them back."""
    options = {field.name: getattr(study, field.name) for field in dataclasses.fields(study) if field.init}
    del options["model"]
    if "ranking" in options:
        options["ranking"] = argument_of(options["ranking"])
    return options


def options_of(study: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of a run's arguments that are a study's."""
    names = [field.name for field in dataclasses.fields(study) if field.init]
    return {name: arguments[name] for name in names if name in arguments}
