"""FF-RS over any number of images: which channels receive relevance, in fake and in real images."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tffjax.compile.placement import put
from tffjax.compile.products import products
from tffjax.data import LABELS, Batch
from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.kernels.precision import check_precision
from tffjax.nn import Model, canonize, checkpoint
from tffjax.nn.sites import sites_of
from tffjax.pipeline.images import Images
from tffjax.pipeline.parts import PartWriter
from tffjax.pipeline.programs import compile_sizes, prepared
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.figures import save_figure
from tffjax.results.run_result import RunResult
from tffjax.results.tables import read_table, write_parquet, write_table
from tffjax.results.words import number_of
from tffjax.studies.call import PathLike, arguments_of, call, model_of
from tffjax.studies.classes import classes_of
from tffjax.studies.ffrs import figures, tables
from tffjax.studies.ffrs.statistic import Design, Totals, omega, relevance_shares
from tffjax.studies.ffrs.sums import FFRSSums, row_schema
from tffjax.studies.ffrs.target import Target, check_target, target_name, target_text
from tffjax.studies.rankings import Channel, all_channels, chosen_k, ranking_table, write_ranking

LEVELS = 12
MAX_GROUPS = 200
SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Rank:
    """The study of `tffjax.rank` and of `tffjax rank`; see there for the options.

    Attributes:
        model: the detector, as trained.
        squeeze_excite: a second network, from which the squeeze-excite weights are taken.
    """

    model: Model
    composite: str = "beta0"
    confidence: float = 0.9
    k: int | None = None
    label: str | None = None
    bootstrap: int = 200
    seed: int = 0
    per_image: bool = False
    precision: str = "float32"
    released_quirks: bool = False
    squeeze_excite_from: str | None = None
    target: Target = None
    name: str = dataclasses.field(default="rank", init=False)

    def identity(self) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        second = checkpoint.read_card(Path(self.squeeze_excite_from)).weights_sha256 if self.squeeze_excite_from else ""
        return {
            "arguments": arguments_of(self),
            "weights": dataclasses.asdict(self.model.card),
            "squeeze_excite_from": second,
        }

    def plan(self, images: Images) -> str:
        """As `tffjax.pipeline.study.Study`."""
        check_precision(self.precision)
        chosen_k(self.model, self.k)
        check_target(self.target, self.model.card.num_outputs, self.label)
        self._classes(images)
        if not 0 <= self.confidence <= 1 or self.bootstrap < 0 or self.seed < 0:
            raise InputError(
                "the confidence must be from 0 to 1, the number of bootstrap replicates and the seed at least 0; got "
                f"{self.confidence}, {self.bootstrap} and {self.seed}"
            )
        unlabeled = sum(file.label is None for file in images.files)
        if unlabeled and self.label is None and self.target is None:
            raise InputError(
                f"{unlabeled} of {len(images.files)} images have no label (no folder 0_real or 1_fake above them), and "
                "FF-RS explains the label; say --label fake (or real) for them"
            )
        channels = sum(site.channels for site in sites_of(self._detector()))
        sizes = ", ".join(f"{height}x{width}" for height, width in images.shapes)
        return (
            f"rank {channels} channels over {number_of(images.total, 'image')} ({sizes}), {images.batch_size} a batch"
        )

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        """As `tffjax.pipeline.study.Study`."""
        if ended:
            return None
        network, labels, classes = self._network(), self._labels(images), self._classes(images)
        names, design = [site.name for site in sites_of(network)], self._design(images)

        def sums(folder: Path) -> FFRSSums:
            card, confidence = self.model.card, self.confidence
            writer = PartWriter(folder, row_schema(design, self.target, card)) if self.per_image else None
            who = (images.files, images.names, labels.tolist())
            return FFRSSums(design, names, *who, card, confidence, writer, self.target, classes)

        def start(reporter: Reporter) -> Any:
            model = prepared(network, images.shapes, images.batch_size, self.composite, self.precision)
            shares = _shares_of_classes
            if self.target != "label":
                shares = functools.partial(relevance_shares, target="logit" if self.target is None else self.target)
            programs = compile_sizes(reporter, images, "LRP", shares, model, np.int32)
            if self.precision != "float32" or jax.default_backend() != "cpu":
                reporter.say(f"the compiled program has {products(next(iter(programs.values())).as_text())}")
            positive = labels == (self.model.card.high_means == "fake") if self.target is None else labels == 0
            numbers = (np.where(positive, 1, -1) if classes is None else classes).astype(np.int32)

            def step(batch: Batch) -> Any:
                return programs[batch.images.shape[1:3]](model, put(batch.images), put(numbers[batch.indices]))

            return step

        return Pass("ranking", sums, start)

    def finish(self, images: Images, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        sums: FFRSSums = ended[0].sums
        totals, design, channels = sums.totals, sums.design, all_channels(self.model)
        kept = totals.images[:, 0, 0]
        if not kept.any():
            raise InputError(
                f"the confidence filter dropped all {totals.images[:, 0, 1].sum()} images: the network is sure of "
                "none; keep more with a lower --confidence (0 keeps all)"
            )
        k = min(chosen_k(self.model, self.k), len(channels))
        labels = [label for label in reversed(range(len(kept))) if kept[label]]
        _write_tables(totals, design, channels, labels, k, folder)
        if self.per_image:
            sums.write_rows(folder / "per_image")
        counts = {design.labels[label]: {"kept": int(kept[label]), "dropped": int(totals.images[label, 0, 1])}
                  for label in reversed(range(len(kept)))}  # fmt: skip
        sites = list(dict.fromkeys(channel.site for channel in channels))
        return {"images": counts, "k": k, "without_relevance": tables.unreached(totals, design, sites)}

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """As `tffjax.pipeline.study.Study`."""
        table = read_table(folder / "statistics")
        formats = {"rank": "d", "key": "", "omega": ".4f", "standard_error": ".4f", "low": ".4f", "high": ".4f"}
        for label, counts in results["images"].items():
            if counts["kept"]:
                top = table.filter(pc.equal(table["label"], label)).slice(0, SHOWN)
                what = f"{label} images" if self.target is None else target_text(label, self.model.card.class_names)
                title = f"top channels, {what} (n = {counts['kept']})"
                reporter.table(top, title, formats | {"in_top": ".0%"})
            else:
                why = f"all {counts['dropped']} were dropped by --confidence" if counts["dropped"] else "there are none"
                reporter.warn(f"no ranking of {label} images: {why}")
        for site, count in results["without_relevance"].items():
            reporter.warn(f"{site}: no relevance at {count} images, which are left out of its mean")
        kept, dropped = (sum(counts[what] for counts in results["images"].values()) for what in ("kept", "dropped"))
        reporter.say(
            f"{number_of(kept, 'image')} kept, {dropped} dropped by --confidence, {results['skipped']} skipped; "
            f"results in {folder}"
        )

    def _network(self) -> Model:
        """The canonized network as the options want it."""
        return canonize(self._detector(), "reset" if self.released_quirks else "folded")

    def _detector(self) -> Model:
        """The network as trained, with the squeeze-excite weights that the options want."""
        model = self.model
        if self.squeeze_excite_from:
            other = checkpoint.load(Path(self.squeeze_excite_from))
            gates, ours = ({name: leaf for name, leaf in network.variables["params"].items() if "_se_" in name}
                           for network in (other, model))  # fmt: skip
            if not gates or jax.tree.map(np.shape, gates) != jax.tree.map(np.shape, ours):
                raise InputError("--squeeze-excite-from needs EfficientNet-B0, as detector and as the other checkpoint")
            variables = {**model.variables, "params": {**model.variables["params"], **gates}}
            model = dataclasses.replace(model, variables=variables)
        return model

    def _labels(self, images: Images) -> np.ndarray:
        """1 for fake images and 0 for real ones, by their folders or else by the option; 0 for all with a target."""
        if self.target is not None:
            return np.zeros(len(images.files), np.int64)
        return np.array([self.label == "fake" if file.label is None else file.label == 1 for file in images.files], int)

    def _classes(self, images: Images) -> np.ndarray | None:
        """Of every image, if they are explained."""
        return classes_of(images.files, self.model.card) if self.target == "label" else None

    def _design(self, images: Images) -> Design:
        generators = dict.fromkeys((file.generator, "") for file in images.files)
        classes = dict.fromkeys((file.generator, file.category) for file in images.files if file.category)
        few = len(generators) + len(classes) <= MAX_GROUPS
        groups = (*generators, *classes) if few else (*generators,)[:MAX_GROUPS]
        channels = tuple(site.channels for site in sites_of(self.model))
        labels = LABELS if self.target is None else (target_name(self.target),)
        return Design(channels, groups, LEVELS, self.bootstrap, self.seed, labels)


def _shares_of_classes(model: Model, images: Any, classes: Any, *, micro_batch: int) -> Any:
    """As `relevance_shares`, of the output of each image's class."""
    return relevance_shares(model, images, jnp.ones_like(classes), target=classes, micro_batch=micro_batch)


