"""`tffjax submit`: a study as jobs of a cluster."""

from pathlib import Path

import click

from tffjax.cli.console import Talk, quiet_option
from tffjax.errors import InputError
from tffjax.pipeline.cluster import parameter, submit
from tffjax.studies import STUDIES


@click.command("submit", context_settings={"ignore_unknown_options": True})
@click.option("--shards", type=click.IntRange(min=1), required=True, help="How many jobs share the work.")
@click.option("--local", is_flag=True, help="Processes of this machine in place of a cluster; waits for them.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of submitit, several times for several: timeout_min=240, slurm_partition=gpu, gpus_per_node=1, mem_gb=32.",
)
@click.option("--logs", type=click.Path(path_type=Path), help="Folder for what jobs print. [default: OUT/logs]")
@click.argument("words", nargs=-1, required=True, metavar="-- COMMAND...")
@quiet_option
def submit_command(
    shards: int, local: bool, settings: tuple[str, ...], logs: Path | None, words: tuple[str, ...], quiet: bool
) -> None:
    """Submit a study in shards: an array of jobs, and one that merges them and submits the next pass, if there is one.

    COMMAND is that of a study, with --out on a file system that all jobs see. Preempted jobs are submitted again and go
    on where they were. Needs submitit: pip install 'tffjax[cluster]'.

    \b
    Example:
      tffjax submit --shards 8 --set timeout_min=240 --set gpus_per_node=1 -- rank detector images/ --out run
      tffjax submit --shards 2 --local -- lrpmax detector images/ --ranking rank.csv --out patches
    """
    if words[0] not in STUDIES:
        raise InputError(f"{words[0]} has no shards; the studies are {', '.join(STUDIES)}")
    if missing := {"--shard", "--resume", "--dry-run"} & set(words):
        raise InputError(f"leave {missing.pop()} out: tffjax submit says which job does what")
    if "--out" not in words[:-1]:
        raise InputError("the command needs --out RUN")
    out = Path(words[words.index("--out") + 1]).absolute()
    talk, folder = Talk(quiet), logs or out / "logs"
    parameters = dict(map(parameter, settings))
    with talk.busy(f"{shards} shards on this machine" if local else "submitting"):
        jobs = submit(words, out, shards, folder, parameters, "local" if local else None)
    if jobs:
        talk.say(f"submitted {shards} shards, {jobs[0]} and on, and their merger {jobs[-1]}; what they print: {folder}")
    else:
        talk.say(f"done, in {out}; what the jobs printed: {folder}")
