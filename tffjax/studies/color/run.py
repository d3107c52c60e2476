"""The color study over any number of images: which channels respond to an ablation, and what it does to detection."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import expit

from tffjax.compile.placement import put
from tffjax.data import Batch, Variant
from tffjax.data.ablations import Ablation, parse_list
from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.files import file_name
from tffjax.nn import Model
from tffjax.pipeline.images import Images
from tffjax.pipeline.parts import Rows
from tffjax.pipeline.programs import check_sizes, compile_sizes, prepared, size_types, sizes_in
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.detection import Scored, metrics_table
from tffjax.results.figures import save_figure
from tffjax.results.generators import in_order, names_of
from tffjax.results.published import check_detector
from tffjax.results.run_result import RunResult
from tffjax.results.tables import has_table, read_table, write_parquet, write_table
from tffjax.results.wide import lines_of, write_wide
from tffjax.results.words import number_of
from tffjax.studies.call import PathLike, arguments_of, call, model_of
from tffjax.studies.classes import OWN_TOP, class_formats, class_table, correct_classes
from tffjax.studies.color import figures, statistics, tables
from tffjax.studies.color.activations import max_activations
from tffjax.studies.color.samples import Samples, density_data, density_panels, samples_of
from tffjax.studies.predictions import fake_score
from tffjax.studies.rankings import Channel, RankingLike, argument_of
from tffjax.studies.selection import GRAYSCALE, ChannelStudy

EXTREMES = 4
ENDS = ("most", "least")
TITLES = {True: ("most color-conditional", "least color-conditional"), False: ("most affected", "least affected")}


@dataclasses.dataclass(frozen=True)
class Color(ChannelStudy):
    """The study of `tffjax.run_color` and of `tffjax color`; see there for the options."""

    k: int | None = None
    ablations: Sequence[str] = ("grayscale",)
    classes: str | None = None
    published: str | None = None
    name: str = dataclasses.field(default="color", init=False)

    def identity(self) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        return {
            "arguments": arguments_of(self),
            "weights": dataclasses.asdict(self.model.card),
            "channels": [channel.key for channel in self._channels()],
        }

    def plan(self, images: Images) -> str:
        """As `tffjax.pipeline.study.Study`."""
        check_detector(self.published)
        check_sizes(self.model, images)
        ablations, channels = self._ablations(), self._channels()
        self._classes(images)
        under = f"under {', '.join(map(str, ablations))} on {number_of(images.total, 'image')}"
        return f"test {number_of(len(channels), 'channel')} {under}{self.said(self.k)}"

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        """As `tffjax.pipeline.study.Study`."""
        if ended:
            return None
        ablations, channels = self._ablations(), self._channels()
        outputs = self.model.card.num_outputs
        sizes = {"logits": (1 + len(ablations)) * outputs, "activations": (1 + len(ablations)) * len(channels)}
        words = [("index", pa.int64()), *((name, pa.string()) for name in ("path", "generator", "category", "label"))]
        schema = pa.schema([*words, *((name, pa.list_(pa.float32(), size)) for name, size in sizes.items())])

        def start(reporter: Reporter) -> Callable[[Batch], Any]:
            model = prepared(self.model, images.shapes, images.batch_size)
            of_batch = functools.partial(_of_batch, channels)
            types = size_types(images)
            programs = compile_sizes(
                reporter, images, "the forward pass", of_batch, model, *types, variants=len(ablations)
            )
            return lambda batch: programs[batch.images.shape[2:4]](model, put(batch.images), *sizes_in(images, batch))

        def rows(batch: Batch, found: Any) -> pa.Table:
            present, columns = images.rows(batch)
            for (name, size), values in zip(sizes.items(), found, strict=True):
                flat = values[present].reshape(-1)
                if not np.isfinite(flat).all():
                    raise InputError(f"the network gives NaN or infinity ({name}), first batch with "
                                     f"{columns['path'][0]}")  # fmt: skip
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, size)
            return pa.table(columns, schema=schema)

        def variant(ablation: Ablation) -> Variant:
            return lambda image, index: ablation(image, images.names[index])

        return Pass("testing", lambda folder: Rows(folder, schema, rows), start, variants=[*map(variant, ablations)])

    def finish(self, images: Images, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        table, classes = ended[0].sums.table(), self._classes(images)
        found = samples_of(table, [str(ablation) for ablation in self._ablations()])
        write_parquet(table.drop_columns(["index"]), folder / "per_image")
        _write_tests(found, self._channels(), folder)
        if self.model.card.num_outputs == 1:
            _write_detector(self.model, found, self.published or self.model.card.published, folder)
        else:
            correct = None if classes is None else classes[table["index"].to_numpy()]
            by_class = class_table(self.model.card, "ablation", found.names, found.logits, correct)
            write_table(by_class, folder / "classes")
            label = f"median probability of {'its own top-1' if correct is None else 'the class'} [%]"
            _save_curves(found, by_class, {"median_probability": label}, folder)
        return {"images": len(table)}

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """As `tffjax.pipeline.study.Study`."""
        if word := self.first(self.k)[1]:
            reporter.warn(word)
        formats = {"ablation": "", "generator": "", "num": "d", "num_channels": "d", "num_conditional": "d"}
        formats |= dict.fromkeys(["share", "share_adjusted", "share_paired"], ".1%") | {"median_effect": ".2f"}
        title = "channels that respond (Mood's median test, p <= 0.05)"
        reporter.table(read_table(folder / "shares"), title, formats)
        if has_table(folder / "metrics"):
            percent = dict.fromkeys(["ap", "real", "fake", "real_calibrated", "fake_calibrated"], ".1%")
            metrics = read_table(folder / "metrics")
            reporter.table(metrics, "detection", {"ablation": "", "generator": "", **percent})
        if has_table(folder / "classes"):
            by_class = read_table(folder / "classes")
            title = "the correct class" if self.classes else OWN_TOP
            reporter.table(by_class, f"{title} ({self.model.card.network})", class_formats(by_class))
        if self.model.card.num_outputs == 1 and not any(folder.glob("whiskers_*.csv")):
            reporter.warn("no fake image has p >= 0.20, so there are no whisker plots")
        reporter.say(
            f"{number_of(results['images'], 'image')} tested, {results['skipped']} skipped; results in {folder}"
        )

    def _channels(self) -> tuple[Channel, ...]:
        return self.first(self.k)[0]

    def _ablations(self) -> tuple[Ablation, ...]:
        ablations = tuple(ablation for text in self.ablations for ablation in parse_list(text))
        if len(set(ablations)) < len(ablations):
            raise InputError("an ablation is given twice")
        return ablations

    def _classes(self, images: Images) -> np.ndarray | None:
        return correct_classes(self.model.card, self.classes, images.files, images.names)


def _of_batch(channels: tuple[Channel, ...], model: Model, images: Any, *sizes: Any, micro_batch: int) -> Any:
    return max_activations(model, images, channels, micro_batch=micro_batch, sizes=sizes)


def _write_tests(found: Samples, channels: tuple[Channel, ...], folder: Path) -> None:
    """Tests of the channels, shares of those that respond, and densities of the most and the least responding ones."""
    keys = [channel.key for channel in channels]
    generator, activations = found.generator[found.asked], found.activations[:, found.asked]
    tests, shares = [], []
    for name, after in zip(found.names[1:], activations[1:], strict=True):
        rows = statistics.channel_table(channels, generator, activations[0], after)
        share = statistics.share_table(rows)
        tests.append(rows.add_column(0, "ablation", [[name] * len(rows)]))
        shares.append(share.add_column(0, "ablation", [[name] * len(share)]))
        save_figure(figures.shares(share), folder / f"shares_{file_name(name)}")
        ends = [end for end in statistics.extremes(rows, min(EXTREMES, -(-len(keys) // 2))) if end]
        for end, word, title in zip(ends, ENDS, TITLES[name == GRAYSCALE], strict=False):
            own = density_panels(keys, rows, generator, activations[0], after, end)
            figure = figures.density_grid(own, end, in_order(names_of(generator)), title, ("baseline", name))
            save_figure(figure, folder / f"densities_{file_name(name)}_{word}")
            write_table(density_data(own), folder / f"densities_{file_name(name)}_{word}")
    write_table(pa.concat_tables(tests), folder / "tests")
    write_table(pa.concat_tables(shares), folder / "shares")


def _write_detector(model: Model, found: Samples, published: str | None, folder: Path) -> None:
    """Metrics, the paper's table, whisker plots and curves of a detector on labeled images."""
    scores = {
        name: fake_score(logits[:, 0], model.card) for name, logits in zip(found.names, found.logits, strict=True)
    }
    if (found.label >= 0).any():
        metrics = metrics_table(Scored(found.generator, found.label), scores, "ablation")
        write_table(metrics, folder / "metrics")
        if GRAYSCALE in found.names:
            table = tables.grayscale_table(metrics, published)
            write_table(table, folder / "grayscale")
            write_wide(lines_of(table, "input", tables.COLUMNS, scale=1), "input", folder / "table-i1")
        columns = {"ap": "average precision [%]", "fake_calibrated": "accuracy on fakes [%]"}
        _save_curves(found, metrics, columns, folder)
    probability = expit(np.stack(list(scores.values())))
    fakes = tables.detected(found.label, probability[0])
    if not fakes.any():
        return
    for name, after in zip(found.names[1:], probability[1:], strict=True):
        boxes = tables.whisker_table(found.generator[fakes], probability[0, fakes], after[fakes])
        write_table(boxes, folder / f"whiskers_{file_name(name)}")
        save_figure(figures.whiskers(boxes, ("baseline", name)), folder / f"whiskers_{file_name(name)}")