def _write_tables(
    totals: Totals, design: Design, channels: tuple[Channel, ...], labels: list[int], k: int, folder: Path
) -> None:
    statistics = [tables.statistics(totals, design, channels, label, k) for label in labels]
    stability = [tables.stability(totals, design, label, k) for label in labels]
    for label, table in zip(labels, statistics, strict=True):
        ranking = tables.ranking(totals, design, channels, label)
        name = design.labels[label]
        write_ranking(folder / f"ranking_{name}.csv", ranking)
        write_parquet(ranking_table(ranking), folder / f"ranking_{name}")
        near = table.filter(table["near_cut"].fill_null(False)).drop_columns(["near_cut"])
        write_table(near, folder / f"near_cut_{name}")
    write_parquet(pa.concat_tables(statistics), folder / "statistics")
    write_table(pa.concat_tables(stability), folder / "stability")
    write_table(tables.image_counts(totals, design), folder / "images")
    write_parquet(tables.breakdown(totals, design, channels), folder / "groups")
    for label, table, growth in zip(labels, statistics, stability, strict=True):
        name, count = design.labels[label], int(totals.images[label, 0, 0])
        values = np.nan_to_num(omega(totals, design, label)[0])
        band = None if table["low"].null_count else (table["low"].to_numpy(), table["high"].to_numpy())
        curve = figures.omega_curve(np.nan_to_num(table["omega"].to_numpy()), k, count, band)
        save_figure(curve, folder / f"omega_{name}")
        save_figure(figures.top_by_site(channels, values, k, count), folder / f"top_by_site_{name}")
        save_figure(figures.omega_by_kind(channels, values, k, count), folder / f"omega_by_kind_{name}")
        sizes, overlap = growth["images"].to_numpy(), growth["overlap"].to_numpy()
        save_figure(figures.stability(sizes, overlap, k, len(channels)), folder / f"stability_{name}")


