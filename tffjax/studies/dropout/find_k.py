"""How many channels must be dropped until detection breaks, over any number of images."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.nn import Model
from tffjax.pipeline.images import Images
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading
from tffjax.pipeline.study import Ended, Pass
from tffjax.results.figures import save_figure
from tffjax.results.run_result import RunResult
from tffjax.results.tables import read_table, write_table
from tffjax.results.words import number_of
from tffjax.studies.call import PathLike, call, model_of
from tffjax.studies.dropout import search
from tffjax.studies.dropout.figures import dropout_curves
from tffjax.studies.dropout.passes import Score, next_pass, replayed
from tffjax.studies.dropout.settings import BASELINE, random_k, top_k
from tffjax.studies.dropout.tables import dropout_table, score_table
from tffjax.studies.rankings import RankingLike, argument_of
from tffjax.studies.selection import ChannelStudy


@dataclasses.dataclass(frozen=True)
class FindK(ChannelStudy):
    """The study of `tffjax.find_k` and of `tffjax find-k`; see there for the options."""

    share: float = 0.5
    metric: Literal["either", "ap", "fake"] = "either"
    max_k: int | None = None
    draws: int = 3
    seed: int = 0
    chunk: int | None = None
    name: str = dataclasses.field(default="find-k", init=False)

    def plan(self, images: Images) -> str:
        """As `tffjax.pipeline.study.Study`."""
        if self.model.card.num_outputs != 1:
            raise InputError(f"find-k scores detectors with one output; this network has {self.model.card.num_outputs}")
        last = self._last()
        if not {0, 1} <= {file.label for file in images.files}:
            raise InputError("find-k needs real and fake images, in folders 0_real and 1_fake")
        return f"search k up to {last} on {number_of(images.total, 'image')}"

    def next_pass(self, images: Images, ended: Sequence[Ended]) -> Pass | None:
        """As `tffjax.pipeline.study.Study`."""
        return next_pass(self.model, images, ended, self.chunk, lambda score: self._search(images, score))

    def finish(self, images: Images, ended: Sequence[Ended], folder: Path) -> dict[str, Any]:
        """As `tffjax.pipeline.study.Study`."""
        found: search.Found = replayed(ended, lambda score: self._search(images, score))
        write_table(found.curve, folder / "find-k")
        title = f"k = {found.k}" if found.k else found.warning
        save_figure(dropout_curves(found.curve, found.curve, title), folder / "find-k")
        return {"k": found.k, "criterion": found.criterion, "warning": found.warning}

    def say(self, images: Images, results: dict[str, Any], folder: Path, reporter: Reporter) -> None:
        """As `tffjax.pipeline.study.Study`."""
        percent = dict.fromkeys(["ap", "real_calibrated", "fake_calibrated"], ".1%")
        table = read_table(folder / "find-k")
        reporter.table(table, "what was evaluated", {"setting": "", "generator": "", **percent})
        k, warning = results["k"], results["warning"]
        if k and warning:
            reporter.warn(warning)
        meaning = "the smallest for which" if k else "none for which"
        reporter.say(f"{f'k = {k}' if k else warning}: {meaning} {results['criterion']}; results in {folder}")

    def most_passes(self) -> int:
        """How many passes over the images the search takes at most."""
        return search.most_calls(self._last())

    def _last(self) -> int:
        """The largest k to try."""
        chosen = self.chosen
        half = len(chosen.ranking.channels) // 2
        return min(self.max_k or half, half, chosen.count)

    def _search(self, images: Images, score: Score) -> search.Found:
        ranking = self.chosen.ranking

        def evaluate(ks: Sequence[int]) -> pa.Table:
            settings = [BASELINE]
            for k in ks:
                settings += [top_k(ranking, k), *random_k(ranking, k, self.draws, self.seed)]
            found = score(settings, f"k = {', '.join(map(str, ks))}")
            files = [images.files[index] for index in found.files]
            return dropout_table(score_table(self.model.card, files, settings, found.logits))

        return search.find_k(evaluate, 2 * self._last(), self.share, self.metric)


def find_k(
    model: Model | PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    ranking: RankingLike | None = None,
    *,
    keys: Sequence[str] | None = None,
    where: str | None = None,
    color: PathLike | None = None,
    share: float = 0.5,
    metric: Literal["either", "ap", "fake"] = "either",
    max_k: int | None = None,
    draws: int = 3,
    seed: int = 0,
    resize: Resize | None = None,
    crop: int | None = None,
    batch_size: int | None = None,
    strict: bool = False,
    labels: str | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Find the smallest k such that dropping the top k channels makes detection drop substantially.

    On every generator AP, or the accuracy on fake images at the baseline's calibrated threshold, must fall by `share`
    of its way from the baseline to chance (`tffjax.studies.dropout.search.find_k`).

    Args:
        model: a detector with a card, or the folder of a checkpoint.
        data: folders of labeled images, `<generator>/{0_real,1_fake}/...`.
        out: the run directory; an unfinished run of the same request there is gone on with.
        ranking: such as `rank` writes: its file, a `Ranking`, or channel keys, best first.
        keys, where, color: which channels, as of `tffjax.studies.selection.choose`; random ones are of the others.
        share: of the way to chance, in (0, 1].
        metric: what must fall: AP, the accuracy on fakes, or either of them.
        max_k: the largest k to try; None is half of the ranking, or all channels that `keys` and `where` select.
        draws: sets of k random other channels, to compare with.
        seed: of the random channels.
        resize, crop, batch_size, strict, labels, overwrite, shard, reporter: as of `tffjax.rank`.

    Returns:
        The run: `summary["k"]` (None if no k does), `table("find-k")` with all that was evaluated.

    Raises:
        InputError: as `tffjax.load` and `tffjax.pipeline.run.run`; an option does not fit.
    """
    loaded, weights = model_of(model)
    selected = {"keys": keys, "where": where, "color": argument_of(color)}
    study = FindK(loaded, ranking, share, metric, max_k, draws, seed, **selected)
    reading = Reading(resize=resize, crop=crop, batch_size=batch_size, strict=strict, labels=labels)
    return call(study, weights, data, out, reading, overwrite, shard, reporter)
