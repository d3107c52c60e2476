"""What a study is asked for: its options, on the command line or from the run that is resumed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tffjax import runs
from tffjax.cli.console import overwrite_option, quiet_option, start_jax
from tffjax.cli.images import image_options
from tffjax.distributed import Process, join
from tffjax.errors import InputError

_ABOUT_THE_RUN = ("out", "resume", "overwrite", "dry_run", "quiet", "coordinator", "num_processes", "process_id")
_OPTIONS = (
    click.argument("weights", type=click.Path(path_type=Path), required=False),
    click.argument("data", type=click.Path(path_type=Path), nargs=-1, metavar="DATA..."),
    click.option("--out", type=click.Path(path_type=Path), help="Run directory to make."),
    click.option(
        "--resume",
        type=click.Path(path_type=Path),
        help="Go on with an interrupted run; everything else is taken from there.",
    ),
    image_options,
)
_PROCESS_OPTIONS = (
    click.option(
        "--coordinator",
        envvar="JAX_COORDINATOR_ADDRESS",
        help="For several processes: HOST:PORT of process 0, or auto to ask Slurm, MPI or the TPU.",
    ),
    click.option("--num-processes", type=click.IntRange(min=1), envvar="JAX_NUM_PROCESSES", help="How many there are."),
    click.option("--process-id", type=click.IntRange(min=0), envvar="JAX_PROCESS_ID", help="Which one this is."),
    click.option("--dry-run", is_flag=True, help="Say what would be done, then stop."),
    overwrite_option,
    quiet_option,
)


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """WEIGHTS, DATA and the options of every study; the command takes the context and keyword arguments."""
    for option in reversed(_PROCESS_OPTIONS):
        command = option(command)
    return command


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """WEIGHTS, DATA, --out, --resume and how images are read."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a study was asked for, from the command line or from the run that is resumed.

    Attributes:
        command: name of the study.
        weights, data: paths.
        arguments: every option that the result depends on.
        run: the run directory.
        resume, overwrite, dry_run: as on the command line.
        process: which of how many.
    """

    command: str
    weights: Path
    data: tuple[Path, ...]
    arguments: dict[str, Any]
    run: Path
    resume: bool
    overwrite: bool
    dry_run: bool
    process: Process


def ask(context: click.Context, given: dict[str, Any]) -> Asked:
    """Sort the parameters of a study's command; starts JAX.

    Raises:
        InputError: something is missing, or a resumed run was made with another value of an option that is given.
    """
    command = context.command.name or ""
    process = join(given["coordinator"], given["num_processes"], given["process_id"])
    start_jax()
    weights, data = given["weights"], given["data"]
    arguments = {
        name: _plain(value)
        for name, value in given.items()
        if name not in (*_ABOUT_THE_RUN, "weights", "data")
    }  # fmt: skip
    flags = {name: given[name] for name in ("overwrite", "dry_run")}
    if given["resume"] is None:
        if weights is None or not data or given["out"] is None:
            raise InputError(f"give WEIGHTS, DATA and --out RUN, or --resume RUN; see tffjax {command} --help")
        return Asked(command, weights, data, arguments, given["out"], resume=False, process=process, **flags)
    record = record_to_resume(context, given, arguments)
    kept = record["identity"]["arguments"]
    weights = weights or Path(record["paths"]["weights"])
    data = data or tuple(map(Path, record["paths"]["data"]))
    return Asked(command, weights, data, kept, given["resume"], resume=True, process=process, **flags)


def record_to_resume(context: click.Context, given: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The record of the run that --resume names, which this command made with the same `arguments`.

    Raises:
        InputError: there is none, another command made it, an option on the command line has another value than then,
            or --out or --overwrite are given.
    """
    if given["out"] is not None or given["overwrite"]:
        raise InputError("--resume goes on in the run directory it names; leave --out and --overwrite away")
    path, command = given["resume"], context.command.name
    record = runs.read_record(path)
    if record["command"] != command:
        raise InputError(f"{path} was made by tffjax {record['command']}, not by tffjax {command}")
    kept = record["identity"]["arguments"]
    for name, value in arguments.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE and kept.get(name) != value:
            raise InputError(
                f"{path} was made with {name} = {kept.get(name)}, not {value}; start another run, or leave the option "
                "away"
            )
    return record


def _plain(value: Any) -> Any:
    """An option's value as run.json gives it back."""
    return runs.as_json(value if not isinstance(value, Path) else str(value.absolute()))
