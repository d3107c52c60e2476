"""Passes over batches into sums: saved, gone on with, brought together."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from tffjax.data import BatchPlan
from tffjax.errors import InputError
from tffjax.files import no_room
from tffjax.pipeline import streaming
from tffjax.pipeline.contents import Contents
from tffjax.pipeline.directory import Run, State
from tffjax.pipeline.forecast import TIMED, WARM, Forecast, bytes_of, rate_of
from tffjax.pipeline.images import Images, images_in
from tffjax.pipeline.part import Part
from tffjax.pipeline.provenance import environment, machine, run_record
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Request, Shard
from tffjax.pipeline.study import Ended, Pass, Study
from tffjax.results.tables import write_table

Stream = Callable[..., Iterator[streaming.Done]]
"""A function such as `tffjax.pipeline.streaming.stream`."""

SAVE_SECONDS = 20.0
WHOLE = Shard(0, 1)
SHOWN = 20
LONG = 20
"""A pass of more batches says what it will take once its first ones are done."""


def request_record(study: Study, request: Request, images: Images) -> dict[str, Any]:
    """What run.json says before the run."""
    identity = study.identity()
    reading = dataclasses.asdict(request.reading) | {"batch_size": images.batch_size}
    arguments = reading | identity.pop("arguments")
    asked = {"images": images.fingerprint, "arguments": arguments, "machine": machine(), **identity}
    return run_record(study.name, asked, request.weights, images.kinds, data=request.data)


@contextlib.contextmanager
def resumable(run: Run, again: str, resumed: bool) -> Iterator[None]:
    """Log that work on a run begins; what interrupts the block is turned into one line that says how to go on.

    Raises:
        InputError: interrupted; the disk is full.
    """
    try:
        run.log("resumed" if resumed else "started", environment=environment())
        yield
    except KeyboardInterrupt:
        raise InputError(f"interrupted; go on with: {again}") from None
    except OSError as error:
        raise InputError(
            f"{error.filename or run.path}: {error.strerror or error}; when that is mended, go on with: {again}"
        ) from None
    except Exception as error:
        if why := no_room(error):
            raise InputError(f"{run.path}: {why}; when that is mended, go on with: {again}") from None
        raise


def contents_of(runs: Sequence[Run], images: Images, reporter: Reporter) -> Contents:
    """What runs have read of the images, which are still the same.

    Raises:
        InputError: they are not.
    """
    contents = Contents(images.files)
    with reporter.busy("looking whether the images are the same"):
        contents.load(runs)
        contents.check()
    return contents


def batches_of(work: Pass, images: Images, shard: Shard) -> tuple[BatchPlan, ...]:
    """A shard's batches of a pass: a run of whole batches, so that no batch depends on the number of shards."""
    batches = images.batches(work.only)
    first, last = (len(batches) * index // shard.count for index in (shard.index, shard.index + 1))
    return batches[first:last]


def go_through(
    run: Run,
    number: int,
    work: Pass,
    images: Images,
    contents: Contents,
    shard: Shard,
    strict: bool,
    reporter: Reporter,
    save_seconds: float | None = None,
    stream: Stream | None = None,
) -> None:
    """Bring a shard's batches through a pass into its sums, from where the run stands; saves the state.

    Raises:
        InputError: an image is unreadable and `strict` is on; an image is not the one that was read before.
    """
    state = run.load(number)
    if state and state.ended:
        return
    sums = work.sums(run.folder(number))
    position, skipped = 0, dict[int, str]()
    if state:
        position, skipped = state.position, dict(state.skipped)
        sums.restore(state.sums)
    mine = batches_of(work, images, shard)
    plan = dataclasses.replace(images.plan, batches=mine)
    if position < len(mine):
        step = work.start(reporter)
        with reporter.progress(work.title, images_in(mine), "images") as advance:
            advance(images_in(mine[:position]))
            saved_at, times, left = time.monotonic(), list[float](), mine[position:]
            for done in (stream or streaming.stream)(
                step, plan, images.files, images.transform, images.batch_size, work.variants, position, images.read
            ):
                contents.take(done.batch.contents)
                skipped |= done.batch.skipped
                if done.batch.skipped and strict:
                    raise InputError(f"an image is unreadable (--strict): {next(iter(done.batch.skipped.values()))}")
                note = sums.add(done.batch, done.outputs)
                advance(int((done.batch.indices >= 0).sum()), ", ".join(filter(None, (note, done.waiting))))
                position = done.position
                times.append(time.perf_counter())
                if len(times) == WARM + TIMED and len(left) > LONG:
                    size = bytes_of(sums, run.folder(number), images_in(mine[:position]), images_in(mine))
                    reporter.say(f"{work.title}: {Forecast(images_in(left), rate_of(left, times), size, 0.0)}")
                if time.monotonic() - saved_at > (SAVE_SECONDS if save_seconds is None else save_seconds):
                    contents.save(run)
                    run.save(number, State(position, False, skipped, sums.state()))
                    saved_at = time.monotonic()
    contents.save(run)
    run.save(number, State(position, True, skipped, sums.state()))


def merged(runs: Sequence[Run], into: Run, number: int, work: Pass, images: Images) -> Ended:
    """A pass that has ended in all its shards, given in their order, with its sums brought together in `into`.

    Raises:
        InputError: none of the images could be read.
    """
    states = [run.load(number) for run in runs]
    skipped = dict(images.plan.skipped)
    for state in states:
        skipped |= state.skipped
    if len(skipped) == len(images.files):
        raise InputError(f"none of the images could be read: {next(iter(skipped.values()))}")
    sums = work.sums(into.folder(number))
    if len(runs) == 1 and runs[0] is into:
        sums.restore(states[0].sums)
    else:
        sums.merge([Part(state.sums, run.folder(number)) for state, run in zip(states, runs, strict=True)])
    return Ended(sums, dict(sorted(skipped.items())))


def finish(study: Study, run: Run, images: Images, ended: Sequence[Ended], reporter: Reporter) -> None:
    """Write the results of a study whose passes have ended, and tell them."""
    skipped: dict[int, str] = {}
    for one in ended:
        skipped |= one.skipped
    with run.finish() as (folder, results):
        results |= study.finish(images, ended, folder) | {"skipped": len(skipped)}
        reasons = [reason.removeprefix(f"{images.files[index].path}: ") for index, reason in skipped.items()]
        columns = {"path": [images.names[index] for index in skipped], "reason": reasons}
        write_table(pa.table(columns, schema=pa.schema(dict.fromkeys(columns, pa.string()))), folder / "skipped")
    for reason in list(skipped.values())[:SHOWN]:
        reporter.warn(f"skipped: {reason}")
    if len(skipped) > SHOWN:
        reporter.warn(f"... and {len(skipped) - SHOWN} more, all in skipped.csv")
    study.say(images, results, run.path, reporter)
    run.log("done", **results)