def _save_curves(found: Samples, table: pa.Table, columns: dict[str, str], folder: Path) -> None:
    """A figure for each kind of ablation that has strengths and each column, given with its label."""
    for name in dict.fromkeys(name.partition(":")[0] for name in found.names[1:] if ":" in name):
        for column, label in columns.items():
            save_figure(figures.curves(table, name, column, label), folder / f"curve_{column}_{name}")


def run_color(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    ranking: RankingLike | None = None,
    *,
    k: int | None = None,
    keys: Sequence[str] | None = None,
    where: str | None = None,
    color: PathLike | None = None,
    ablations: Sequence[str] = ("grayscale",),
    classes: PathLike | None = None,
    published: str | None = None,
    resize: Resize | None = None,
    crop: int | None = None,
    pad_to: int | None = None,
    batch_size: int | None = None,
    strict: bool = False,
    labels: str | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Compare images with ablated versions of themselves: which channels respond (Mood's median test, SPEC 7)?

    The image and its ablations go through the network together; for each channel the largest activations before batch
    norm are compared, with Benjamini-Hochberg adjusted p, Wilcoxon's paired test and an effect size beside.

    Args:
        model: a model with a card, or the folder of a checkpoint.
        data: folders of images, `<generator>/{0_real,1_fake}/...`, or images.
        out: the run directory; an unfinished run of the same request there is gone on with.
        ranking: whose first channels are tested: its file, a `Ranking`, or channel keys, best first.
        k: how many channels; None is the paper's number, or all that `keys` and `where` select.
        keys, where, color: which channels, as of `tffjax.studies.selection.choose`.
        ablations: grayscale, hue:DEGREES, desaturate:SHARE, blur:SIGMA, jpeg:QUALITY, noise:SIGMA.
        classes: of networks with several outputs, the correct one of each image: a CSV path,class; `label`, what the
            data say (`tffjax.studies.classes.classes_of`); None is the network's own top-1 on the original image, with
            which the table says the agreement.
        published: name of the detector in the paper whose numbers are to stand beside ours; None is what the card says.
        pad_to: as of `tffjax.predict`.
        resize, crop, batch_size, strict, labels, overwrite, shard, reporter: as of `tffjax.rank`.

    Returns:
        The run: `table("tests")` (a channel, ablation and generator a row), `table("shares")`, `table("metrics")`.

    Raises:
        InputError: as `tffjax.load` and `tffjax.pipeline.run.run`; an option does not fit.
    """
    loaded, weights = model_of(model)
    selected = {"keys": keys, "where": where, "color": argument_of(color)}
    study = Color(loaded, ranking, k, ablations, argument_of(classes), published, **selected)
    reading = Reading(resize=resize, crop=crop, pad_to=pad_to, batch_size=batch_size, strict=strict, labels=labels)
    return call(study, weights, data, out, reading, overwrite, shard, reporter)
