"""Several processes on one job, joined by `jax.distributed`.

Each has its share of the batches; the results meet once, at the end.
"""

import dataclasses
import io
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from tffjax.data import Plan
from tffjax.errors import InputError

_CHUNK = 1 << 24  # bytes that are exchanged at a time: every process receives this much from every other
_PATIENCE = 7 * 24 * 3600 * 1000  # milliseconds
_meetings = itertools.count()


class Process(NamedTuple):
    """Which of how many processes this is."""

    index: int = 0
    count: int = 1


def join(coordinator: str | None, count: int | None, index: int | None) -> Process:
    """Join the processes of a job; must come before anything else is asked of JAX.

    Args:
        coordinator: `host:port` of process 0, or `auto` to ask the cluster (Slurm, MPI, TPU, ...) as
            `jax.distributed.initialize` does; None for a job of one process.
        count: number of processes.
        index: of this process, from 0.

    Raises:
        InputError: count or index are missing or do not fit, or the others do not come.
    """
    if coordinator is None:
        if count not in (None, 1) or index not in (None, 0):
            raise InputError("several processes need --coordinator HOST:PORT (or auto)")
        return Process()
    if coordinator != "auto" and (count is None or index is None or not 0 <= index < count):
        raise InputError("--coordinator HOST:PORT needs --num-processes N and --process-id I with 0 <= I < N")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        if coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(coordinator, count, index)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the processes could not join at {coordinator}: {str(error).splitlines()[0]}") from None
    return Process(jax.process_index(), jax.process_count())


def share(work: Plan, process: Process) -> Plan:
    """This process' part of a plan: every `count`-th batch, so that sizes and labels are spread evenly."""
    return dataclasses.replace(work, batches=work.batches[process.index :: process.count])


def gather_bytes(data: bytes, process: Process) -> list[bytes]:
    """What every process gives, in the order of the processes; all of them receive it."""
    if process.count == 1:
        return [data]
    wait_for_all("exchange", process)  # the first collective of CPUs gives up after 30 seconds
    lengths = multihost_utils.process_allgather(np.array([len(data)], np.int32))[:, 0]
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes() for row, length in zip(np.asarray(rows), lengths, strict=True)]


def gather_arrays(arrays: Mapping[str, np.ndarray], process: Process) -> list[dict[str, np.ndarray]]:
    """The named arrays of every process, in the order of the processes."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    gathered = []
    for data in gather_bytes(stream.getvalue(), process):
        with np.load(io.BytesIO(data)) as archive:
            gathered.append(dict(archive))
    return gathered


def sum_over_processes(array: np.ndarray, process: Process) -> np.ndarray:
    """The sum of the arrays of all processes, in their own type (float64 stays float64) and in a fixed order."""
    if process.count == 1:
        return array
    flat = np.ascontiguousarray(array).reshape(-1)
    total = np.empty_like(flat)
    step = _CHUNK // flat.itemsize
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        rows = gather_bytes(part.tobytes(), process)
        total[start : start + step] = np.stack([np.frombuffer(row, flat.dtype) for row in rows]).sum(axis=0)
    return total.reshape(array.shape)


def wait_for_all(where: str, process: Process) -> None:
    """Return when all processes have come here.

    Raises:
        InputError: one of them has ended.
    """
    if process.count > 1:
        meet = multihost.get_barrier_sync_fn(processes=set(range(process.count)))
        try:
            meet(key=f"tffjax, {where}, {next(_meetings)}", timeout_ms=_PATIENCE)
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:200]
            raise InputError(f"another process of this job has ended ({reason}); see why there") from None
