"""The whole study of a detector: every study after the other, a report of all, and findings in words."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tffjax import __version__
from tffjax.data import find_images, of_generator
from tffjax.data.preprocessing import Resize
from tffjax.errors import InputError
from tffjax.files import delete, write_text
from tffjax.nn import checkpoint
from tffjax.pipeline import directory
from tffjax.pipeline.output import check_output
from tffjax.pipeline.passes import LONG
from tffjax.pipeline.reporter import Lines, Reporter
from tffjax.report import read_sources
from tffjax.results.run_result import RunResult
from tffjax.studies.call import PathLike, paths_of
from tffjax.whole.findings import RULES, Finding, findings, markdown
from tffjax.whole.forecast import forecasts, total
from tffjax.whole.generator import generator_finding
from tffjax.whole.steps import QUESTIONS, Step, Whole, found_k, steps

RECORD = "study.json"


def run_whole(
    whole: Whole,
    out: Path,
    reporter: Reporter,
    chosen: Sequence[str] = tuple(QUESTIONS),
    more: Sequence[Step] = (),
) -> None:
    """Do the chosen steps that are not done yet; what they will take is told with that of `more`, which come later.

    Raises:
        InputError: as the steps; a step needs another one that is neither done nor chosen.
    """
    say_forecasts(whole, out, reporter, chosen, least=LONG, more=more)
    began = time.monotonic()
    todo = [command for command in QUESTIONS if command in chosen and not whole.leaves_out(command)]
    for number, command in enumerate(todo, start=1):
        step = next(step for step in steps(whole, out, found_k(out)) if step.command == command)
        _check_needs(command, whole, out)
        if command == "report" and all((out / name / directory.RECORD).is_file() for name in ("dropout", "color")):
            write_findings(whole, out)
        if step.done:
            reporter.say(f"step {number} of {len(todo)}: {command} is done already, in {step.out}")
            continue
        (out / "report.html").unlink(missing_ok=True)  # it is of other results
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        reporter.say(f"\nstep {number} of {len(todo)} ({minutes}:{seconds:02}): {QUESTIONS[command]}")
        reporter.say(step.line)
        try:
            step.run(reporter)
        except InputError as error:
            if command != "find-k" or isinstance(error.__context__, KeyboardInterrupt):
                raise
            raise InputError(f"find-k: {error}; say how many channels dropout is to switch off with --k") from None


def say_forecasts(
    whole: Whole,
    out: Path,
    reporter: Reporter,
    chosen: Sequence[str],
    least: int = 1,
    anew: bool = False,
    more: Sequence[Step] = (),
) -> None:
    """Tell what the chosen steps, and more, will take, see `forecasts`."""
    found = []
    for forecast in forecasts(whole, out, chosen, reporter, least, anew, more):
        reporter.say(str(forecast))
        found.append(forecast)
    if sum(forecast.passes is not None for forecast in found) > 1:
        reporter.say(total(found))


def _check_needs(command: str, whole: Whole, out: Path) -> None:
    """Raise an InputError if a step lacks the results of another one."""
    searched = [] if whole.k else ["find-k"]
    needs = {"find-k": ["rank"], "dropout": ["rank", *searched], "lrpmax": ["rank"], "color": ["rank"]}
    for needed in needs.get(command, []):
        if not directory.is_done(out / needed):
            raise InputError(f"{command} needs the results of {needed}; do not leave it out")
        if needed == "rank" and not (out / "rank" / "ranking_fake.csv").is_file():
            raise InputError(
                f"{command} needs a ranking of fake images, and rank kept none of them: the detector is sure of none "
                f"with --confidence {whole.confidence:g}; begin again with --confidence 0 --overwrite, which keeps all"
            )


def write_findings(whole: Whole, out: Path) -> tuple[Finding, ...]:
    """The findings of the finished runs, which also go to findings.md.

    Raises:
        InputError: a run is missing, unfinished or damaged.
    """
    switched, colored, *searched = read_sources(
        [out / name for name in ("dropout", "color", *([] if whole.k else ["find-k"]))]
    )
    k = whole.k or switched.arguments["ks"][0]
    found = findings(switched.table("draws"), colored.table("tests"), k, whole.seen)
    where = f"images of {whole.seen}" if whole.seen else "the images"
    if not searched:
        how = f"k = {k} was given."
    elif searched[0].results["k"]:
        how = (
            f"k = {k} is the smallest for which {searched[0].results['criterion']}. It was found on {where} "
            "that are scored here, so that the top channels do damage there follows from this choice; the questions "
            "are whether random ones do too, and whether it transfers."
        )
    else:
        how = f"No k that was tried does enough damage on {where}, so k = {k} is the paper's."
    if directory.is_done(out / "generator"):
        (generated,) = read_sources([out / "generator"])
        found = (*found, generator_finding(generated.table("masking").to_pylist(), generated.results))
    few = "Where there are few images of each kind, one found more or less moves an accuracy by some percentage points."
    about = f"{how} Channels were ranked on {where}. {few}"
    write_text(out / "findings.md", markdown(found, about))
    return found


def say_findings(found: Sequence[Finding], reporter: Reporter) -> None:
    """Tell the findings."""
    for number, finding in enumerate(found, start=1):
        reporter.say(f"\n{number}. {finding.question} {finding.verdict.capitalize()}.")
        for line in finding.text.splitlines():
            reporter.say(f"   {line}")
    reporter.say(f"\n{RULES}")


def begin(text: str, out: Path, overwrite: bool) -> None:
    """Make the folder of the study that `text` describes, or find that of the same one; `overwrite` empties it.

    Raises:
        InputError: `out` is not free, or holds another study.
    """
    check_free(text, out, overwrite)
    out.mkdir(parents=True, exist_ok=True)
    if overwrite:
        (out / RECORD).unlink(missing_ok=True)  # first: what is left of a half-emptied folder is not gone on with
    for old in out.iterdir() if overwrite else ():
        if old.name != directory.MARKER:
            delete(old)
    write_text(out / RECORD, text)
    (out / directory.MARKER).touch()  # last: until then --overwrite does not touch the folder


def check_free(text: str, out: Path, overwrite: bool) -> None:
    """Raise an InputError unless the study that `text` describes may be started, or gone on with, at `out`; nothing is
    changed."""
    path = out / RECORD
    if overwrite or not path.is_file():
        check_output(out, overwrite)
    elif path.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{out} holds another study, or that of another version of tffjax; choose another folder or start anew "
            "with --overwrite"
        )


def record_of(whole: Whole, **more: Any) -> str:
    """The study as text, by which it is known again: weights by their hash, paths as they were given; with `more`."""
    record = {"tffjax": __version__, "detector": checkpoint.read_card(whole.detector).weights_sha256}
    fields = {name: value for name, value in dataclasses.asdict(whole).items() if name != "detector"}
    return json.dumps(record | fields | more, indent=1, default=str) + "\n"


def examples(images: Sequence[Path], seen: str | None, count: int = 8, labels: str | None = None) -> tuple[Path, ...]:
    """Images whose decisions to draw: a real one, and the first fake of each generator, the seen one first.

    Raises:
        InputError: as `tffjax.data.find_images`.
    """
    files = find_images(images, labels)
    names = sorted({file.generator for file in files}, key=lambda name: (name != seen, name))
    of_label = {label: {name: [file.path for file in files if (file.label, file.generator) == (label, name)]
                        for name in names} for label in (0, 1)}  # fmt: skip
    real = [paths[0] for paths in of_label[0].values() if paths][:1]
    fakes = [paths[0] for paths in of_label[1].values() if paths]
    return tuple([*real, *fakes][:count]) or tuple(file.path for file in files[:count])


def study(
    model: PathLike,
    data: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    seen: str | None = None,
    resize: Resize | None = None,
    crop: int | None = None,
    labels: str | None = None,
    confidence: float = 0.9,
    k: int | None = None,
    max_k: int | None = None,
    generator: PathLike | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, RunResult]:
    """The whole study of a detector: predict, rank, find-k, dropout, lrpmax, color, heatmap, report and findings;
    with a generator, its channels, too.

    Every step is a run directory below `out`; called again, the study goes on where it was.

    Args:
        model: the folder of a checkpoint of a detector with one output.
        data: folders of labeled images, `<generator>/{0_real,1_fake}/...`.
        out: folder for the results, with report.html and findings.md.
        seen: the generator that the detector was trained on, if that is known: channels are ranked, and k is found, on
            its images, and the findings say whether that transfers to the others.
        resize, crop: of all images; None leaves them at their size, but for `rank`, which takes 224.
        labels: names of the folders of the labels, as of `tffjax.rank`.
        confidence: of `tffjax.rank`.
        k: how many channels dropout switches off; None is what find-k finds.
        max_k: the largest k that find-k tries; None is half of the channels.
        generator: the folder of a generator's checkpoint, whose channels are studied, too.
        only, skip: names of steps to do, and not to do.
        overwrite: start anew.
        reporter: where words go; None prints plain lines on standard error.

    Returns:
        The runs by the names of their steps.

    Raises:
        InputError: as the steps.
    """
    reporter = reporter or Lines()
    whole = whole_of(Path(model), paths_of(data), seen, (resize, crop), confidence, k, max_k, labels, generator)
    begin(record_of(whole), Path(out), overwrite)
    run_whole(whole, Path(out), reporter, chosen_steps(only, skip))
    folders = {name: Path(out) / name for name in QUESTIONS}
    return {name: RunResult(path) for name, path in folders.items() if (path / directory.RECORD).is_file()}


def whole_of(
    detector: Path,
    images: tuple[Path, ...],
    seen: str | None,
    size: tuple[Resize | None, int | None],
    confidence: float,
    k: int | None,
    max_k: int | None,
    labels: str | None = None,
    generator: PathLike | None = None,
) -> Whole:
    """The study of a user's own detector; see `study`.

    Raises:
        InputError: as `tffjax.load` and `tffjax.data.find_images`; there are no images of the seen generator.
    """
    ranked_on = images
    if seen is not None:
        ranked_on = tuple(data for path in images if (data := of_generator(path, seen, labels)))
        if not ranked_on:
            raise InputError(f"there is no folder {seen} in {', '.join(map(str, images))}; --seen names a generator")
    return Whole(detector, images, ranked_on, seen, size, labels, confidence=confidence, k=k, max_k=max_k,
                 heatmaps=examples(images, seen, labels=labels),
                 generator=Path(generator) if generator else None)  # fmt: skip


def chosen_steps(only: Sequence[str], skip: Sequence[str]) -> tuple[str, ...]:
    """Names of steps in their order.

    Raises:
        InputError: there is no such step.
    """
    if unknown := [name for name in (*only, *skip) if name not in QUESTIONS]:
        raise InputError(f"there is no step {unknown[0]}; the steps are {', '.join(QUESTIONS)}")
    return tuple(name for name in QUESTIONS if (not only or name in only) and name not in skip)
