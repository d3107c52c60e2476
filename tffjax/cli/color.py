"""`tffjax color`: what grayscale and other ablations do to a detector and to its channels."""

import csv
import functools
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pyarrow as pa

from tffjax import color_figures, color_statistics, color_tables
from tffjax.ablations import ORIGINAL, Ablation, parse_list
from tffjax.cli.asked import ask, input_options, study_options
from tffjax.cli.console import Talk, prepared
from tffjax.cli.memory import halving
from tffjax.cli.study import (
    Job,
    chosen_channels,
    compile_shapes,
    gather_skipped,
    go_through,
    opened,
    prepare,
    row_columns,
    write_skipped,
)
from tffjax.color import max_activations
from tffjax.compile.placement import put
from tffjax.data import LABELS, Batch, Variant
from tffjax.distributed import wait_for_all
from tffjax.errors import InputError
from tffjax.figures import save_figure
from tffjax.files import file_name
from tffjax.nn import Model, network_of
from tffjax.per_image import PartWriter, Rows, read_parts
from tffjax.predictions import fake_probability
from tffjax.rankings import Channel
from tffjax.runs import Run
from tffjax.tables import screen_table, write_table

EXTREMES = 4
TITLES = {True: ("most color-conditional", "least color-conditional"), False: ("most affected", "least affected")}


@click.command()
@input_options
@click.option("--ranking", type=click.Path(path_type=Path), help="Ranking whose first --k channels are tested.")
@click.option("--k", type=click.IntRange(min=1), help="How many channels. [default: 114; EfficientNet-B0: 27]")
@click.option(
    "--ablation",
    "ablations",
    multiple=True,
    default=["grayscale"],
    show_default=True,
    metavar="NAME[:STRENGTH,...]",
    help="grayscale, hue:DEGREES, desaturate:SHARE, blur:SIGMA, jpeg:QUALITY, noise:SIGMA; several times for several.",
)
@click.option(
    "--classes",
    type=click.Path(path_type=Path),
    help="CSV path,class: the correct output of each image, for networks with several outputs.",
)
@study_options
@click.pass_context
@halving
def color(context: click.Context, **given: Any) -> None:
    """Is a feature about color? Compare images with their grayscale (or otherwise ablated) versions.

    WEIGHTS is a folder written by `tffjax convert`, DATA are images or folders; images keep their size unless --resize
    or --crop are given. The image and its ablations go through the network together; for each of the first --k channels
    of the ranking the largest activation before batch norm is compared by Mood's median test (the paper's criterion:
    p <= 0.05), with Benjamini-Hochberg adjusted p, Wilcoxon's paired test and an effect size beside it.

    Writes metrics.csv, table-i.csv (the paper's layout, published values beside ours), tests.csv, shares.csv,
    whiskers, densities and curves (CSV, PNG, PDF), per_image.parquet, and run.json with the provenance.

    \b
    Example:
      tffjax color detector images/ --ranking run/ranking_fake.csv --out color
      tffjax color detector images/ --ranking run/ranking_fake.csv --ablation grayscale --ablation jpeg:90,60,30 --out c
      tffjax color imagenet photos/ --ranking rank.csv --classes classes.csv --resize 256 --crop 224 --out c
    """
    asked = ask(context, given)
    talk = Talk(given["quiet"] or asked.process.index > 0)
    arguments = asked.arguments
    ablations = tuple(ablation for text in arguments["ablations"] for ablation in parse_list(text))
    if len(set(ablations)) < len(ablations):
        raise InputError("an ablation is given twice")
    job = prepare(asked, talk)
    channels = chosen_channels(job)
    job.record["identity"]["channels"] = [channel.key for channel in channels]
    classes = _classes(job, arguments["classes"])
    if asked.dry_run:
        talk.say(f"would test {len(channels)} channels under {', '.join(map(str, ablations))} on {job.total} images")
        return
    with opened(job) as run:
        if run.done:
            talk.say(f"{asked.run} is done already")
            return
        one_batch = functools.partial(_one_batch, channels)
        model = prepared(job.model, job.work.shapes, job.batch_size)
        passes = compile_shapes(job, model, "the forward pass", one_batch, variants=len(ablations))

        def step(batch: Batch) -> Any:
            return passes[batch.images.shape[2:4]](model, put(batch.images))

        outputs = job.model.card.num_outputs
        sizes = {"logits": (1 + len(ablations)) * outputs, "activations": (1 + len(ablations)) * len(channels)}
        rows = Rows(
            PartWriter(run.work / "parts", asked.process.index, _schema(sizes)),
            lambda batch, found: _rows(job, batch, found, sizes),
        )
        skipped = gather_skipped(job, go_through(job, run, "testing", step, rows, _variants(job, ablations)))
        wait_for_all("rows written", asked.process)
        if asked.process.index == 0:
            _finish(job, run, ablations, channels, classes, skipped)
        wait_for_all("results written", asked.process)


