"""`tffjax rank`: the forensic feature relevance statistic over any number of images."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.parquet import read_table

from tffjax import ffrs_tables, ranking_figures
from tffjax.cli.asked import ask, input_options, study_options
from tffjax.cli.console import Talk, precision_option, prepared, refuse_unused
from tffjax.cli.memory import halving
from tffjax.cli.study import (
    Job,
    chosen_k,
    compile_shapes,
    gather_skipped,
    go_through,
    opened,
    prepare,
    write_skipped,
)
from tffjax.compile.placement import put
from tffjax.compile.products import products
from tffjax.data import Batch
from tffjax.distributed import sum_over_processes, wait_for_all
from tffjax.errors import InputError
from tffjax.ffrs import LABELS, Design, Totals, omega, relevance_shares
from tffjax.ffrs_sums import FFRSSums, row_schema
from tffjax.figures import save_figure
from tffjax.kernels.precision import check_precision
from tffjax.lrp.composites import COMPOSITES
from tffjax.nn import Model, canonize, checkpoint
from tffjax.nn.sites import sites_of
from tffjax.per_image import PartWriter
from tffjax.rankings import Channel, all_channels, write_ranking
from tffjax.runs import Run
from tffjax.tables import screen_table, write_table

LEVELS = 12
MAX_GROUPS = 200
SHOWN = 10


@click.command()
@input_options
@click.option(
    "--composite",
    type=click.Choice([name for name, composite in COMPOSITES.items() if composite.linear]),
    default="beta0",
    show_default=True,
    help="LRP rules.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Keep fake images with p >= this and real ones with p <= 1 - this; 0 keeps all.",
)
@click.option("--k", type=click.IntRange(min=1), help="Length of the top list. [default: 114; EfficientNet-B0: 27]")
@click.option("--label", type=click.Choice(LABELS), help="Label of images whose folders do not say it.")
@click.option(
    "--bootstrap", type=click.IntRange(min=0), default=200, show_default=True, help="Bootstrap replicates; 0: none."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("--per-image", is_flag=True, help="Also write every image's statistic (about 100 KB an image).")
@click.option("--own-size", is_flag=True, help="Leave images at their own size, without --resize and --crop.")
@precision_option
@click.option(
    "--random-crop", type=int, metavar="SEED", help="Random resized crops as the released code draws them, seeded."
)
@click.option(
    "--released-quirks",
    is_flag=True,
    help="Leave an emptied batch norm, 1/sqrt(1+eps), behind each folded convolution as the released code does.",
)
@click.option(
    "--squeeze-excite-from",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT",
    help="Take the squeeze-excite weights from there, as the released code took ImageNet's.",
)
@study_options
@click.pass_context
@halving
def rank(context: click.Context, **given: Any) -> None:
    """Rank the channels of a detector by how much relevance they receive (FF-RS).

    WEIGHTS is a folder written by `tffjax convert`, DATA folders of labeled images. Every image that the detector is
    sure of is explained by LRP; a channel's statistic omega is the mean share of its site's relevance that it gets.
    Fake and real images make a ranking each. Images are resized to 224 and cropped, unless you say otherwise.

    Writes ranking_fake.csv and ranking_real.csv (key,mean_relevance), statistics.parquet (standard errors, bootstrap
    intervals, counts), near_cut.csv, stability.csv, images.csv, groups.parquet (by generator and class), plots, and
    run.json with the provenance. The same question gives the same bytes. An interrupted run goes on with --resume.

    \b
    Example:
      tffjax rank detector images/ --out run
      tffjax rank --resume run
      tffjax rank detector images/ --out run --coordinator 10.0.0.1:1234 --num-processes 4 --process-id 0
    """
    if given["own_size"]:
        refuse_unused("with --own-size", "resize", "crop", "random_crop")
    if given["random_crop"] is not None:
        refuse_unused("with --random-crop", "resize")
    for name in ("resize", "crop"):
        given[name] = None if given["own_size"] else given[name] or 224
    if given["random_crop"] is not None:
        given["resize"] = None
    asked = ask(context, given)
    check_precision(asked.arguments["precision"])
    talk = Talk(given["quiet"] or asked.process.index > 0)
    job = prepare(asked, talk)
    model, second = _network(job)
    job.record["identity"]["squeeze_excite_from"] = second
    chosen_k(job)  # that there is one, before hours are spent
    label = asked.arguments["label"]
    unlabeled = sum(file.label is None for file in job.files)
    if unlabeled and label is None:
        raise InputError(
            f"{unlabeled} of {len(job.files)} images have no label (no folder 0_real or 1_fake above them), and FF-RS "
            "explains the label; say --label fake (or real) for them"
        )
    if asked.dry_run:
        sizes = ", ".join(f"{h}x{w}" for h, w in job.work.shapes)
        talk.say(f"would rank {sum(s.channels for s in sites_of(model))} channels over {job.total} images "
                 f"({sizes}), {job.batch_size} a batch, into {asked.run}")  # fmt: skip
        return
    with opened(job) as run:
        if run.done:
            talk.say(f"{asked.run} is done already")
            return
        sums, channels = _sums(job, run, model), all_channels(model)
        how = asked.arguments["composite"], asked.arguments["precision"]
        model = prepared(model, job.work.shapes, job.batch_size, *how)
        passes = compile_shapes(job, model, "LRP", relevance_shares, np.int32)
        if asked.arguments["precision"] != "float32" or jax.default_backend() != "cpu":
            talk.say(f"the compiled program has {products(next(iter(passes.values())).as_text())}")

        def step(batch: Batch) -> Any:
            return passes[batch.images.shape[1:3]](model, put(batch.images), put(sums.signs(batch)))

        skipped = go_through(job, run, "ranking", step, sums)
        _finish(job, run, sums, skipped, channels)


def _network(job: Job) -> tuple[Model, str]:
    """The canonized network as the options want it, and the hash of the second checkpoint."""
    arguments, model, second = job.asked.arguments, job.model, ""
    if arguments["squeeze_excite_from"]:
        other = checkpoint.load(Path(arguments["squeeze_excite_from"]))
        second = other.card.weights_sha256
        gates, ours = ({name: leaf for name, leaf in network.variables["params"].items() if "_se_" in name}
                       for network in (other, model))  # fmt: skip
        if not gates or jax.tree.map(np.shape, gates) != jax.tree.map(np.shape, ours):
            raise InputError("--squeeze-excite-from needs EfficientNet-B0, as detector and as the other checkpoint")
        variables = {**model.variables, "params": {**model.variables["params"], **gates}}
        model = dataclasses.replace(model, variables=variables)
    return canonize(model, "reset" if arguments["released_quirks"] else "folded"), second


def _sums(job: Job, run: Run, model: Model) -> FFRSSums:
    arguments, sites = job.asked.arguments, sites_of(model)
    generators = dict.fromkeys((file.generator, "") for file in job.files)
    classes = dict.fromkeys((file.generator, file.category) for file in job.files if file.category)
    groups = (*generators, *classes) if len(generators) + len(classes) <= MAX_GROUPS else (*generators,)[:MAX_GROUPS]
    channels = tuple(site.channels for site in sites)
    design = Design(channels, groups, LEVELS, arguments["bootstrap"], arguments["seed"])
    labels = [int(arguments["label"] == "fake") if file.label is None else file.label for file in job.files]
    writer = None
    if arguments["per_image"]:
        writer = PartWriter(run.path / "per_image", job.asked.process.index, row_schema(design))
    names = [site.name for site in sites]
    return FFRSSums(design, names, job.files, job.names, labels, job.model.card, arguments["confidence"], writer)


def _finish(job: Job, run: Run, sums: FFRSSums, skipped: dict[int, str], channels: tuple[Channel, ...]) -> None:
    """Bring the sums of all processes together; the first one writes the results."""
    process, design = job.asked.process, sums.design
    totals = Totals(*(sum_over_processes(array, process) for array in vars(sums.totals).values()))
    everyone = gather_skipped(job, skipped)
    kept = totals.images[:, 0, 0]
    if not totals.images[:, 0].any():
        raise InputError(f"none of the images could be read: {next(iter(everyone.values()))}")
    if not kept.any():
        raise InputError(
            f"the confidence filter dropped all {totals.images[:, 0, 1].sum()} images: the detector is sure of none; "
            "keep more with a lower --confidence (0 keeps all)"
        )
    if process.index == 0:
        k = min(chosen_k(job), len(channels))
        labels = [label for label in (1, 0) if kept[label]]
        images = {
            LABELS[label]: {"kept": int(kept[label]), "dropped": int(totals.images[label, 0, 1])} for label in (1, 0)
        }
        sites = list(dict.fromkeys(channel.site for channel in channels))
        unreached = ffrs_tables.unreached(totals, design, sites)
        results = {"images": images, "skipped": len(everyone), "k": k, "without_relevance": unreached}
        with run.finish(results, process.count) as folder:
            _write_results(job, totals, design, channels, labels, k, folder)
            write_skipped(job, everyone, folder)
        _say_results(job, run, labels, k, results)
        run.log("done", **results)
    wait_for_all("results written", process)


def _write_results(
    job: Job, totals: Totals, design: Design, channels: tuple[Channel, ...], labels: list[int], k: int, folder: Path
) -> None:
    tables = [ffrs_tables.statistics(totals, design, channels, label, k) for label in labels]
    stability = [ffrs_tables.stability(totals, design, label, k) for label in labels]
    for label, table in zip(labels, tables, strict=True):
        write_ranking(folder / f"ranking_{LABELS[label]}.csv", ffrs_tables.ranking(totals, design, channels, label))
        near = table.filter(table["near_cut"].fill_null(False)).drop_columns(["near_cut"])
        write_table(near, folder / f"near_cut_{LABELS[label]}.csv")
    write_table(pa.concat_tables(tables), folder / "statistics.parquet")
    write_table(pa.concat_tables(stability), folder / "stability.csv")
    write_table(ffrs_tables.image_counts(totals, design), folder / "images.csv")
    write_table(ffrs_tables.breakdown(totals, design, channels), folder / "groups.parquet")
    for label, table, growth in zip(labels, tables, stability, strict=True):
        name, count = LABELS[label], int(totals.images[label, 0, 0])
        values = np.nan_to_num(omega(totals, design, label)[0])
        band = None if table["low"].null_count else (table["low"].to_numpy(), table["high"].to_numpy())
        curve = ranking_figures.omega_curve(np.nan_to_num(table["omega"].to_numpy()), k, count, band)
        save_figure(curve, folder / f"omega_{name}")
        save_figure(ranking_figures.top_by_site(channels, values, k, count), folder / f"top_by_site_{name}")
        save_figure(ranking_figures.omega_by_kind(channels, values, k, count), folder / f"omega_by_kind_{name}")
        sizes, overlap = growth["images"].to_numpy(), growth["overlap"].to_numpy()
        save_figure(ranking_figures.stability(sizes, overlap, k, len(channels)), folder / f"stability_{name}")


def _say_results(job: Job, run: Run, labels: list[int], k: int, results: dict[str, Any]) -> None:
    table = read_table(run.path / "statistics.parquet")
    percent = {"omega": ".4f", "standard_error": ".4f", "low": ".4f", "high": ".4f", "in_top": ".0%"}
    for label in labels:
        name = LABELS[label]
        top = table.filter(pc.equal(table["label"], name)).slice(0, SHOWN)
        title = f"top channels, {name} images (n = {results['images'][name]['kept']})"
        job.talk.say(screen_table(top, title, {"rank": "d", "key": "", **percent}))
    for name, images in results["images"].items():
        if not images["kept"]:
            why = f"all {images['dropped']} were dropped by --confidence" if images["dropped"] else "there are none"
            job.talk.warn(f"no ranking of {name} images: {why}")
    for site, count in results["without_relevance"].items():
        job.talk.warn(f"{site}: no relevance at {count} images, which are left out of its mean")
    kept = sum(label["kept"] for label in results["images"].values())
    dropped = sum(label["dropped"] for label in results["images"].values())
    skipped = results["skipped"]
    job.talk.say(f"{kept} images kept, {dropped} dropped by --confidence, {skipped} skipped; results in {run.path}")
