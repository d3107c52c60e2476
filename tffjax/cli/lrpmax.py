"""`tffjax lrpmax`: what a channel looks at."""

import contextlib
import dataclasses
import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
import numpy as np

from tffjax.cli.asked import ask, input_options, study_options
from tffjax.cli.console import FIRST_TIME, Talk, prepared
from tffjax.cli.memory import halving
from tffjax.cli.study import Job, chosen_channels, gather_skipped, go_through, opened, prepare, write_skipped
from tffjax.data import Batch, BatchPlan
from tffjax.distributed import share, wait_for_all
from tffjax.errors import InputError
from tffjax.ffrs import LABELS
from tffjax.lrp.composites import COMPOSITES
from tffjax.per_image import PartWriter, Rows, map_parts
from tffjax.studies.lrpmax.run import Explanation, search
from tffjax.studies.lrpmax.search import TopK
from tffjax.studies.lrpmax.tables import SCHEMA, write_results

ROWS_PER_PART = 256


@click.command()
@input_options
@click.option("--ranking", type=click.Path(path_type=Path), help="Ranking whose first --k channels are shown.")
@click.option("--k", type=click.IntRange(min=1), help="How many channels. [default: 114; EfficientNet-B0: 27]")
@click.option(
    "--top", type=click.IntRange(min=1), default=20, show_default=True, help="Images of each channel and generator."
)
@click.option(
    "--by",
    type=click.Choice(["activation", "relevance"]),
    default="activation",
    show_default=True,
    help="What makes an image a top one: the channel's largest activation, or its share of relevance in the decision.",
)
@click.option(
    "--label",
    type=click.Choice([*LABELS, "any"]),
    default="fake",
    show_default=True,
    help="Which images; those without a label always count.",
)
@click.option("--composite", type=click.Choice(list(COMPOSITES)), default="beta0", show_default=True, help="LRP rules.")
@study_options
@click.pass_context
@halving
def lrpmax(context: click.Context, **given: Any) -> None:
    """LRP-max: find the strongest neuron of each channel and explain it alone, on the images where it is strongest.

    WEIGHTS is a folder written by `tffjax convert`, DATA are images or folders, used at their own size unless --resize
    or --crop are given. A first pass over all images finds each channel's top images for every generator; a second one
    explains those neurons, on crops where their receptive field is small.

    Writes index.parquet and index.csv (channel, image, value, position, patch box), maps.parquet (relevance maps as
    crops with their place, in 8-bit codes), patches/ (PNG), collages of patches and of their places (channels by
    generators), and run.json with the provenance.

    \b
    Example:
      tffjax lrpmax detector images/ --ranking run/ranking_fake.csv --k 114 --top 20 --out patches
      tffjax lrpmax detector images/ --ranking run/ranking_fake.csv --k 12 --top 4 --by relevance --out patches
    """
    asked = ask(context, given)
    talk = Talk(given["quiet"] or asked.process.index > 0)
    job = prepare(asked, talk)
    channels = chosen_channels(job)
    keys = [channel.key for channel in channels]
    job.record["identity"]["channels"] = keys
    if asked.arguments["by"] == "relevance" and job.model.card.num_outputs != 1:
        raise InputError("--by relevance explains a detector's decision; this network has several outputs")
    generators, label = _generators(job), asked.arguments["label"]
    wanted = {index for index, generator in enumerate(generators) if generator is not None}
    if not wanted:
        raise InputError(f"none of the {len(job.files)} images is {label}; choose others with --label")
    if asked.dry_run:
        talk.say(f"would explain {len(channels)} channels on their top {asked.arguments['top']} of {len(wanted)} "
                 f"images for {len(set(generators) - {None})} generators, into {asked.run}")  # fmt: skip
        return
    with opened(job) as run:
        if run.done:
            talk.say(f"{asked.run} is done already")
            return
        model = prepared(job.model, job.work.shapes, job.batch_size, asked.arguments["composite"])
        top, only = TopK(keys, asked.arguments["top"], generators), _only(job, wanted)
        step = _compiling(talk, lambda batch: search(model, channels, batch, _signs(job, batch)))
        skipped = gather_skipped(job, go_through(only, run, "looking for the strongest neurons", step, top))
        top.merge(asked.process)
        explanation = Explanation(model, top)
        if not explanation.tasks:
            raise InputError(f"none of the {label} images could be read: {next(iter(skipped.values()))}")
        writer = PartWriter(run.work / "parts", asked.process.index, SCHEMA, ROWS_PER_PART)
        rows = Rows(writer, functools.partial(explanation.rows, names=job.names))
        only, step = _only(job, explanation.tasks), _compiling(talk, explanation)
        skipped |= gather_skipped(job, go_through(only, run, "explaining them", step, rows, stage=1))
        wait_for_all("rows written", asked.process)
        if asked.process.index == 0:
            found = map_parts(run.work / "parts", SCHEMA)
            with run.finish({"explained": len(found), "skipped": len(skipped)}, asked.process.count) as folder:
                write_results(found, keys, asked.arguments["by"], folder)
                write_skipped(job, skipped, folder)
            talk.say(f"{len(found)} neurons explained, {len(skipped)} images skipped; results in {run.path}")
        wait_for_all("results written", asked.process)


def _generators(job: Job) -> list[str | None]:
    """The generator of each image, None for those whose label is not asked for."""
    wanted = job.asked.arguments["label"]
    counts = [wanted == "any" or file.label is None or LABELS[file.label] == wanted for file in job.files]
    return [file.generator if counted else None for file, counted in zip(job.files, counts, strict=True)]


def _signs(job: Job, batch: Batch) -> np.ndarray | None:
    """With --by relevance: 1 where the output speaks for the label of the image (fake, where it has none), else -1."""
    if job.asked.arguments["by"] != "relevance":
        return None
    fake = np.array([job.files[index].label != 0 for index in batch.indices])
    return np.where(fake == (job.model.card.high_means == "fake"), 1, -1).astype(np.int32)


def _only(job: Job, indices: Collection[int]) -> Job:
    """The job for these images only; those whose header is unreadable are in no batch."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for batch in job.all_batches:
        by_size.setdefault(batch.shape, []).extend(index for index in batch.indices if index in indices)
    batches = tuple(
        BatchPlan(shape, tuple(members[start : start + job.batch_size]))
        for shape, members in by_size.items()
        for start in range(0, len(members), job.batch_size)
    )
    return dataclasses.replace(job, work=share(dataclasses.replace(job.work, batches=batches), job.asked.process))


def _compiling(talk: Talk, step: Any) -> Any:
    """`step`, which compiles at the first batch of each size; says so."""
    seen = set()

    def told(batch: Batch) -> Any:
        first = batch.images.shape not in seen
        seen.add(batch.images.shape)
        with talk.busy(f"compiling ({FIRST_TIME})") if first else contextlib.nullcontext():
            return step(batch)

    return told
