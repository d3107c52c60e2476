"""What the whole study of a detector consists of: its steps, each a command."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.nn import checkpoint, network_of
from tffjax.pipeline import directory
from tffjax.pipeline.reporter import Reporter
from tffjax.pipeline.request import Reading
from tffjax.pipeline.study import Study
from tffjax.report.write import write_report
from tffjax.studies import STUDIES
from tffjax.studies.call import call, options_of, study_class
from tffjax.studies.heatmaps.run import heatmaps

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
        labels: names of the folders of the labels, as of `tffjax.rank`.
        own_size: rank leaves the images at their size, too.
        confidence, bootstrap: of `rank`.
        k: how many channels dropout switches off; None is what find-k finds.
        ks: all the numbers of channels that it switches off, k among them; None are multiples of k.
        max_k: the largest k that find-k tries; None is half of the channels.
        random: draws of random channels.
        shown: channels and images of each generator that LRP-max shows.
        color_channels: how many channels the color study tests; None is the paper's number, or the k that was found.
        heatmaps: images whose decision is drawn.
        generator: a generator's checkpoint, whose channels are studied; None leaves that step out.
        generated: how many images it makes, and how many times random channels of it are drawn.
        threshold: of the probability from which on they are found.
        published: name of a detector of the paper whose numbers stand beside; None is what the card says.
    """

    detector: Path
    images: tuple[Path, ...]
    ranked_on: tuple[Path, ...]
    seen: str | None = None
    size: tuple[Resize | None, int | None] = (None, None)
    labels: str | None = None
    own_size: bool = False
    confidence: float = 0.9
    bootstrap: int = 200
    k: int | None = None
    ks: tuple[int, ...] | None = None
    max_k: int | None = None
    random: int = 5
    shown: tuple[int, int] = (12, 8)
    color_channels: int | None = None
    heatmaps: tuple[Path, ...] = ()
    generator: Path | None = None
    generated: tuple[int, int] = (500, 20)
    threshold: float = 0.5
    published: str | None = None

    def leaves_out(self, command: str) -> bool:
        """Whether a step has nothing to do."""
        return (command == "find-k" and self.k is not None) or (command == "generator" and self.generator is None)


FLAGS = {
    "dropout": {"ks": "k", "draws": "random"},
    "find-k": {"draws": "random"},
    "heatmap": {"methods": "method"},
}
"""Options of commands whose name on the command line is another one."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        command: its name.
        detector: a checkpoint; None for the report, which reads runs.
        data: what it reads.
        options: by their names in Python, in the order in which they are typed; None is the default.
        out: where its results go.
    """

    command: str
    detector: Path | None
    data: tuple[Path, ...]
    options: dict[str, Any]
    out: Path

    @property
    def done(self) -> bool:
        """Whether the results are there."""
        return self.out.exists() if self.command == "report" else directory.is_done(self.out)

    @property
    def line(self) -> str:
        """What to type."""
        words = [str(path) for path in (self.detector, *self.data) if path is not None]
        for name, value in self.options.items():
            words += _words(FLAGS.get(self.command, {}).get(name, name).replace("_", "-"), value)
        return "$ " + shlex.join(["tffjax", self.command, *words, "--out", str(self.out)])

    @property
    def reading(self) -> Reading:
        """How a study reads images."""
        return Reading(**{name: self.options.get(name) for name in ("resize", "crop", "labels")})

    def study(self, **changes: Any) -> Study:
        """The study, for the commands that are one; with some options changed.

        Raises:
            InputError: as `tffjax.load`.
        """
        study = study_class(self.command)
        return study(checkpoint.load(self.detector), **options_of(study, self.options | changes))

    def run(self, reporter: Reporter) -> None:
        """Do it.

        Raises:
            InputError: as the command.
        """
        if self.command in STUDIES:
            call(self.study(), self.detector, self.data, self.out, self.reading, False, None, reporter)
        elif self.command == "heatmap":
            heatmaps(self.detector, self.data, self.out, **self.options, reporter=reporter)
        else:
            notes, there = self.options["notes"], [run for run in self.data if run.exists()]
            text = notes.read_text(encoding="utf-8") if notes.exists() else ""
            write_report(there, self.out, notes=text, overwrite=True, reporter=reporter)


def _words(flag: str, value: Any) -> list[str]:
    """An option as it is typed."""
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{flag}"]
    between = "x" if flag == "resize" else ","
    return [f"--{flag}", between.join(map(str, value)) if isinstance(value, list | tuple) else str(value)]


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
    resize, crop = whole.size
    size = {"resize": resize, "crop": crop, "labels": whole.labels}
    rank_size = {"own_size": True} if whole.own_size else {"resize": resize or 224, "crop": crop or 224}
    rank_size["labels"] = whole.labels
    ranked = {"ranking": out / "rank" / "ranking_fake.csv"}
    ks = list(whole.ks or [n * k for n in MULTIPLES]) if k else "K"
    channels, top = whole.shown
    options = {
        "predict": size,
        "rank": {**rank_size, "confidence": whole.confidence, "bootstrap": whole.bootstrap},
        "find-k": {**ranked, "metric": "fake", "draws": 1, "max_k": whole.max_k, **size},
        "dropout": {
            **ranked,
            "ks": ks,
            "draws": whole.random,
            "low": True,
            "published": whole.published,
            **size,
        },
        "lrpmax": {**ranked, "k": channels, "top": top, **size},
        "color": {
            **ranked,
            "k": whole.color_channels or _paper_k(whole.detector) or k or "K",
            "published": whole.published,
            **size,
        },
        "heatmap": {"methods": ["lrp"], "resize": resize, "crop": crop},
        "generator": {"n": whole.generated[0], "draws": whole.generated[1], "threshold": whole.threshold},
    }
    data = {"rank": whole.ranked_on, "find-k": whole.ranked_on, "heatmap": whole.heatmaps or whole.images}
    data["generator"] = (whole.generator,) if whole.generator else ()
    made = [
        Step(command, whole.detector, data.get(command, whole.images), options[command], out / command)
        for command in options
    ]
    # predict's results are in those of dropout, which a report shows
    runs = tuple(step.out for step in made if step.command != "predict" and not whole.leaves_out(step.command))
    notes = {"notes": out / "findings.md", "overwrite": True}
    return [*made, Step("report", None, runs, notes, out / "report.html")]


def _paper_k(detector: Path) -> int | None:
    return network_of(checkpoint.read_card(detector)).paper_k