def _one_batch(channels: tuple[Channel, ...], model: Model, images: Any, *, micro_batch: int) -> Any:
    return max_activations(model, images, channels, micro_batch=micro_batch)


def _variants(job: Job, ablations: tuple[Ablation, ...]) -> list[Variant]:
    return [lambda image, index, ablation=ablation: ablation(image, job.names[index]) for ablation in ablations]


def _classes(job: Job, path: str | None) -> np.ndarray | None:
    """The correct output of every file, or None for detectors."""
    outputs = job.model.card.num_outputs
    if outputs == 1:
        if path is not None:
            raise InputError("--classes is for networks with several outputs; a detector's labels are in its folders")
        return None
    if path is None:
        raise InputError(f"this network has {outputs} outputs; give the correct one of each image with --classes FILE")
    try:
        with Path(path).open(newline="", encoding="utf-8") as stream:
            table = {row["path"]: int(row["class"]) for row in csv.DictReader(stream)}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, UnicodeDecodeError):
        raise InputError(f"{path}: not a CSV with the columns path and class (a whole number)") from None
    found = [table.get(name, table.get(Path(name).name, -1)) for name in job.names]
    for name, output in zip(job.names, found, strict=True):
        if not 0 <= output < outputs:
            raise InputError(f"{path}: no class from 0 to {outputs - 1} for {name}")
    return np.array(found)


def _schema(sizes: dict[str, int]) -> pa.Schema:
    words = [("index", pa.int64()), *((name, pa.string()) for name in ("path", "generator", "category", "label"))]
    return pa.schema([*words, *((name, pa.list_(pa.float32(), size)) for name, size in sizes.items())])


def _rows(job: Job, batch: Batch, found: Any, sizes: dict[str, int]) -> pa.Table:
    present, columns = row_columns(job, batch)
    for (name, size), values in zip(sizes.items(), found, strict=True):
        flat = values[present].reshape(-1)
        if not np.isfinite(flat).all():
            raise InputError(f"the network gives NaN or infinity ({name}), first batch with {columns['path'][0]}")
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, size)
    return pa.table(columns, schema=_schema(sizes))


class _Found(NamedTuple):
    """What was found for all images, in their order."""

    names: list[str]
    generator: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    activations: np.ndarray


def _found(table: pa.Table, ablations: tuple[Ablation, ...]) -> _Found:
    def arrays(column: str) -> np.ndarray:
        flat = table[column].combine_chunks().flatten().to_numpy()
        return np.moveaxis(flat.reshape(len(table), 1 + len(ablations), -1), 1, 0)

    known = {name[2:]: label for name, label in LABELS.items()}
    label = np.array([known.get(name, -1) for name in table["label"].to_pylist()])
    generator = np.array(table["generator"].to_pylist(), dtype=object)
    return _Found([ORIGINAL, *map(str, ablations)], generator, label, arrays("logits"), arrays("activations"))


def _finish(
    job: Job,
    run: Run,
    ablations: tuple[Ablation, ...],
    channels: tuple[Channel, ...],
    classes: np.ndarray | None,
    skipped: dict[int, str],
) -> None:
    table = read_parts(run.work / "parts")
    found = _found(table, ablations)
    results = {"images": len(table), "skipped": len(skipped)}
    with run.finish(results, job.asked.process.count) as folder:
        write_table(table.drop_columns(["index"]), folder / "per_image.parquet")
        write_skipped(job, skipped, folder)
        _write_tests(job, found, channels, folder)
        if classes is None:
            _write_detector(job, found, folder)
        else:
            own = classes[table["index"].to_numpy()]
            by_class = color_tables.class_table(found.names, found.logits, own)
            write_table(by_class, folder / "classes.csv")
            percent = {"median_probability": ".1%", "drop": ".1%", "accuracy": ".1%"}
            job.talk.say(screen_table(by_class, "the correct class", {"ablation": "", "num": "d", **percent}))
            _save_curves(found, by_class, {"median_probability": "median probability of the class [%]"}, folder)
    job.talk.say(f"{len(table)} images tested, {len(skipped)} skipped; results in {run.path}")