def rank(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    composite: str = "beta0",
    confidence: float = 0.9,
    k: int | None = None,
    label: Literal["real", "fake"] | None = None,
    target: Literal["top", "label"] | int | None = None,
    bootstrap: int = 200,
    seed: int = 0,
    per_image: bool = False,
    precision: str = "float32",
    resize: Resize | None = 224,
    crop: int | None = 224,
    batch_size: int | None = None,
    strict: bool = False,
    labels: str | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Rank the channels of a detector by how much relevance they receive (FF-RS, SPEC 4), over any number of images.

    omega of a channel is the mean over images of the share of its site's relevance that is positive and its own. If
    `out` holds an unfinished run of the very same request, this goes on with it; a finished one is returned.

    Args:
        model: a model with a card, or the folder of a checkpoint.
        data: labeled images: folders, `<generator>/{0_real,1_fake}/...`, lists, packed records, TFDS (docs/data.md).
        out: the run directory.
        composite: name of LRP rules that are linear in the relevance.
        confidence: fake images with p >= this and real ones with p <= 1 - this are kept; 0 keeps all. With a target,
            images whose explained output has a softmax probability >= this.
        k: length of the top list; None is the paper's.
        label: of images whose folders do not say it.
        target: of a network with several outputs: `top` explains the largest output of each image, `label` that of the
            class that the data say (`tffjax.studies.classes.classes_of`), an index that output. Images need not be real
            or fake, and there is one ranking, `ranking_top`, `ranking_label` or `ranking_output_INDEX`.
        bootstrap: number of bootstrap replicates; 0 for none.
        seed: of the bootstrap.
        per_image: also write every image's statistic (about 100 KB an image).
        precision: of convolutions and dots, see `tffjax.kernels.precision`.
        resize: the shorter side becomes so many pixels; None leaves it.
        crop: a square of this size is cut from the center; None leaves the image.
        batch_size: images a pass; None is what suits the device.
        strict: an unreadable image ends the run, instead of being skipped.
        labels: names of the folders of the labels, `real=NAME,fake=NAME`; None is `real=0_real,fake=1_fake`.
        overwrite: start anew, whatever `out` holds of a run.
        shard: (index from 0, count): do this part only; `tffjax merge` brings the parts together.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        The run: `table("statistics")` (a channel a row, best first), `table("ranking_fake")`, figures, summary.

    Raises:
        InputError: as `tffjax.load` and `tffjax.pipeline.run.run`; an option does not fit.
    """
    loaded, weights = model_of(model)
    study = Rank(loaded, composite, confidence, k, label, bootstrap, seed, per_image, precision, target=target)
    reading = Reading(resize=resize, crop=crop, batch_size=batch_size, strict=strict, labels=labels)
    return call(study, weights, data, out, reading, overwrite, shard, reporter)
