"""What the whole study of a detector consists of: its steps, each a study of its own."""

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tffjax.errors import InputError
from tffjax.nn import checkpoint, network_of
from tffjax.pipeline import directory
from tffjax.pipeline.reporter import Reporter
from tffjax.report.write import write_report
from tffjax.studies.color.run import run_color
from tffjax.studies.dropout.find_k import find_k
from tffjax.studies.dropout.run import run_dropout
from tffjax.studies.ffrs.run import rank
from tffjax.studies.generator.run import run_generator
from tffjax.studies.heatmaps.run import heatmaps
from tffjax.studies.lrpmax.run import run_lrp_max
from tffjax.studies.predict import predict

QUESTIONS = {
    "predict": "how well does the detector do?",
    "rank": "which channels carry the relevance of its decisions?",
    "find-k": "how many of the top ones must be switched off until detection breaks?",
    "dropout": "do random channels do the same? do all generators behave alike?",
    "lrpmax": "what do the top channels look at?",
    "color": "do the top channels respond to color?",
    "heatmap": "what do single decisions rest on?",
    "generator": "which channels of a generator make what the detector sees?",
    "report": "all of it on one page",
}
"""The steps, and what each is to find out."""

MULTIPLES = (1, 2, 4)  # of the k that was found: dropout gets a curve


@dataclasses.dataclass(frozen=True)
class Whole:
    """What is studied, and how.

    Attributes:
        detector: a checkpoint.
        images: folders of labeled images.
        ranked_on: images on which channels are ranked and k is found.
        seen: the generator that the detector was trained on, None if that is not known.
        size: resize and crop of all images; None leaves them, but for `rank`, which takes 224 then unless `own_size`.
        own_size: rank leaves the images at their size, too.
        confidence, bootstrap: of `rank`.
        k: how many channels dropout switches off; None is what find-k finds.
        max_k: the largest k that find-k tries; None is half of the channels.
        random: draws of random channels.
        shown: channels and images of each generator that LRP-max shows.
        color_channels: how many channels the color study tests; None is the paper's number, or the k that was found.
        heatmaps: images whose decision is drawn.
        generator: a generator's checkpoint, whose channels are studied; None leaves that step out.
        generated: how many images it makes, and how many times random channels of it are drawn.
        threshold: of the probability from which on they are found.
    """

    detector: Path
    images: tuple[Path, ...]
    ranked_on: tuple[Path, ...]
    seen: str | None = None
    size: tuple[int | None, int | None] = (None, None)
    own_size: bool = False
    confidence: float = 0.9
    bootstrap: int = 200
    k: int | None = None
    max_k: int | None = None
    random: int = 5
    shown: tuple[int, int] = (12, 8)
    color_channels: int | None = None
    heatmaps: tuple[Path, ...] = ()
    generator: Path | None = None
    generated: tuple[int, int] = (500, 20)
    threshold: float = 0.5

    def leaves_out(self, command: str) -> bool:
        """Whether a step has nothing to do."""
        return (command == "find-k" and self.k is not None) or (command == "generator" and self.generator is None)


