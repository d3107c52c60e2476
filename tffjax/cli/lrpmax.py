"""`tffjax lrpmax`: what a channel looks at."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from tffjax.cli.asked import ask, input_options, study_options
from tffjax.cli.console import FIRST_TIME, Talk
from tffjax.cli.lrpmax_results import write_results
from tffjax.cli.memory import halving
from tffjax.cli.study import Job, chosen_channels, gather_skipped, go_through, opened, prepare, prepared
from tffjax.data import Batch, BatchPlan
from tffjax.distributed import share, wait_for_all
from tffjax.errors import InputError
from tffjax.ffrs import LABELS
from tffjax.lrp.composites import COMPOSITES
from tffjax.lrpmax_rows import SCHEMA, Explainer, Tops, work_list
from tffjax.per_image import PartWriter, Rows, map_parts
from tffjax.runs import Run

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
    crops with their place), patches/ (PNG), collages of patches and of their places (channels by generators), and
    run.json with the provenance.

    \b
    Example:
      tffjax lrpmax detector images/ --ranking run/ranking_fake.csv --k 114 --top 20 --out patches
      tffjax lrpmax detector images/ --ranking run/ranking_fake.csv --k 12 --top 4 --by relevance --out patches
    """
    asked = ask(context, given)
    talk = Talk(given["quiet"] or asked.process.index > 0)
    job = prepare(asked, talk)
    channels = chosen_channels(job)
    job.record["identity"]["channels"] = [channel.key for channel in channels]
    if asked.arguments["by"] == "relevance" and job.model.card.num_outputs != 1:
        raise InputError("--by relevance explains a detector's decision; this network has several outputs")
    generators, label = _generators(job), asked.arguments["label"]
    wanted = [index for index, generator in enumerate(generators) if generator is not None]
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
        model = prepared(job, job.model, asked.arguments["composite"])
        explainer = Explainer(model, channels, asked.arguments["by"] == "relevance")
        tops = Tops(len(channels), asked.arguments["top"], generators)
        search = _compiling(talk, lambda batch: explainer.search(batch, _signs(job, batch)))
        looked = go_through(_only(job, wanted), run, "looking for the strongest neurons", search, tops)
        skipped = gather_skipped(job, looked)
        tasks = work_list(tops.merged(asked.process))
        if not tasks:
            raise InputError(f"none of the {label} images could be read: {next(iter(skipped.values()))}")
        skipped |= gather_skipped(job, _explain(job, run, explainer, tasks))
        if asked.process.index == 0:
            rows = map_parts(run.work / "parts", SCHEMA)
            with run.finish({"explained": len(rows), "skipped": len(skipped)}, asked.process.count) as folder:
                write_results(job, rows, channels, skipped, folder)
            talk.say(f"{len(rows)} neurons explained, {len(skipped)} images skipped; results in {run.path}")
        wait_for_all("results written", asked.process)


def _generators(job: Job) -> list[str | None]:
    """The generator of each image, None for those whose label is not asked for."""
    wanted = job.asked.arguments["label"]
    return [
        file.generator if wanted == "any" or file.label is None or LABELS[file.label] == wanted else None
        for file in job.files
    ]


def _signs(job: Job, batch: Batch) -> np.ndarray:
    """1 where the output speaks for the label of the image (fake, where it has none), -1 where its negative does."""
    fake = np.array([job.files[index].label != 0 for index in batch.indices])
    return np.where(fake == (job.model.card.high_means == "fake"), 1, -1).astype(np.int32)


def _explain(job: Job, run: Run, explainer: Explainer, tasks: dict[int, Any]) -> dict[int, str]:
    """The second pass, over the images that have tasks; its rows are in RUN/work/parts.

    Returns what it skipped, index of an image -> why.
    """
    sizes = {shape: [tasks[index] for index in indices] for shape, indices in _by_size(job, sorted(tasks)).items()}
    plans = {shape: explainer.plan(shape, some) for shape, some in sizes.items()}
    writer = PartWriter(run.work / "parts", job.asked.process.index, SCHEMA, ROWS_PER_PART)
    make = functools.partial(explainer.rows, tasks=tasks, files=job.files, names=job.names)
    step = _compiling(job.talk, lambda batch: explainer.explain(batch, plans[batch.images.shape[1:3]], tasks))
    skipped = go_through(_only(job, sorted(tasks)), run, "explaining them", step, Rows(writer, make), stage=1)
    wait_for_all("rows written", job.asked.process)
    return skipped


def _only(job: Job, indices: Sequence[int]) -> Job:
    """The job for these images only."""
    work = tuple(
        BatchPlan(shape, tuple(members[start : start + job.batch_size]))
        for shape, members in _by_size(job, indices).items()
        for start in range(0, len(members), job.batch_size)
    )
    return dataclasses.replace(job, work=share(dataclasses.replace(job.work, batches=work), job.asked.process))


def _by_size(job: Job, indices: Sequence[int]) -> dict[tuple[int, int], list[int]]:
    """These images by their size, without those whose header is unreadable."""
    chosen = set(indices)
    by_size: dict[tuple[int, int], list[int]] = {}
    for batch in job.all_batches:
        by_size.setdefault(batch.shape, []).extend(index for index in batch.indices if index in chosen)
    return {shape: members for shape, members in by_size.items() if members}


def _compiling(talk: Talk, step: Any) -> Any:
    """`step`, which compiles at the first batch of each size; says so."""
    seen = set()

    def told(batch: Batch) -> Any:
        if batch.images.shape in seen:
            return step(batch)
        seen.add(batch.images.shape)
        with talk.busy(f"compiling ({FIRST_TIME})"):
            return step(batch)

    return told
