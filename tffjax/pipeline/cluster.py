"""Shards of a study as jobs of a cluster, through submitit."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tffjax.errors import InputError
from tffjax.pipeline import directory


@dataclasses.dataclass(frozen=True)
class Task:
    """A tffjax command as a job. A preempted one is submitted again, and goes on where it was."""

    words: tuple[str, ...]

    def __call__(self) -> None:
        """Run the command.

        Raises:
            RuntimeError: it does not end well; its last line says why.
        """
        command = [sys.executable, "-m", "tffjax", *self.words]
        ended = subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False)
        print(ended.stderr, file=sys.stderr)
        if ended.returncode:
            raise RuntimeError((ended.stderr.splitlines() or [f"exit code {ended.returncode}"])[-1])

    def checkpoint(self) -> Any:
        """What submitit submits when the job is preempted or runs out of time."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


@dataclasses.dataclass(frozen=True)
class Round:
    """The merger of a pass, and the jobs of the next one if there is one."""

    words: tuple[str, ...]
    out: Path
    shards: int
    logs: Path
    parameters: tuple[tuple[str, Any], ...]

    def __call__(self) -> None:
        """Merge; submit the next pass."""
        Task(("merge", str(self.out)))()
        if not directory.is_done(self.out):
            submit(self.words, self.out, self.shards, self.logs, dict(self.parameters), None)


def submit(
    words: tuple[str, ...],
    out: Path,
    shards: int,
    logs: Path,
    parameters: Mapping[str, Any],
    cluster: str | None,
) -> list[str]:
    """Submit a study's shards as an array of jobs, and a job that merges them when they have ended well.

    Args:
        words: the command of a study, with `--out`.
        out: what `--out` names.
        shards: how many.
        logs: folder for what the jobs print.
        parameters: of `submitit.AutoExecutor.update_parameters`, such as `slurm_partition`, `timeout_min`.
        cluster: `slurm`, or `local`: processes of this machine, which are waited for; None takes what is there.

    Returns:
        The ids of the jobs, the merger's last; none where they have ended.

    Raises:
        InputError: submitit is not installed, does not know a parameter, or a job ends badly.
    """
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")  # else it closes the handlers of everybody's loggers
    try:
        import submitit
    except ImportError:
        raise InputError("tffjax submit needs submitit: pip install 'tffjax[cluster]'") from None
    executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
    try:
        executor.update_parameters(name=f"tffjax-{words[0]}", **parameters)
    except (NameError, TypeError, ValueError) as error:
        raise InputError(f"--set: {str(error).splitlines()[0]}") from None
    local = executor.cluster == "local"
    while True:
        with executor.batch():
            jobs = [executor.submit(Task((*words, "--shard", f"{index}/{shards}"))) for index in range(shards)]
        if not local:
            break
        _wait(jobs, submitit)
        _wait([executor.submit(Task(("merge", str(out))))], submitit)
        if directory.is_done(out):
            return []
    array = jobs[0].job_id.split("_")[0]
    executor.update_parameters(slurm_additional_parameters={"dependency": f"afterok:{array}"})
    merger = executor.submit(Round(words, out, shards, logs, tuple(parameters.items())))
    return [*(job.job_id for job in jobs), merger.job_id]


def parameter(text: str) -> tuple[str, Any]:
    """KEY=VALUE, where the value is a number or text.

    Raises:
        InputError: there is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--set {text}: give KEY=VALUE, such as slurm_partition=gpu")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


_SAID = "RuntimeError: "


def _wait(jobs: list[Any], submitit: Any) -> None:
    for job in jobs:
        try:
            job.result()
        except submitit.core.utils.FailedJobError as error:
            said = [line.removeprefix(_SAID) for line in str(error).splitlines() if line.startswith(_SAID)]
            reason = said[-1] if said else "it was killed"
            raise InputError(
                f"job {job.job_id} ended badly: {reason} (see {job.paths.stderr}); "
                "the same command goes on where it was"
            ) from None