@dataclasses.dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        command: its name.
        words: what it gets beside --out, as one would type it.
        out: where its results go.
        run: does it.
    """

    command: str
    words: tuple[str, ...]
    out: Path
    run: Callable[[Reporter], Any]

    @property
    def done(self) -> bool:
        """Whether the results are there."""
        return self.out.exists() if self.command in ("heatmap", "report") else directory.is_done(self.out)

    @property
    def line(self) -> str:
        """What to type."""
        return "$ " + shlex.join(["tffjax", self.command, *self.words, "--out", str(self.out)])


def found_k(out: Path) -> int | None:
    """How many channels are switched off: what find-k found or, if no k breaks detection, the paper's number.

    None if find-k is not done.

    Raises:
        InputError: find-k found none, and the network is not in the paper.
    """
    folder = out / "find-k"
    if not directory.is_done(folder):
        return None
    record = directory.read_record(folder)
    architecture = record["identity"]["weights"]["architecture"]
    k = record["results"]["k"] or network_of(architecture).paper_k
    if k is None:
        raise InputError(f"{record['results']['warning']}, and the paper has no k for {architecture}: go on by hand")
    return k


def steps(whole: Whole, out: Path, k: int | None) -> list[Step]:
    """The steps in their order; while find-k is not done, their words have `K` for the k that it will find."""
    k = whole.k or k
    detector, images, ranked_on = str(whole.detector), tuple(map(str, whole.images)), tuple(map(str, whole.ranked_on))
    resize, crop = whole.size
    sized = tuple(word for name, value in (("--resize", resize), ("--crop", crop)) if value
                  for word in (name, str(value)))  # fmt: skip
    size = {"resize": resize, "crop": crop}
    ranking = out / "rank" / "ranking_fake.csv"
    ranked = ("--ranking", str(ranking))
    rank_size = size if whole.own_size or any(whole.size) else {"resize": 224, "crop": 224}
    searched = ("--metric", "fake", "--random", "1", *(("--max-k", str(whole.max_k)) if whole.max_k else ()))
    ks = [n * k for n in MULTIPLES] if k else []
    channels = whole.color_channels or _paper_k(whole.detector) or k
    shown, top = whole.shown
    drawn = whole.heatmaps or whole.images
    generator, (n, draws) = str(whole.generator or "GENERATOR"), whole.generated
    made = [
        Step("predict", (detector, *images, *sized), out / "predict",
             lambda reporter: predict(detector, images, out / "predict", **size, reporter=reporter)),
        Step("rank", (detector, *ranked_on, *(("--own-size",) if whole.own_size else sized), "--confidence",
                      str(whole.confidence), "--bootstrap", str(whole.bootstrap)), out / "rank",
             lambda reporter: rank(detector, ranked_on, out / "rank", confidence=whole.confidence,
                                   bootstrap=whole.bootstrap, **rank_size, reporter=reporter)),
        Step("find-k", (detector, *ranked_on, *ranked, *searched, *sized), out / "find-k",
             lambda reporter: find_k(detector, ranked_on, out / "find-k", ranking, metric="fake", draws=1,
                                     max_k=whole.max_k, **size, reporter=reporter)),
        Step("dropout", (detector, *images, *ranked, "--k", ",".join(map(str, ks)) or "K", "--random",
                         str(whole.random), "--low", *sized), out / "dropout",
             lambda reporter: run_dropout(detector, images, out / "dropout", ranking, k=ks, draws=whole.random,
                                          low=True, **size, reporter=reporter)),
        Step("lrpmax", (detector, *images, *ranked, "--k", str(shown), "--top", str(top), *sized), out / "lrpmax",
             lambda reporter: run_lrp_max(detector, images, out / "lrpmax", ranking, k=shown, top=top, **size,
                                          reporter=reporter)),
        Step("color", (detector, *images, *ranked, "--k", str(channels or "K"), *sized), out / "color",
             lambda reporter: run_color(detector, images, out / "color", ranking, k=channels, **size,
                                        reporter=reporter)),
        Step("heatmap", (detector, *map(str, drawn), "--method", "lrp", *sized), out / "heatmap",
             lambda reporter: heatmaps(detector, drawn, out / "heatmap", methods=("lrp",), **size,
                                       reporter=reporter)),
        Step("generator", (detector, generator, "--n", str(n), "--draws", str(draws), "--threshold",
                           str(whole.threshold)), out / "generator",
             lambda reporter: run_generator(detector, generator, out / "generator", n=n, draws=draws,
                                            threshold=whole.threshold, reporter=reporter)),
    ]  # fmt: skip
    # predict's results are in those of dropout, which a report shows
    runs = [step.out for step in made if step.command != "predict" and not whole.leaves_out(step.command)]
    words = (*map(str, runs), "--notes", str(out / "findings.md"), "--overwrite")
    page = out / "report.html"

    def report(reporter: Reporter) -> None:
        there = [run for run in runs if run.exists()]
        notes = (out / "findings.md").read_text(encoding="utf-8") if (out / "findings.md").exists() else ""
        write_report(there, page, notes=notes, overwrite=True, reporter=reporter)

    return [*made, Step("report", words, page, report)]


def _paper_k(detector: Path) -> int | None:
    return network_of(checkpoint.read_card(detector)).paper_k
