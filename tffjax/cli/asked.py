"""Options that all studies share, and what they ask for, on the command line or from the run that is resumed."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tffjax.cli.console import Talk, overwrite_option, quiet_option, start_jax
from tffjax.cli.images import image_options
from tffjax.cli.numbers import SIDE
from tffjax.errors import InputError
from tffjax.nn import checkpoint
from tffjax.pipeline import directory
from tffjax.pipeline.request import Reading, Request, parse_shard
from tffjax.pipeline.run import run
from tffjax.pipeline.shards import request_of
from tffjax.results.published import DETECTORS
from tffjax.studies.call import options_of, study_class
from tffjax.studies.classes import FROM_DATA

_ABOUT_THE_RUN = ("weights", "data", "out", "resume", "overwrite", "dry_run", "quiet", "shard", "workers")
_READING = tuple(field.name for field in dataclasses.fields(Reading))
_PLACE = (
    click.option("--out", type=click.Path(path_type=Path), help="Run directory to make."),
    click.option(
        "--resume",
        type=click.Path(path_type=Path),
        help="Go on with an interrupted run; everything else is taken from there.",
    ),
)
_OPTIONS = (
    click.argument("weights", type=click.Path(path_type=Path), required=False),
    click.argument("data", type=click.Path(path_type=Path), nargs=-1, metavar="DATA..."),
    *_PLACE,
    image_options,
)
_RUN_OPTIONS = (
    click.option(
        "--shard",
        metavar="I/N|auto",
        help="Do part I of N only, from 0, below --out; then tffjax merge. auto: as Slurm, Kubernetes or TPU say.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done, then stop."),
    overwrite_option,
    quiet_option,
)

published_option = click.option(
    "--published",
    type=click.Choice(DETECTORS),
    help="Numbers of this detector of the paper beside ours. [default: where the card says that it is one of them]",
)


class _Classes(click.Path):
    """`label`, or a file."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        return value if value == FROM_DATA else super().convert(value, parameter, context)


pad_option = click.option(
    "--pad-to",
    type=click.IntRange(min=1, max=SIDE.max),
    metavar="PIXELS",
    help="Fill images up to multiples of this, such as 64, and compute each as if it were alone: images of many sizes "
    "share few programs. Refused where that is not exact.",
)
classes_option = click.option(
    "--classes",
    type=_Classes(path_type=Path),
    metavar="label|CSV",
    help="The correct output of each image, for networks with several: label for what the data say, as of rank "
    "--target label, or a CSV path,class. [default: their own top-1 on the original image]",
)


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--out and --resume."""
    for option in reversed(_PLACE):
        command = option(command)
    return command


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--shard, --dry-run, --overwrite and --quiet."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """WEIGHTS, DATA, --out, --resume and how images are read."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_study(context: click.Context, given: dict[str, Any]) -> None:
    """Do the study that is named as the command, with the parameters that this was given.

    Raises:
        InputError: as `ask` and `tffjax.pipeline.run.run`.
    """
    request, options = ask(context, given)
    study = study_class(context.command.name)
    run(study(checkpoint.load(request.weights), **options_of(study, options)), request, Talk(given["quiet"]))


def ask(context: click.Context, given: dict[str, Any]) -> tuple[Request, dict[str, Any]]:
    """The request and the options of a study, from the parameters of its command; starts JAX.

    Raises:
        InputError: something is missing, or a resumed run was made with another value of an option that is given.
    """
    start_jax()
    options = {name: _plain(value) for name, value in given.items() if name not in (*_ABOUT_THE_RUN, *_READING)}
    shard = parse_shard(given["shard"], os.environ) if given["shard"] else None
    if given["resume"] is None:
        weights, data, out = given["weights"], given["data"], given["out"]
        if weights is None or not data or out is None:
            command = context.command.name
            raise InputError(f"give WEIGHTS, DATA and --out RUN, or --resume RUN; see tffjax {command} --help")
        reading = Reading(**{name: given[name] for name in _READING if name in given})
        flags = {name: given[name] for name in ("overwrite", "dry_run", "workers") if name in given}
        return Request(data, out, reading, weights, shard=shard, **flags), options
    if shard:
        raise InputError("a shard goes on by itself: give the same command again, without --resume")
    reading = {name: given[name] for name in _READING if name in given}
    record = record_to_resume(context, given, options | reading)
    request = request_of(record, given["resume"])
    weights = given["weights"] or request.weights
    kept = {name: value for name, value in record["identity"]["arguments"].items() if name not in _READING}
    changes = {"resume": True, "weights": weights, "data": given["data"] or request.data}
    changes |= {name: given[name] for name in ("dry_run", "workers") if name in given}
    return dataclasses.replace(request, **changes), kept


def record_to_resume(context: click.Context, given: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The record of the run that --resume names, which this command made with the same `arguments`.

    Raises:
        InputError: there is none, another command made it, an option on the command line has another value than then,
            or --out or --overwrite are given.
    """
    if given["out"] is not None or given["overwrite"]:
        raise InputError("--resume goes on in the run directory it names; leave --out and --overwrite away")
    path, command = given["resume"], context.command.name
    record = directory.read_record(path)
    if record["command"] != command:
        raise InputError(f"{path} was made by tffjax {record['command']}, not by tffjax {command}")
    kept = record["identity"]["arguments"]
    for name, value in arguments.items():
        said = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if said and name in kept and kept[name] != _plain(value):
            raise InputError(
                f"{path} was made with {name} = {kept[name]}, not {value}; start another run, or leave the option away"
            )
    return record


def _plain(value: Any) -> Any:
    """An option's value as run.json gives it back."""
    return directory.as_json(value if not isinstance(value, Path) else str(value.absolute()))
