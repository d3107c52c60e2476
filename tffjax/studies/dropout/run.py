"""Feature-map dropout over any number of images: does detection collapse without the top channels?"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tffjax.data import ImageFile
from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.nn import Model, network_of
from tffjax.nn.sites import sites_of
from tffjax.pipeline.images import Images
from tffjax.pipeline.programs import check_sizes
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.figures import save_figure
from tffjax.results.published import check_detector
from tffjax.results.run_result import RunResult
from tffjax.results.tables import has_table, read_table, write_table
from tffjax.results.wide import lines_of, write_wide
from tffjax.results.words import number_of
from tffjax.studies.call import PathLike, call, model_of
from tffjax.studies.classes import OWN_TOP, class_formats, class_table, correct_classes
from tffjax.studies.dropout.figures import dropout_curves, effect_map
from tffjax.studies.dropout.passes import Score, Scores, next_pass, replayed
from tffjax.studies.dropout.search import Step, greedy
from tffjax.studies.dropout.settings import (
    BASELINE,
    Setting,
    check_settings,
    counted,
    family,
    low_k,
    paper_name,
    paper_order,
    random_k,
    singles,
    top_k,
)
from tffjax.studies.dropout.tables import (
    dropout_table,
    effect_correlation,
    effect_table,
    score_table,
    with_published,
)
from tffjax.studies.predictions import class_probability, prediction_table
from tffjax.studies.rankings import RankingLike, argument_of
from tffjax.studies.selection import Amounts, ChannelStudy, amounts

SHOWN = 10


class _Found(NamedTuple):
    """Scores under all settings, and the channels chosen greedily."""

    scores: Scores
    steps: tuple[Step, ...]


@dataclasses.dataclass(frozen=True)
class Dropout(ChannelStudy):
    """The study of `tffjax.run_dropout` and of `tffjax dropout`; see there for the options."""

    ks: Sequence[int] | None = None
    draws: int = 5
    low: bool = False
    each: int | None = None
    greedy: int | None = None
    seed: int = 0
    chunk: int | None = None
    published: str | None = None
    classes: str | None = None
    name: str = dataclasses.field(default="dropout", init=False)

    def plan(self, images: Images) -> str:
        """As `tffjax.pipeline.study.Study`."""
        if self.greedy and not self.each:
            raise InputError("--greedy chooses among the channels of --each N; give it too")
        self._classes(images)
        if self.model.card.num_outputs != 1 and self.each:
            raise InputError(
                "--each looks at the logit of fake images, and this network has "
                f"{self.model.card.num_outputs} outputs; its settings are told apart by the probability of the class"
            )
        check_detector(self.published)
        check_sizes(self.model, images)
        settings, alone = self._settings()
        word = self._amounts().word
        if alone and not any(file.label == 1 for file in images.files):
            raise InputError("--each looks at fake images, in folders 1_fake, and there are none")
        under = number_of(len(settings) + len(alone), "setting")
        return f"score {number_of(images.total, 'image')} under {under}{f' ({word})' if word else ''}"

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        """As `tffjax.pipeline.study.Study`."""
        return next_pass(self.model, images, ended, self.chunk, lambda score: self._search(images, score))

    def finish(self, images: Images, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        found: _Found = replayed(ended, lambda score: self._search(images, score))
        settings, alone = self._settings()
        scores, card, count = found.scores, self.model.card, len(settings)
        files = [images.files[index] for index in scores.files]
        if card.num_outputs != 1:
            self._write_classes(images, scores, settings, folder)
            return {"images": len(files)}
        by_setting = score_table(card, files, settings, scores.logits[:, :count])
        names = pa.array([images.names[index] for index in scores.files], pa.string())
        by_setting = by_setting.set_column(0, "path", names)
        write_table(by_setting, folder / "scores")
        if any(file.label is not None for file in files):
            table, draws = dropout_table(by_setting), dropout_table(by_setting, average=False)
            table = with_published(table, self.published or card.published)
            write_table(table, folder / "dropout")
            write_table(draws, folder / "draws")
            _write_wide(table, folder / "table-e1")
            if any(counted(setting.name) for setting in settings):
                title = f"{card.source or card.architecture}: channels switched off"
                save_figure(dropout_curves(table, draws, title), folder / "dropout")
        if alone:
            self._write_effects(files, scores, alone, count, folder)
        if found.steps:
            rows = {"channels": range(1, len(found.steps) + 1), "key": [step.channel.key for step in found.steps]}
            write_table(pa.table({**rows, "effect": [step.effect for step in found.steps]}), folder / "greedy")
        return {"images": len(files)}

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """As `tffjax.pipeline.study.Study`."""
        settings, alone = self._settings()
        if word := self._amounts().word:
            reporter.warn(word)
        if has_table(folder / "classes"):
            table, title = read_table(folder / "classes"), "the correct class" if self.classes else OWN_TOP
            reporter.table(table, f"{title} ({self.model.card.network})", class_formats(table))
        if has_table(folder / "dropout"):
            table = read_table(folder / "dropout")
            ours = dict.fromkeys(["ap", "real_calibrated", "fake_calibrated", "real", "fake"], ".1%")
            published = [
                name for name in table.column_names
                if name.startswith("published") and table[name].null_count < len(table)
            ]  # fmt: skip
            columns = {"setting": "", "generator": "", **ours, **dict.fromkeys(published, ".1%")}
            reporter.table(table, "detection with channels switched off", columns)
        if alone:
            effects = read_table(folder / "effects")
            fakes = sum(images.files[index].label == 1 for index in self._scored(folder, images))
            formats = {"key": "", "omega": ".4f", "effect": ".4f"}
            reporter.table(
                effects.slice(0, SHOWN), f"largest effects on the logit ({number_of(fakes, 'fake image')})", formats
            )
            reporter.say(f"Spearman's correlation of effect and omega: {effect_correlation(effects):.2f}")
        scored, under = number_of(results["images"], "image"), number_of(len(settings) + len(alone), "setting")
        reporter.say(f"{scored} scored under {under}, "
                     f"{results['skipped']} skipped; results in {folder}")  # fmt: skip

    def _scored(self, folder: Path, images: Images) -> list[int]:
        """The images that could be read."""
        skipped = set(read_table(folder / "skipped")["path"].to_pylist())
        return [index for index, name in enumerate(images.names) if name not in skipped]

    def _settings(self) -> tuple[list[Setting], list[Setting]]:
        """The settings, and those of channels alone."""
        chosen = self.chosen
        ranking, settings, ks = chosen.ranking, [BASELINE], self._amounts().ks
        others = len(ranking.channels) - chosen.count
        if self.low and chosen.selected and max(ks) > others:
            raise InputError(f"--low drops the last {max(ks)} channels beside the chosen ones, and the ranking has "
                             f"{number_of(others, 'other channel')}")  # fmt: skip
        for k in ks:
            settings.append(top_k(ranking, k))
            settings += random_k(ranking, k, self.draws, self.seed)
            if self.low:
                settings.append(low_k(ranking, k))
        alone = singles(chosen.channels[: self.each or 0])
        check_settings([*settings, *alone])
        return settings, list(alone)

    def _amounts(self) -> Amounts:
        """How many of the chosen channels are dropped: those asked for, else all where some were selected."""
        chosen = self.chosen
        ks = self.ks or ([chosen.count] if chosen.selected else network_of(self.model.card).paper_ks)
        if not ks:
            raise InputError(f"the paper has no numbers of channels for {self.model.card.architecture}; give --k")
        return amounts(chosen, ks)

    def _search(self, images: Images, score: Score) -> _Found:
        """Channels that together lower the mean logit of the fake images most, one after the other."""
        settings, alone = self._settings()
        scores = score([*settings, *alone], f"{len(settings) + len(alone)} settings")
        fake = np.array([images.files[index].label == 1 for index in scores.files])
        if self.greedy and not fake.any():
            raise InputError("--greedy looks at fake images, and there are none")
        sign = 1 if self.model.card.high_means == "fake" else -1

        def effect(sets: Any) -> np.ndarray:
            chosen = [Setting(f"greedy/{i}", channels) for i, channels in enumerate(sets)]
            logits = score(chosen, f"greedy step {len(sets[0])} of {self.greedy}").logits[fake, :, 0]
            return sign * (scores.logits[fake, 0].astype(np.float64) - logits).mean(axis=0)

        return _Found(scores, greedy(effect, [setting.channels[0] for setting in alone], self.greedy or 0))

    def _classes(self, images: Images) -> np.ndarray | None:
        return correct_classes(self.model.card, self.classes, images.files, images.names)

    def _write_classes(self, images: Images, scores: Scores, settings: Sequence[Setting], folder: Path) -> None:
        """What becomes of the correct class, and its probability under every setting, an image a row."""
        card, classes, logits = self.model.card, self._classes(images), np.moveaxis(scores.logits, 1, 0)
        classes = None if classes is None else classes[scores.files]
        names = [family(setting.name) for setting in settings]
        write_table(class_table(card, "setting", names, logits, classes), folder / "classes")
        files = [images.files[index] for index in scores.files]
        who = prediction_table(card, files, logits[0]).set_column(0, "path", [[images.names[i] for i in scores.files]])
        probability = class_probability(logits, logits[0].argmax(axis=1) if classes is None else classes)
        for setting, column in zip(settings, probability, strict=True):
            who = who.append_column(setting.name, [column])
        write_table(who.drop_columns(["logit", "probability"]), folder / "scores")

    def _write_effects(
        self, files: Sequence[ImageFile], scores: Scores, alone: Sequence[Setting], count: int, folder: Path
    ) -> None:
        labels = np.array([-1 if file.label is None else file.label for file in files])
        ranking, card = self.chosen.ranking, self.model.card
        effects = effect_table(card, alone, scores.logits[:, count:, 0], scores.logits[:, 0, 0], labels, ranking)
        write_table(effects, folder / "effects")
        sites = tuple(site.name for site in sites_of(self.model))
        fakes = int((labels == 1).sum())
        save_figure(
            effect_map(effects, sites, fakes, f"{number_of(len(alone), 'channel')}, each alone"), folder / "effects"
        )


def _write_wide(table: pa.Table, path: Path) -> None:
    """Table E.1 as the paper has it."""
    order = sorted(range(len(table)), key=lambda row: paper_order(table["setting"][row].as_py()))
    write_wide(lines_of(table.take(order), "setting", label=paper_name), "setting", path)


def run_dropout(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    ranking: RankingLike | None = None,
    *,
    k: int | Sequence[int] | None = None,
    keys: Sequence[str] | None = None,
    where: str | None = None,
    color: PathLike | None = None,
    draws: int = 5,
    low: bool = False,
    each: int | None = None,
    greedy: int | None = None,
    seed: int = 0,
    published: str | None = None,
    classes: PathLike | None = None,
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
    """Score images with the top channels of a ranking dropped before batch norm (SPEC 6), beside random and last ones.

    Args:
        model: a model with a card, or the folder of a checkpoint.
        data: folders of labeled images, `<generator>/{0_real,1_fake}/...`, or images.
        out: the run directory; an unfinished run of the same request there is gone on with.
        ranking: such as `rank` writes: its file, a `Ranking`, or channel keys, best first.
        k: how many channels, one number or several; None are the paper's, or all that `keys` and `where` select.
        keys, where, color: which channels, as of `tffjax.studies.selection.choose`; random ones are of the others.
        draws: sets of k random other channels, whose probabilities are averaged.
        low: also the last k channels.
        each: also each of the first so many channels alone, on fake images.
        greedy: also choose so many of those greedily.
        seed: of the random channels.
        published: name of the detector in the paper whose numbers are to stand beside ours; None is what the card says.
        classes: of a network with several outputs, the correct one of each image, as of `tffjax.run_color`.
        pad_to: as of `tffjax.predict`.
        resize, crop, batch_size, strict, labels, overwrite, shard, reporter: as of `tffjax.rank`.

    Returns:
        The run: `table("dropout")` (AP, accuracies at 0.5 and at the baseline's calibrated threshold),
        `table("draws")`, `table("table-e1")` (as the paper has it, also as LaTeX and HTML),
        `table("scores")`, and `table("effects")` and `table("greedy")` where asked for. For a network with several
        outputs `table("classes")` (`tffjax.studies.classes.class_table`) and `table("scores")`, the probability of the
        correct class of each image.

    Raises:
        InputError: as `tffjax.load` and `tffjax.pipeline.run.run`; an option does not fit.
    """
    loaded, weights = model_of(model)
    ks = [k] if isinstance(k, int) else k
    selected = {"keys": keys, "where": where, "color": argument_of(color)}
    study = Dropout(
        loaded, ranking, ks, draws, low, each, greedy, seed, None, published, argument_of(classes), **selected
    )
    reading = Reading(resize=resize, crop=crop, pad_to=pad_to, batch_size=batch_size, strict=strict, labels=labels)
    return call(study, weights, data, out, reading, overwrite, shard, reporter)
