"""LRP-max over any number of images: what a channel looks at."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tffjax.data import LABELS, Batch
from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.nn import Model
from tffjax.pipeline.images import Images
from tffjax.pipeline.parts import Rows, map_parts
from tffjax.pipeline.programs import announcing, prepared
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.run_result import RunResult
from tffjax.results.words import number_of
from tffjax.studies.call import PathLike, arguments_of, call, model_of
from tffjax.studies.lrpmax.batch import Explanation, search
from tffjax.studies.lrpmax.search import TopK
from tffjax.studies.lrpmax.tables import SCHEMA, write_results
from tffjax.studies.rankings import Channel, RankingLike, argument_of
from tffjax.studies.selection import ChannelStudy

ROWS_PER_PART = 256


@dataclasses.dataclass(frozen=True)
class LrpMax(ChannelStudy):
    """The study of `tffjax.run_lrp_max` and of `tffjax lrpmax`; see there for the options."""

    k: int | None = None
    top: int = 20
    by: Literal["activation", "relevance"] = "activation"
    label: Literal["real", "fake", "any"] = "fake"
    composite: str = "beta0"
    name: str = dataclasses.field(default="lrpmax", init=False)

    def identity(self) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        return {
            "arguments": arguments_of(self),
            "weights": dataclasses.asdict(self.model.card),
            "channels": [channel.key for channel in self._channels()],
        }

    def plan(self, images: Images) -> str:
        """As `tffjax.pipeline.study.Study`."""
        channels, generators = self._channels(), self._generators(images)
        if self.by == "relevance" and self.model.card.num_outputs != 1:
            raise InputError("--by relevance explains a detector's decision; this network has several outputs")
        wanted = [generator for generator in generators if generator is not None]
        if not wanted:
            raise InputError(f"none of the {len(images.files)} images is {self.label}; choose others with --label")
        return (f"explain {number_of(len(channels), 'channel')} on their top {self.top} of "
                f"{number_of(len(wanted), 'image')} for {number_of(len(set(wanted)), 'generator')}"
                f"{self.said(self.k)}")  # fmt: skip

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        """As `tffjax.pipeline.study.Study`."""
        if not ended:
            return self._search(images)
        return self._explanation(images, ended[0]) if len(ended) == 1 else None

    def finish(self, images: Images, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        found = map_parts(ended[1].sums.folder, SCHEMA)
        write_results(found, [channel.key for channel in self._channels()], self.by, folder)
        return {"explained": len(found)}

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """As `tffjax.pipeline.study.Study`."""
        if word := self.first(self.k)[1]:
            reporter.warn(word)
        explained, skipped = results["explained"], results["skipped"]
        reporter.say(f"{number_of(explained, 'neuron')} explained, {number_of(skipped, 'image')} skipped; "
                     f"results in {folder}")  # fmt: skip

    def _search(self, images: Images) -> Pass:
        channels, generators = self._channels(), self._generators(images)

        def start(reporter: Reporter) -> Callable[[Batch], Any]:
            model = self._prepared(images)
            return announcing(reporter, lambda batch: search(model, channels, batch, self._signs(images, batch)))

        def sums(folder: Path) -> TopK:
            return TopK([channel.key for channel in channels], self.top, generators)

        wanted = {index for index, generator in enumerate(generators) if generator is not None}
        return Pass("looking for the strongest neurons", sums, start, only=wanted)

    def _explanation(self, images: Images, searched: Ended) -> Pass:
        explanation = Explanation(searched.sums)
        if not explanation.tasks:
            reason = next(iter(searched.skipped.values()))
            raise InputError(f"none of the {self.label} images could be read: {reason}")

        def start(reporter: Reporter) -> Callable[[Batch], Any]:
            return announcing(reporter, functools.partial(explanation.maps, self._prepared(images)))

        rows = functools.partial(explanation.rows, names=images.names)
        sums = functools.partial(Rows, schema=SCHEMA, make=rows, rows_per_part=ROWS_PER_PART)
        return Pass("explaining them", sums, start, only=explanation.tasks.keys())

    def _prepared(self, images: Images) -> Any:
        return prepared(self.model, images.shapes, images.batch_size, self.composite)

    def _channels(self) -> tuple[Channel, ...]:
        return self.first(self.k)[0]

    def _generators(self, images: Images) -> list[str | None]:
        """The generator of each image, None for those whose label is not asked for."""
        counts = [
            self.label == "any" or file.label is None or LABELS[file.label] == self.label for file in images.files
        ]
        return [file.generator if counted else None for file, counted in zip(images.files, counts, strict=True)]

    def _signs(self, images: Images, batch: Batch) -> np.ndarray | None:
        """By relevance: 1 where the output speaks for the label of the image (fake, where it has none), else -1."""
        if self.by != "relevance":
            return None
        fake = np.array([images.files[index].label != 0 for index in batch.indices])
        return np.where(fake == (self.model.card.high_means == "fake"), 1, -1).astype(np.int32)


def run_lrp_max(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    ranking: RankingLike | None = None,
    *,
    k: int | None = None,
    keys: Sequence[str] | None = None,
    where: str | None = None,
    color: PathLike | None = None,
    top: int = 20,
    by: Literal["activation", "relevance"] = "activation",
    label: Literal["real", "fake", "any"] = "fake",
    composite: str = "beta0",
    resize: Resize | None = None,
    crop: int | None = None,
    batch_size: int | None = None,
    strict: bool = False,
    labels: str | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Find the strongest neuron of each channel, and explain it alone on the images where it is strongest (SPEC 5).

    A first pass over all images finds each channel's top images for every generator; a second one explains those
    neurons, on crops where their receptive field is small.

    Args:
        model: a model with a card, or the folder of a checkpoint.
        data: folders of images, `<generator>/{0_real,1_fake}/...`, or images.
        out: the run directory; an unfinished run of the same request there is gone on with.
        ranking: whose first channels are shown: its file, a `Ranking`, or channel keys, best first.
        k: how many channels; None is the paper's number, or all that `keys` and `where` select.
        keys, where, color: which channels, as of `tffjax.studies.selection.choose`.
        top: images of each channel and generator.
        by: what makes an image a top one: the channel's largest activation, or its share of relevance in the decision.
        label: which images; those without a label always count.
        composite: name of LRP rules.
        resize, crop, batch_size, strict, labels, overwrite, shard, reporter: as of `tffjax.rank`.

    Returns:
        The run: `table("index")` (channel, image, value, position, patch box), `table("maps")`, collages, patches/.

    Raises:
        InputError: as `tffjax.load` and `tffjax.pipeline.run.run`; an option does not fit.
    """
    loaded, weights = model_of(model)
    selected = {"keys": keys, "where": where, "color": argument_of(color)}
    study = LrpMax(loaded, ranking, k, top, by, label, composite, **selected)
    reading = Reading(resize=resize, crop=crop, batch_size=batch_size, strict=strict, labels=labels)
    return call(study, weights, data, out, reading, overwrite, shard, reporter)
