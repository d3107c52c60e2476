"""The study of a generator's channels: which make the traces that a detector sees (supplement M)?"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from tffjax.compile.passes import compiler_options
from tffjax.compile.placement import put, put_model
from tffjax.data import Batch
from tffjax.errors import InputError
from tffjax.lrp.generated import INSIDE
from tffjax.lrp.prepare import prepare
from tffjax.nn import Model
from tffjax.nn.generator import Generator, draw_latents, load_generator, pixels_of
from tffjax.pipeline.images import Images
from tffjax.pipeline.parts import Rows
from tffjax.pipeline.programs import FIRST_TIME
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading, Request
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.figures import save_figure
from tffjax.results.run_result import RunResult
from tffjax.results.tables import read_table, write_table
from tffjax.results.words import number_of
from tffjax.studies.call import PathLike, arguments_of, call, model_of
from tffjax.studies.dropout.settings import Setting
from tffjax.studies.ffrs import figures as ranking_figures
from tffjax.studies.ffrs import tables as ranking_tables
from tffjax.studies.ffrs.statistic import Design
from tffjax.studies.generator import figures, tables
from tffjax.studies.generator.passes import Masked, explain, masked, masked_images
from tffjax.studies.generator.samples import Samples, samples_of
from tffjax.studies.generator.settings import count_of, masks_of, parse_percent, settings_of
from tffjax.studies.generator.sums import RankingSums
from tffjax.studies.predictions import fake_probability
from tffjax.studies.rankings import Channel, Ranking, write_ranking

LEVELS = 8
SHOWN = 8


@dataclasses.dataclass(frozen=True)
class GeneratorStudy:
    """The study of `tffjax.run_generator` and of `tffjax generator`; see there for the options."""

    model: Model
    n: int = 500
    top: str = "5%"
    draws: int = 20
    threshold: float = 0.5
    seed: int = 0
    composite: str = "beta0"
    bootstrap: int = 200
    name: str = dataclasses.field(default="generator", init=False)

    def images(self, request: Request) -> Samples:
        """The images of the generator that the request names in the place of data."""
        if len(request.data) != 1:
            raise InputError("give one generator, a folder written by tffjax convert")
        return samples_of(load_generator(request.data[0]), self.n, self.seed, request.reading.batch_size)

    def identity(self) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        return {"arguments": arguments_of(self), "weights": dataclasses.asdict(self.model.card)}

    def plan(self, images: Samples) -> str:
        """As `tffjax.pipeline.study.Study`."""
        if self.model.card.num_outputs != 1:
            raise InputError("the study needs a detector with one output")
        total = sum(site.channels for site in images.generator.sites)
        k, size = count_of(parse_percent(self.top), total), images.generator.card.size
        return (
            f"rank {number_of(total, 'channel')} of {images.generator.card.name} over {number_of(self.n, 'image')} of "
            f"{size} pixels, {images.batch_size} a batch, and mask the top {k} and {self.draws} times random ones"
        )

    def next_pass(self, images: Samples, ended: Sequence[Ended]) -> Pass | None:
        """As `tffjax.pipeline.study.Study`."""
        if len(ended) == 2:
            return None
        return self._masking(images, ended[0].sums) if ended else self._ranking(images)

    def finish(self, images: Samples, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        sums, channels = ended[0].sums, _channels(images.generator)
        ranking, settings = self._ranked(images, sums), self._settings(images, sums)
        k = count_of(parse_percent(self.top), len(channels))
        _write_ranking(sums, channels, ranking, k, folder)
        first, second = sums.rows.table(), ended[1].sums.table()
        measures = {name: _matrix(second[name]) for name in tables.MEASURES[1:]} | {"logit": _matrix(second["logits"])}
        probability = fake_probability(measures["logit"].reshape(-1), self.model.card)
        measures["probability"] = probability.reshape(measures["logit"].shape)
        layers = tables.layer_table(channels, ranking.channels[:k], _matrix(first["net"]))
        masking = tables.masking_table(settings, len(channels), measures, self.threshold)
        write_table(masking, folder / "masking")
        write_table(layers, folder / "layers")
        write_table(_per_image(images, first, settings, measures), folder / "per_image")
        groups = _groups(settings, k)
        before = measures["probability"][:, 0]
        after = {kind: measures["probability"][:, members].reshape(-1) for kind, members in groups.items()}
        percent = 100 * k / len(channels)
        save_figure(figures.boxes(before, after, k, percent, images.generator.card.name), folder / "figure-m1")
        save_figure(figures.curve(masking), folder / "masking")
        save_figure(figures.layers(layers, k), folder / "layers")
        save_figure(self._sheet(images, settings, measures["probability"], groups), folder / "images")
        scores = {name: fake_probability(first[f"logit{name}"].to_numpy(), self.model.card)
                  for name in ("_unclamped", "", "_saved")}  # fmt: skip
        return {
            "images": len(first),
            "channels": len(channels),
            "k": k,
            "generator": images.generator.card.name,
            "clamped": float(first["clamped"].to_numpy().mean()),
            "median_unclamped": float(np.median(scores["_unclamped"])),
            "median_clamped": float(np.median(scores[""])),
            "median_saved": float(np.median(scores["_saved"])),
            "threshold": self.threshold,
            "detected": float((before >= self.threshold).mean()),
        }

    def say(self, images: Samples, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """As `tffjax.pipeline.study.Study`."""
        masking = read_table(folder / "masking")
        formats = {"setting": "", "draws": "d", "median": ".1%", "drop": ".1%", "detected": ".1%", "psnr": ".1f"}
        reporter.table(masking, "masked channels of the generator", formats | {"color": ".2f", "detail": ".2f"})
        layers = read_table(folder / "layers")
        title = f"where the top {results['k']} channels are"
        reporter.table(layers, title, {"site": "", "channels": "d", "relevance": ".3f", "top": "d", "share": ".1%"})
        reporter.say(
            f"{results['detected']:.1%} of {results['images']} images are found (p >= {results['threshold']:g}); "
            f"median probability {results['median_saved']:.1%} of the saved image, {results['median_clamped']:.1%} of "
            f"the clamped and {results['median_unclamped']:.1%} of the unclamped one ({results['clamped']:.1%} of the "
            f"values are clamped); results in {folder}"
        )

    def _ranking(self, images: Samples) -> Pass:
        card = self.model.card
        design = Design(tuple(site.channels for site in images.generator.sites), (), LEVELS, self.bootstrap, self.seed)
        sign = 1 if card.high_means == "fake" else -1

        def start(reporter: Reporter) -> Callable[[Batch], Any]:
            return self._compiled(images, reporter, "LRP into the generator", functools.partial(explain, sign=sign))

        return Pass("ranking", lambda folder: RankingSums(design, images, card, folder), start)

    def _masking(self, images: Samples, sums: RankingSums) -> Pass:
        settings = self._settings(images, sums)
        masks = masks_of(settings, _channels(images.generator))
        schema = pa.schema(
            [("index", pa.int64()), *((name, pa.list_(pa.float32(), len(settings))) for name in Masked._fields)]
        )

        def rows(batch: Batch, found: Masked) -> pa.Table:
            present = np.flatnonzero(batch.weights > 0)
            columns = {
                name: pa.FixedSizeListArray.from_arrays(values[present].reshape(-1), len(settings))
                for name, values in found._asdict().items()
            }
            return pa.table({"index": batch.indices[present], **columns}, schema=schema)

        def start(reporter: Reporter) -> Callable[[Batch], Any]:
            return self._compiled(images, reporter, "masking", masked, jax.numpy.asarray(masks))

        return Pass("masking", lambda folder: Rows(folder, schema, rows), start)

    def _compiled(
        self, images: Samples, reporter: Reporter, what: str, function: Callable[..., Any], *more: Any
    ) -> Callable[[Batch], Any]:
        size = images.generator.card.size
        detector = put_model(prepare(self.model, self.composite, size=(size, size)), images.batch_size)
        inside = prepare(images.generator.model, INSIDE, size=images.generator.latent_shape)
        generator = put_model(dataclasses.replace(images.generator, model=inside), images.batch_size)
        latents = put(np.zeros((images.batch_size, images.generator.card.latent), np.float32))
        with reporter.busy(f"compiling {what} ({FIRST_TIME})"):
            jitted = jax.jit(function, compiler_options=compiler_options(detector))
            program = jitted.lower(detector, generator, latents, *more).compile()
        return lambda batch: program(detector, generator, put(images.latents(batch)), *more)

    def _ranked(self, images: Samples, sums: RankingSums) -> Ranking:
        return ranking_tables.ranking(sums.ffrs.totals, sums.ffrs.design, _channels(images.generator), 1)

    def _settings(self, images: Samples, sums: RankingSums) -> tuple[Setting, ...]:
        return settings_of(self._ranked(images, sums), parse_percent(self.top), self.draws, self.seed)

    def _sheet(
        self, images: Samples, settings: Sequence[Setting], probability: np.ndarray, groups: dict[str, list[int]]
    ) -> Any:
        """The first images, with nothing, the top and the first random set masked."""
        count = min(SHOWN, len(images.files))
        rows = {"nothing": 0, "top": groups["top"][0], "random": groups["random"][0]}
        masks = masks_of(settings, _channels(images.generator))
        latents = draw_latents(images.seed, range(count), images.generator.card.latent)
        made = masked_images(images.generator, latents, masks[list(rows.values())])
        pixels = [pixels_of(some) for some in np.asarray(made)]
        return figures.sheet(pixels, [f"{name}\nmasked" for name in rows], probability[:count, list(rows.values())].T)


def _channels(generator: Generator) -> tuple[Channel, ...]:
    return tuple(Channel(site.name, i, site.channels) for site in generator.sites for i in range(site.channels))


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)


def _groups(settings: Sequence[Setting], k: int) -> dict[str, list[int]]:
    """Which sets are the top and the random ones of k channels."""
    names = [setting.name.partition("/")[0] for setting in settings]
    return {kind: [i for i, name in enumerate(names) if name == f"{kind}-{k}"] for kind in ("top", "random")}


def _per_image(
    images: Images, first: pa.Table, settings: Sequence[Setting], measures: dict[str, np.ndarray]
) -> pa.Table:
    """index, the numbers of the first pass, and the probability under every setting, a column each."""
    columns = {name: first[name] for name in first.column_names if name != "net"}
    columns |= {setting.name: measures["probability"][:, i] for i, setting in enumerate(settings)}
    return pa.table(columns)


def _write_ranking(sums: RankingSums, channels: tuple[Channel, ...], ranking: Ranking, k: int, folder: Path) -> None:
    totals, design = sums.ffrs.totals, sums.ffrs.design
    write_ranking(folder / "ranking_generator.csv", ranking)
    statistics = ranking_tables.statistics(totals, design, channels, 1, k)
    write_table(statistics, folder / "statistics")
    growth = ranking_tables.stability(totals, design, 1, k)
    write_table(growth, folder / "stability")
    band = None if statistics["low"].null_count else (statistics["low"].to_numpy(), statistics["high"].to_numpy())
    omega = np.nan_to_num(statistics["omega"].to_numpy())
    count = int(totals.images[1, 0, 0])
    save_figure(ranking_figures.omega_curve(omega, k, count, band), folder / "omega")


def run_generator(
    model: Model | PathLike,
    generator: PathLike,
    out: PathLike,
    *,
    n: int = 500,
    top: str = "5%",
    draws: int = 20,
    threshold: float = 0.5,
    seed: int = 0,
    composite: str = "beta0",
    bootstrap: int = 200,
    batch_size: int | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Which channels of a generator make the traces that a detector sees (supplement M)?

    LRP goes from the detector's logit through the image into the generator; its channels are ranked by FF-RS over n
    images. The top ones are masked, and random ones; the detector scores the saved images again. How far the images
    move tells whether the traces went, or the picture.

    Args:
        model: a detector with one output and a card, or the folder of its checkpoint.
        generator: the folder of a generator's checkpoint.
        out: the run directory; an unfinished run of the same request there is gone on with.
        n: number of images; their latents depend on `seed` only.
        top: percentage of the generator's channels that is masked; 1, 2, 5 and 10 % are, too.
        draws: of random channels for `top`; the other percentages have a quarter of them.
        threshold: an image is found if its probability of being fake is at least this; for a detector that never saw
            such images, one that real images of their kind stay below (`tffjax predict` says it).
        seed: of latents, draws and the bootstrap.
        composite: LRP rules of the detector; those of the generator are `tffjax.lrp.generated.INSIDE`.
        bootstrap, batch_size, overwrite, shard, reporter: as of `tffjax.rank`.

    Returns:
        The run: `table("masking")`, `table("layers")`, `table("statistics")`, `table("ranking_generator")`, figures.

    Raises:
        InputError: as `tffjax.load`, `tffjax.nn.generator.load_generator` and `tffjax.pipeline.run.run`.
    """
    loaded, weights = model_of(model)
    study = GeneratorStudy(loaded, n, top, draws, threshold, seed, composite, bootstrap)
    return call(study, weights, generator, out, Reading(batch_size=batch_size), overwrite, shard, reporter)