def _write_tests(job: Job, found: _Found, channels: tuple[Channel, ...], folder: Path) -> None:
    """Tests of the channels, on fake images where labels are known (the features of the fakes are asked about)."""
    members = found.label == 1 if (found.label == 1).any() else np.ones(len(found.label), bool)
    generator, activations = found.generator[members], found.activations[:, members]
    tests, shares = [], []
    for name, after in zip(found.names[1:], activations[1:], strict=True):
        rows = color_statistics.channel_table(channels, generator, activations[0], after)
        share = color_statistics.share_table(rows)
        tests.append(rows.add_column(0, "ablation", [[name] * len(rows)]))
        shares.append(share.add_column(0, "ablation", [[name] * len(share)]))
        save_figure(color_figures.shares(share), folder / f"shares_{file_name(name)}")
        for group in color_statistics.names_of(generator):
            of_group = generator == group
            chosen = [
                [(row, _density(row, channels, activations[0, of_group], after[of_group])) for row in rows_]
                for rows_ in color_statistics.extremes(rows, group, min(EXTREMES, len(channels)))
            ]
            figure = color_figures.densities(*chosen, ("original", name), TITLES[name == "grayscale"])
            save_figure(figure, folder / f"densities_{file_name(name)}_{file_name(group or 'all')}")
            write_table(_density_data(chosen), folder / f"densities_{file_name(name)}_{file_name(group or 'all')}.csv")
    write_table(pa.concat_tables(tests), folder / "tests.csv")
    write_table(pa.concat_tables(shares), folder / "shares.csv")
    formats = {"ablation": "", "generator": "", "num": "d", "num_channels": "d", "num_conditional": "d"}
    percent = dict.fromkeys(["share", "share_adjusted", "share_paired"], ".1%")
    title = "channels that respond (Mood's median test, p <= 0.05)"
    job.talk.say(screen_table(pa.concat_tables(shares), title, {**formats, **percent, "median_effect": ".2f"}))


def _density(row: dict[str, Any], channels: tuple[Channel, ...], before: np.ndarray, after: np.ndarray) -> pa.Table:
    at = next(index for index, channel in enumerate(channels) if channel.key == row["key"])
    return color_statistics.density_table(before[:, at], after[:, at])


def _density_data(chosen: list[list[tuple[dict[str, Any], pa.Table]]]) -> pa.Table:
    tables = []
    for which, rows in zip(("most", "least"), chosen, strict=True):
        for row, density in rows:
            words = {"which": which, "key": row["key"]}
            for place, (name, word) in enumerate(words.items()):
                density = density.add_column(place, name, [[word] * len(density)])
            tables.append(density)
    return pa.concat_tables(tables)


def _write_detector(job: Job, found: _Found, folder: Path) -> None:
    """Metrics, the paper's table, whisker plots and curves of a detector on labeled images."""
    probability = np.stack([fake_probability(logits[:, 0], job.model.card) for logits in found.logits])
    labeled = found.label >= 0
    if labeled.any():
        generator, label = found.generator[labeled], found.label[labeled]
        metrics = color_tables.metrics_by_ablation(found.names, generator, label, probability[:, labeled])
        write_table(metrics, folder / "metrics.csv")
        percent = dict.fromkeys(["ap", "real", "fake", "real_calibrated", "fake_calibrated"], ".1%")
        job.talk.say(screen_table(metrics, "detection", {"ablation": "", "generator": "", **percent}))
        if "grayscale" in found.names:
            detector = network_of(job.model.card).published or job.model.card.architecture
            write_table(color_tables.grayscale_table(metrics, detector), folder / "table-i.csv")
        columns = {"ap": "average precision [%]", "fake_calibrated": "accuracy on fakes [%]"}
        _save_curves(found, metrics, columns, folder)
    fakes = color_tables.detected(found.label, probability[0])
    if not fakes.any():
        job.talk.warn("no fake image has p >= 0.20, so there are no whisker plots")
        return
    for name, after in zip(found.names[1:], probability[1:], strict=True):
        boxes = color_tables.whisker_table(found.generator[fakes], probability[0, fakes], after[fakes])
        write_table(boxes, folder / f"whiskers_{file_name(name)}.csv")
        save_figure(color_figures.whiskers(boxes, ("original", name)), folder / f"whiskers_{file_name(name)}")


def _save_curves(found: _Found, table: pa.Table, columns: dict[str, str], folder: Path) -> None:
    """A figure for each kind of ablation that has strengths and each column, given with its label."""
    for name in dict.fromkeys(name.partition(":")[0] for name in found.names[1:] if ":" in name):
        for column, label in columns.items():
            save_figure(color_figures.curves(table, name, column, label), folder / f"curve_{column}_{name}")
